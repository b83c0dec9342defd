"""What to do about a recording that was restored under another request."""

from __future__ import annotations

import logging
from typing import Literal

from airflow_provider_diffio.ledger.errors import DiffioLedgerChangedError
from airflow_provider_diffio.ledger.names import LedgerRequest
from airflow_provider_diffio.ledger.record import DONE, Record

log = logging.getLogger(__name__)

#: Fail before anything is sent; let the old restoration count; or start another generation, with a WARNING.
ChangedRequest = Literal["fail", "keep", "start"]


def changed_request(
    record: Record, request: LedgerRequest, on_changed_request: ChangedRequest
) -> Record | None:
    """
    Return the restoration that counts; None for another one.

    :param record: what is recorded under another request.
    :param request: the request now.
    :param on_changed_request: what the task was told.
    :raises DiffioLedgerChangedError: for ``fail``.
    """
    changes = ", ".join(record.request.changes(request)) or "the request"
    place = record.sources[-1].uri if record.sources else "This recording"
    what = f"{place} was restored before, as generation {record.generation_id}, with another request:"
    if on_changed_request == "keep":
        log.info("%s %s. That restoration is kept.", what, changes)
        return record
    if on_changed_request == "fail":
        raise DiffioLedgerChangedError(
            f"{what} {changes} changed.",
            generation_id=record.generation_id,
            advice="Restore the old arguments, or set on_changed_request to 'keep' (that restoration"
            " counts) or 'start' (another generation is started).",
            may_be_billed=True,
            money="The generation that was started is billed once; this try started none.",
        )
    log.warning("%s %s changed. Another generation is started, and billed too.", what, changes)
    return None


def most_useful(records: list[Record]) -> Record:
    """Return a finished record, if there is one, and of several the newest."""
    return max(records, key=lambda record: (record.state == DONE, record.written_at))
