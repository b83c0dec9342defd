"""What became of the money: one place decides whether an error may follow a start, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_diffio.api.endpoints import Call
from airflow_provider_diffio.api.errors import DiffioError, DiffioGenerationError

#: What every error of an upload says about money.
NOTHING_STARTED = "No generation was started for this project."
BILLED_ONCE = "The generation is billed once; trying again to get its file starts no other one."


def mark_billed(error: DiffioError, money: str = BILLED_ONCE) -> None:
    """
    Say of an error that a generation exists, or may exist, that is billed.

    :param error: the error. What became of a generation says in its advice what became of the money.
    :param money: the sentence, for an error that has none.
    """
    error.may_be_billed = True
    if not error.money and not isinstance(error, DiffioGenerationError):
        error.money = money


@contextmanager
def after_start(
    generation_id: str | None, project_id: str | None, money: str | None = None
) -> Iterator[None]:
    """
    Say of every error in the block that a generation exists, and what became of the money.

    :param generation_id: the generation, as far as it is known.
    :param project_id: its project, as far as it is known.
    :param money: the sentence, in place of an error's own. What became of a generation says it by itself.
    """
    try:
        yield
    except DiffioError as error:
        error.generation_id = error.generation_id or generation_id
        error.project_id = error.project_id or project_id
        if money and not isinstance(error, DiffioGenerationError):
            error.money = money
        mark_billed(error)
        raise


def money_of(call: Call[Any], *, carried_out: bool) -> tuple[bool, str]:
    """
    Return whether there may be a generation that is billed, and the sentence that says so.

    :param call: what Diffio was asked.
    :param carried_out: whether Diffio may have done it.
    """
    if call.generation_id is not None:
        return True, "A generation that exists is billed once; asking again does not start another one."
    if not call.may_bill:
        return False, ""
    if not carried_out:
        return False, "This call started no generation."
    if call.repeatable:
        return True, (
            "The generation may exist and be billed. A retry under the same idempotency key pays once."
        )
    return True, (
        "The generation may exist and be billed, and without an idempotency key a retry may start a second"
        " one. Check list_project_generations first."
    )
