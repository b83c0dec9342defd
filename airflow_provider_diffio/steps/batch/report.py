"""What a batch came to: its value, its manifest, and whether the task fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.clean_text import clean_text
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.money import mark_billed
from airflow_provider_diffio.manifest import STATUSES
from airflow_provider_diffio.steps.batch.rows import PENDING, Row

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.batch.budget import Budget
    from airflow_provider_diffio.steps.batch.options import BatchOptions
    from airflow_provider_diffio.steps.batch.phase import Phase

#: How many recordings the log and the error name; the manifest has all.
_NAMED = 10
_LONGEST_ERROR = 1_000


class DiffioBatchFailedError(DiffioError):
    """
    More recordings of a batch failed than ``max_failures`` allows; everything else is done.

    :ivar final: whether another try would end the same way for each of them.
    """

    def __init__(self, message: str, *, final: bool = False, **details: Any) -> None:
        super().__init__(message, **details)
        self.final = final  # type: ignore[misc]  # of one error, where others' classes have it


def leave_the_rest(
    rows: Iterable[Row], phase: Phase, budget: Budget, options: BatchOptions, log: Any
) -> None:
    """
    Give every recording that was not begun its status.

    :param rows: the recordings.
    :param phase: the last phase.
    :param budget: what was started.
    :param options: what the task was told.
    :param log: the task's.
    """
    rest = [row for row in rows if row.status == PENDING]
    if not rest:
        return
    error = phase.blocked or phase.outage
    if error is not None:
        reason = f"Nothing was started for it: {clean_text(error.message, 300)}"
    elif budget.is_spent:
        most = options.arguments["max_generations"]
        reason = f"max_generations is {most}: this task has started as many."
        log.warning(
            "max_generations is %s, so %s recordings are left. The next run goes on with them.",
            f"{most:,}",
            f"{len(rest):,}",
        )
    else:
        reason = "The task was stopped before it began with it."
    for row in rest:
        row.end("left", reason)


def value_of(rows: Sequence[Row], ignored: int, started: int, manifest: str) -> dict[str, Any]:
    """
    Return what the task returns.

    :param rows: the recordings.
    :param ignored: files of the directory that are no recordings.
    :param started: generations that this task instance started.
    :param manifest: where the manifest is.
    """
    counts = Counter(row.status for row in rows)
    written = (file for row in rows if row.status == "restored" for file in row.files)
    return {
        **{status: counts[status] for status in STATUSES},
        "ignored": ignored,
        "started": started,
        "bytes": sum(int(file.get("size_bytes") or 0) for file in written),
        "manifest": manifest,
    }


def clean_errors(rows: Iterable[Row]) -> None:
    """Make what others said safe to store, and bound its length."""
    for row in rows:
        if row.error is not None:
            row.error = clean_text(row.error, _LONGEST_ERROR)


def tell_failures(rows: Iterable[Row], log: Any) -> None:
    """Log which recordings failed, or are not tried again: some by name."""
    for status, words, many in (
        ("failed", "failed", "failed"),
        ("given_up", "is not tried again", "are not tried again"),
    ):
        some = [row for row in rows if row.status == status]
        for row in some[:_NAMED]:
            log.warning("%s %s: %s", row.source.uri, words, row.error)
        if len(some) > _NAMED:
            log.warning("%s more %s: see the manifest.", f"{len(some) - _NAMED:,}", many)


def failure_of(
    rows: Sequence[Row], value: dict[str, Any], phase: Phase, options: BatchOptions
) -> DiffioError | None:
    """
    Return why the task fails; None when it does not.

    :param rows: the recordings.
    :param value: what it would return.
    :param phase: the last phase.
    :param options: what the task was told.
    """
    money = (
        f"This task has started {value['started']:,} generations, each of which is billed once; a retry"
        " starts none of them again."
    )
    for error in (phase.blocked, phase.outage):
        if error is not None and (error is phase.blocked or value["left"]):
            error.money = money
            if value["started"]:
                mark_billed(error)
            return error
    failed = [row for row in rows if row.status == "failed"]
    allowed = options.arguments["max_failures"]
    if isinstance(allowed, float):
        allowed = allowed * len(rows)
    if len(failed) <= allowed:
        return None
    reasons = Counter((row.error or "").split(". ")[0].rstrip(".") for row in failed)
    shown = "; ".join(f"{count:,} × {reason[:200]}" for reason, count in reasons.most_common(3))
    return DiffioBatchFailedError(
        f"{len(failed):,} of {len(rows):,} recordings failed, and max_failures is"
        f" {options.arguments['max_failures']}: {shown}.",
        final=all(row.hopeless for row in failed),
        advice=f"{value['manifest']} says of each what became of it. All others are done.",
        may_be_billed=value["started"] > 0,
        money=money,
    )
