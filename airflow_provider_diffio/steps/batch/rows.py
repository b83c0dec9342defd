"""One recording of a batch, and what became of it, as it is stored while the task waits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.steps.batch.sources import Source

#: The form of what is stored while the task waits. Higher ones are refused.
VERSION = 1
#: Where a recording may stand before it has its final status: not begun, or its generation is at Diffio.
PENDING, OPEN = "pending", "open"


@dataclass(slots=True, kw_only=True)
class Row:
    """
    What is known of one recording.

    :ivar source: the recording.
    :ivar status: ``pending``, ``open``, or one of the manifest's.
    :ivar content: the content's digest at its API, where it is known without reading it.
    :ivar compare: whether the recording has to be read, to compare it with what was restored before.
    :ivar adopt: whether its files are there without a record, and are to be adopted.
    :ivar may_replace: whether what is at the destination was made of a recording that was there before.
    :ivar chain: the parts of the name of its record, once it has one.
    :ivar generation_id: its generation.
    :ivar project_id: its project.
    :ivar model: the model of the generation.
    :ivar started_at: when it was started or found, in seconds since the epoch.
    :ivar mine: whether this try has started the generation.
    :ivar troubles: how often something passing went wrong since it last went well.
    :ivar files: the *file* values of what was written.
    :ivar error: why it is not restored.
    :ivar hopeless: whether another try would end the same way.
    """

    source: Source
    status: str = PENDING
    content: str | None = None
    compare: bool = False
    adopt: bool = False
    may_replace: bool = False
    chain: tuple[str, ...] = ()
    generation_id: str | None = None
    project_id: str | None = None
    model: str | None = None
    started_at: float = 0.0
    mine: bool = False
    troubles: int = 0
    files: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    hopeless: bool = False
    #: Whether a dry run would have started it.
    would_start: bool = False
    #: An upload that was made in this process, and whose generation another one is about to start.
    upload: Any = field(default=None, repr=False)

    def end(self, status: str, error: str | None = None, *, hopeless: bool = False) -> None:
        """Give it its final status."""
        self.status, self.error, self.hopeless, self.upload = status, error, hopeless, None

    def in_manifest(self) -> dict[str, Any]:
        """Return its row of the manifest."""
        row = {
            "source": self.source.uri,
            "status": self.status,
            "files": [dict(file) for file in self.files],
            "generation_id": self.generation_id,
            "api_project_id": self.project_id,
            "model": self.model,
            "error": self.error,
        }
        return {**row, "size_bytes": self.source.size_bytes} if self.would_start else row

    def to_record(self) -> dict[str, Any]:
        """Return what is stored of it while the task waits: only what is set."""
        record = {name: getattr(self, name) for name in _ROW if getattr(self, name) not in _UNSET}
        record["source"] = {
            name: getattr(self.source, name) for name in _SOURCE if getattr(self.source, name) not in _UNSET
        }
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Row:
        """Read what this or an older version stored; fields that are not known here are passed over."""
        source = record["source"]
        row = cls(source=Source(**{name: _plain(source[name]) for name in _SOURCE if name in source}))
        for name in _ROW:
            if name in record:
                setattr(row, name, _plain(record[name]))
        return row


_SOURCE = tuple(each.name for each in fields(Source))
_ROW = tuple(each.name for each in fields(Row) if each.name not in ("source", "upload", "would_start"))
#: What became of the money, where a phase cannot go on.
BILLED_ONCE = "Each generation that was started is billed once; this phase started none."
_UNSET: tuple[Any, ...] = (None, (), False, "", 0)


def to_checkpoint(header: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[bytes]:
    """
    Return the lines that are stored while the task waits.

    :param header: what concerns all rows.
    :param rows: the rows.
    """
    yield _line({"version": VERSION, **header})
    for row in rows:
        yield _line(row.to_record())


def from_checkpoint(lines: Iterable[bytes]) -> tuple[dict[str, Any], list[Row]]:
    """
    Read what :func:`to_checkpoint` made.

    :raises DiffioError: when it is damaged, or a newer version's.
    """
    iterator = iter(lines)
    try:
        header = json.loads(next(iterator))
        if header["version"] > VERSION:
            raise DiffioError(
                f"A newer version of the provider has stored this batch (form {header['version']}).",
                advice="Install that version on this worker. A retry finds all generations in the ledger.",
                may_be_billed=True,
                money=BILLED_ONCE,
            )
        rows = [Row.from_record(json.loads(line)) for line in iterator if line.strip()]
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise DiffioError(
            f"What this task stored before it waited is damaged ({type(error).__name__}).",
            advice="A retry of the task finds all generations in the ledger, and starts none of them again.",
            may_be_billed=True,
            money=BILLED_ONCE,
        ) from None
    if len(rows) != header["rows"]:
        raise DiffioError(
            f"What this task stored before it waited has {len(rows)} of {header['rows']} rows.",
            advice="A retry of the task finds all generations in the ledger, and starts none of them again.",
            may_be_billed=True,
            money=BILLED_ONCE,
        )
    return header, rows


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
