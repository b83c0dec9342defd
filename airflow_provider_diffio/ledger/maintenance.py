"""What people do with a ledger: show it, check it against the files, forget, prune, and export."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.ledger.chain import ledger_failures
from airflow_provider_diffio.ledger.names import DONE, NOT_READ, OPEN, OWNERS, RECORDS, Hint, read_entries
from airflow_provider_diffio.ledger.record import CLAIMED
from airflow_provider_diffio.ledger.record import DONE as FINISHED

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import DownloadedFile
    from airflow_provider_diffio.ledger.ledger import Ledger
    from airflow_provider_diffio.ledger.names import Chain
    from airflow_provider_diffio.ledger.record import Record
    from airflow_provider_diffio.storage import Location

FileStatus = Literal["ok", "missing", "changed", "unreadable"]

#: The columns of :func:`export_csv`.
COLUMNS = (
    "state",
    "source",
    "content_sha256",
    "size_bytes",
    "base_url",
    "model",
    "revision",
    "generation_id",
    "api_project_id",
    "generations_started",
    "file",
    "file_size_bytes",
    "file_sha256",
    "error",
    "written_at",
    "dag_id",
    "task_id",
    "run_id",
)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """
    What has become of a file that a record tells of.

    :ivar record: the record.
    :ivar file: the file, as it was written.
    :ivar status: ``ok``; ``missing``; ``changed``: of another length or digest; ``unreadable``: its store did
        not tell.
    :ivar reason: why, where it is unreadable.
    """

    record: Record
    file: DownloadedFile
    status: FileStatus
    reason: str = ""


def list_records(ledger: Ledger, *, state: str | None = None) -> Iterator[Record]:
    """
    Read every record as it stands: one request for each, and one for each 1,000 names.

    :param ledger: the ledger.
    :param state: only those in this state: ``claimed``, ``released``, ``started``, ``failed`` or ``done``.
    :raises DiffioLedgerError: when one could not be read.
    """
    for chain in _chains(ledger):
        record = ledger.record(chain)
        if record is not None and state in (None, record.state):
            yield record


def find_records(ledger: Ledger, text: str) -> list[Record]:
    """
    Find records by what people know of them.

    :param ledger: the ledger.
    :param text: the path or URL of a recording or of a restored file, an id of a generation or project, or
        the digest of a content.
    :raises DiffioLedgerError: when one could not be read.
    """
    return [record for record in list_records(ledger) if text in _names(record)]


def verify(ledger: Ledger, locate: Callable[[str], Location], *, digests: bool = False) -> Iterator[Verified]:
    """
    Check every file that is recorded: whether it is there, and as long as it was.

    :param ledger: the ledger.
    :param locate: returns where a path leads (``DiffioHook.locate``). Recorded URLs name no connection.
    :param digests: read each file, too, and compare its digest. False by default.
    :raises DiffioLedgerError: when a record could not be read.
    """
    for record in list_records(ledger):
        for written in record.files:
            status, reason = _status(written.file, locate, digests=digests)
            yield Verified(record=record, file=written.file, status=status, reason=reason)


def forget(ledger: Ledger, record: Record) -> int:
    """
    Remove a record, and the names that tell of it. The next restoration starts another generation.

    :param ledger: the ledger.
    :param record: the record.
    :return: the number of objects that were removed.
    :raises DiffioLedgerError: when that did not work.
    """
    return _remove(ledger, {record.chain})


def list_adopted(ledger: Ledger) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Read what is recorded of files that were there before the ledger: one request for each.

    :param ledger: the ledger.
    :return: the name of each object, and its content: ``source``, ``request``, ``files``, ``written_by``.
    :raises DiffioLedgerError: when one could not be read.
    """
    with ledger_failures():
        for name in ledger.objects.names(DONE):
            hint = Hint.read(name)
            if hint and hint.content == NOT_READ:
                yield f"{DONE}/{name}", json.loads(ledger.objects.read(f"{DONE}/{name}") or b"{}")


def forget_adopted(ledger: Ledger, source: str) -> int:
    """
    Forget that the restored file of a recording was there before the ledger.

    :param ledger: the ledger.
    :param source: the path or URL of the recording, as it is recorded.
    :return: the number of objects that were removed.
    :raises DiffioLedgerError: when that did not work.
    """
    found = [name for name, body in list_adopted(ledger) if body.get("source", {}).get("uri") == source]
    with ledger_failures():
        for name in found:
            ledger.objects.delete(name)
    return len(found)


