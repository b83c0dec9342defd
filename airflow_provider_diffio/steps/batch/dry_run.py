"""What a batch would do: nothing is sent to Diffio."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.steps.batch.rows import PENDING, Row
from airflow_provider_diffio.steps.ledger import has_generation

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.batch.budget import Budget
    from airflow_provider_diffio.steps.batch.options import BatchOptions
    from airflow_provider_diffio.steps.ledger import Ledger


def foresee(rows: Iterable[Row], options: BatchOptions, ledger: Ledger, budget: Budget) -> None:
    """
    Say of every recording that is not done what would be done about it.

    :param rows: the recordings; they are ``left`` afterwards.
    :param options: how they would be restored.
    :param ledger: knows what was started before.
    :param budget: how many could be started.
    """
    left = budget.left
    for row in rows:
        if row.status != PENDING:
            continue
        if row.adopt:
            row.end("left", "Its file is there, and would be adopted.")
        elif _would_collect(row, options, ledger):
            row.end("left", "Its generation was started before; its files would be fetched.")
        elif left == 0:
            row.end("left", f"max_generations is {options.arguments['max_generations']}.")
        else:
            left = None if left is None else left - 1
            row.would_start = True
            row.end("left", f"It would be uploaded ({row.source.size_bytes:,} bytes) and restored.")


def _would_collect(row: Row, options: BatchOptions, ledger: Ledger) -> bool:
    if row.content is None:
        return False
    changed = options.arguments["on_changed_request"]
    try:
        record = ledger.find(row.content, options.request_of(row.source), changed)
    except DiffioInputError as error:
        row.error = str(error)
        return False
    return record is not None and has_generation(record)
