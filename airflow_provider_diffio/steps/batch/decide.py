"""What is to be done about each recording, as the ledger's listing says, before anything is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_diffio.steps.batch.rows import PENDING, Row
from airflow_provider_diffio.steps.batch.sources import too_young
from airflow_provider_diffio.steps.ledger import DiffioLedgerChangedError, Known, Place

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.batch.destinations import Destinations
    from airflow_provider_diffio.steps.batch.options import BatchOptions
    from airflow_provider_diffio.steps.ledger import Hint, Ledger, LedgerIndex

log = logging.getLogger(__name__)


def decide(
    rows: Sequence[Row],
    options: BatchOptions,
    index: LedgerIndex,
    ledger: Ledger,
    destinations: Destinations,
    min_age: float,
) -> None:
    """
    Give each row its status, or what is known of its content. Nothing is read but listings.

    :param rows: the recordings.
    :param options: how they are to be restored.
    :param index: what the ledger's listing tells.
    :param ledger: the ledger.
    :param destinations: where their files go.
    :param min_age: seconds; recordings that are younger are left.
    :raises DiffioLedgerChangedError: when recordings were restored under another request, and
        ``on_changed_request`` is ``fail``.
    """
    changed: list[tuple[Row, Hint]] = []
    for row in rows:
        known = _find(row, options, index)
        if known is None:
            continue
        if known.status == "kept" and _counts(row, known, options, destinations):
            row.files = tuple(_file(uri, kind) for uri, kind in options.target_of(row.source).files)
            row.end("kept")
            continue
        if known.status == "changed" and known.hint is not None:
            changed.append((row, known.hint))
        row.content = known.content
        row.compare = known.status == "touched"
        row.may_replace = known.status in ("touched", "replaced")
        if known.status == "replaced":
            log.warning("%s is not the recording that was restored from there before.", row.source.uri)
        if known.content is None and not row.compare:
            _decide_new(row, known, options, destinations)
        if row.status == PENDING and not row.adopt and too_young(row.source, min_age) and not known.content:
            row.end("left", f"It is younger than min_age, which is {min_age:g} s: it may still be written.")
    if changed and options.arguments["on_changed_request"] == "fail":
        raise _refusal(changed, len(rows), options, ledger)


def rows_of_earlier_tries(
    rows: Iterable[Row], options: BatchOptions, index: LedgerIndex, ledger: Ledger
) -> list[Row]:
    """
    Return rows for what an earlier try of this task instance has started and which is listed no more.

    It is paid for, so it is collected; a recording that was moved away since is not needed for that.

    :param rows: the recordings that are listed.
    :param options: how they are restored.
    :param index: what the ledger's listing tells.
    :param ledger: the ledger.
    """
    from airflow_provider_diffio.ledger.names import place_key
    from airflow_provider_diffio.steps.batch.sources import Source

    listed = {place_key(row.source.uri, options.request_of(row.source)) for row in rows}
    found = []
    for hint in index.open:
        if hint.place in listed:
            continue
        record = ledger.record_of(hint)
        if record is None or not record.started_for(ledger.writer.position):
            continue
        places = [each for each in record.sources if place_key(each.uri, record.request) == hint.place]
        for place in places[:1]:
            source = Source(uri=place.uri, where=place.uri, relative="", size_bytes=place.size_bytes)
            source.version, source.gone, source.refusal = place.version, True, "It is listed no more."
            found.append(Row(source=source, content=hint.content))
    return found


def _find(row: Row, options: BatchOptions, index: LedgerIndex) -> Known | None:
    """Return what the listing tells of a row; None when it has its status."""
    source = row.source
    request = options.request_of(source)
    if source.gone and source.targets:
        known = index.find_gone(source.uri, request, options.target_of(source))
        if known.status != "new":
            return known
    if source.refusal is not None:
        row.end("failed", source.refusal, hopeless=True)
        return None
    place = Place(source.uri, source.size_bytes or 0, source.version)
    return index.find(place, request, options.target_of(source))


def _counts(row: Row, known: Known, options: BatchOptions, destinations: Destinations) -> bool:
    """Tell whether what is recorded as done is done."""
    if options.arguments["missing_output"] == "keep" or destinations.are_there(row.source):
        return True
    if known.is_adopted:
        log.warning(
            "%s was adopted and is not there. No generation of it is known: one is started, and billed.",
            row.source.targets[0],
        )
    return False


def _decide_new(row: Row, known: Known, options: BatchOptions, destinations: Destinations) -> None:
    """Follow ``overwrite`` where a file is there of which nothing is recorded."""
    overwrite = options.arguments["overwrite"]
    if known.status != "new" or overwrite == "replace" or not destinations.are_there(row.source):
        return
    if overwrite == "skip":
        row.adopt = True
    else:
        row.end("failed", f"{row.source.targets[0]} exists already, and overwrite is 'error'.", hopeless=True)


def _file(uri: str, download_type: str) -> dict[str, str]:
    return {"path": uri, "file_name": uri.rpartition("/")[2], "download_type": download_type}


def _refusal(
    changed: Sequence[tuple[Row, Hint]], total: int, options: BatchOptions, ledger: Ledger
) -> DiffioLedgerChangedError:
    row, hint = changed[0]
    record = ledger.record_of(hint)
    names = record.request.changes(options.request_of(row.source)) if record else []
    return DiffioLedgerChangedError(
        f"{len(changed):,} of {total:,} recordings were restored before with another request"
        f" ({', '.join(names) or 'the request'} changed), {row.source.uri} among them.",
        advice="Restore the old arguments, or set on_changed_request to 'keep' (those restorations count) or"
        " 'start' (each is restored again).",
        money="Nothing was started.",
    )