def prune(
    ledger: Ledger, *, older_than: dt.timedelta, now: dt.datetime | None = None, dry_run: bool = False
) -> int:
    """
    Forget finished recordings that nobody has written to for so long, by their writers' clocks.

    What is forgotten is restored, and billed, again when it turns up again. Heartbeats that dead processes
    left are removed, too. Records that are not finished stay.

    :param ledger: the ledger.
    :param older_than: for how long.
    :param now: the time to count from; the current one by default.
    :param dry_run: only count. False by default.
    :return: the number of records.
    :raises DiffioLedgerError: when that did not work.
    """
    before = (now or dt.datetime.now(dt.UTC)) - older_than
    old, owners = set(), set()
    for record in list_records(ledger):
        if record.state == FINISHED and _written_at(record) < before:
            old.add(record.chain)
        elif record.state == CLAIMED:
            owners.add(record.owner)
    if not dry_run:
        _remove(ledger, old)
        _remove_heartbeats(ledger, keep=owners)
    return len(old)


def export_csv(ledger: Ledger, stream: IO[str]) -> int:
    """
    Write every record as CSV with a header: a row for each file, or one for a record without a file.

    :param ledger: the ledger.
    :param stream: opened for text, with ``newline=""``.
    :return: the number of rows.
    :raises DiffioLedgerError: when a record could not be read.
    """
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    count = 0
    for record in list_records(ledger):
        files: list[DownloadedFile | None] = [written.file for written in record.files]
        for file in files or [None]:
            writer.writerow({name: _safe(value) for name, value in _row(record, file).items()})
            count += 1
    return count


def _chains(ledger: Ledger) -> Iterator[Chain]:
    with ledger_failures():
        names = ledger.objects.names(RECORDS)
    by_content: dict[str, list[str]] = {}
    for name in sorted(names):
        content, _, entry = name.partition("/")
        by_content.setdefault(content, []).append(entry)
    for content, entries in by_content.items():
        heads, _ = read_entries(content, entries)
        yield from heads


def _remove(ledger: Ledger, chains: set[Chain]) -> int:
    """Remove the names first, and the last entry of a record last: until then it says what it said."""
    if not chains:
        return 0
    with ledger_failures():
        gone = 0
        for directory in (DONE, OPEN):
            for name in ledger.objects.names(directory):
                hint = Hint.read(name)
                if hint and (hint.content, hint.request, hint.revision) in chains:
                    ledger.objects.delete(f"{directory}/{name}")
                    gone += 1
        for chain in chains:
            heads, _ = read_entries(chain.content, ledger.objects.names(chain.directory))
            for number in range(1, heads.get(chain, 0) + 1):
                ledger.objects.delete(chain.entry(number))
                gone += 1
    return gone


def _remove_heartbeats(ledger: Ledger, keep: set[str]) -> None:
    """Remove what killed processes left. A living one writes its own again when it next needs it."""
    with ledger_failures():
        for owner in ledger.objects.names(OWNERS):
            if owner not in keep:
                ledger.objects.delete(f"{OWNERS}/{owner}")


def _status(
    file: DownloadedFile, locate: Callable[[str], Location], *, digests: bool
) -> tuple[FileStatus, str]:
    try:
        location = locate(file.path)
        if not location.exists():
            return "missing", ""
        if location.size() != file.size_bytes or (digests and location.sha256() != file.sha256):
            return "changed", ""
    except DiffioError as error:
        return "unreadable", error.message
    return "ok", ""


def _names(record: Record) -> set[str | None]:
    project = record.project
    generations = {start.generation.generation_id for start in record.restoration.starts if start.generation}
    return {
        record.content,
        project.api_project_id if project else None,
        *generations,
        *(place.uri for place in record.sources),
        *(written.file.path for written in record.files),
    }


def _written_at(record: Record) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(record.written_at)
    except ValueError:
        return dt.datetime.max.replace(tzinfo=dt.UTC)  # it is not known to be old


def _row(record: Record, file: DownloadedFile | None) -> dict[str, object]:
    project = record.project
    return {
        "state": record.state,
        "source": " ".join(place.uri for place in record.sources),
        "content_sha256": record.content,
        "size_bytes": record.size_bytes,
        "base_url": record.request.base_url,
        "model": record.request.model,
        "revision": record.request.revision,
        "generation_id": record.generation_id,
        "api_project_id": project.api_project_id if project else None,
        "generations_started": record.started,
        "file": file.path if file else None,
        "file_size_bytes": file.size_bytes if file else None,
        "file_sha256": file.sha256 if file else None,
        "error": record.error,
        "written_at": record.written_at,
        **{name: record.written_by.get(name) for name in ("dag_id", "task_id", "run_id")},
    }


def _safe(value: object) -> object:
    """Keep a spreadsheet from taking a file's name for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
