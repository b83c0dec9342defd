"""
The manifest of a batch: what became of each of its recordings, as JSON Lines.

One row, which is a JSON object on a line of its own, for each recording:

* ``source``: where it is, without credentials.
* ``status``: ``restored``, ``kept``, ``adopted``, ``failed``, ``given_up`` or ``left``.
* ``files``: the *file* values of its restored files; empty where there is none.
* ``generation_id``, ``api_project_id``, ``model``: what Diffio made of it; null where nothing was started.
* ``error``: why it was not restored, or not now; null otherwise.

Later versions may add fields, and remove or rename none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError

if TYPE_CHECKING:
    import os

    from airflow_provider_diffio.storage import Location

#: What may become of a recording.
STATUSES = ("restored", "kept", "adopted", "failed", "given_up", "left")


def read_manifest(
    uri: str | os.PathLike[str] | Mapping[str, Any] | Location, *, conn_id: str | None = None
) -> Iterator[dict[str, Any]]:
    """
    Read a manifest row by row, so that its length costs no memory.

    :param uri: where it is: the ``manifest`` of what ``DiffioRestoreBatchOperator`` returns, or all of that.
    :param conn_id: the Airflow connection for its store, where the URI names none; None by default.
    :return: its rows: ``source``, ``status``, ``files``, ``generation_id``, ``api_project_id``, ``model`` and
        ``error``.
    :raises DiffioInputError: when there is no such file.
    :raises DiffioError: when it is no manifest.
    """
    from airflow_provider_diffio.storage import Location, resolve

    place: Any = uri.get("manifest") if isinstance(uri, Mapping) else uri
    if place in (None, ""):
        raise DiffioInputError(
            "There is no manifest to read.", advice="See whether the task that it comes from has run."
        )
    location = place if isinstance(place, Location) else resolve(place, conn_id=conn_id)
    with location.open_read() as stream:
        text = io.TextIOWrapper(cast("Any", stream), encoding="utf-8", newline="\n")
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield _row(line, location.uri, number)


def write_manifest(location: Location, rows: Iterator[Mapping[str, Any]]) -> int:
    """
    Write a manifest, whole or not at all.

    :param location: the file.
    :param rows: its rows.
    :return: how many they were.
    :raises DiffioError: when it could not be written.
    """
    count = 0
    with location.writer() as writer:
        block: list[str] = []
        for row in rows:
            block.append(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            if len(block) == _ROWS_AT_A_TIME:
                writer.write("".join(block).encode("utf-8", "replace"))
                block.clear()
        writer.write("".join(block).encode("utf-8", "replace"))
    return count


_ROWS_AT_A_TIME = 500


def _row(line: str, uri: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "status" not in row:
        raise DiffioError(f"Line {number} of {uri} is no row of a manifest.")
    return row
