"""What to do when a task's input is not what it was when a generation was started for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from airflow_provider_diffio.api.arguments import read_choice
from airflow_provider_diffio.api.errors import DiffioInputError

if TYPE_CHECKING:
    from airflow_provider_diffio.ledger.restoration import RestorationStore

#: Start another generation, with a warning that names the change; or fail, before anything is sent.
ChangedInput = Literal["warn", "fail"]


def check_on_changed_input(value: object) -> None:
    """
    Refuse another word than the two there are.

    :raises DiffioInputError: for any other value.
    """
    read_choice(value, "on_changed_input", ("warn", "fail"))


def report_change(
    log: logging.Logger, store: RestorationStore, changes: Sequence[str], on_changed_input: ChangedInput
) -> None:
    """
    Warn of a changed input, or refuse it, where a generation was started for the one before.

    :param log: where to warn.
    :param store: what earlier tries recorded.
    :param changes: names of what changed.
    :param on_changed_input: ``warn`` or ``fail``.
    :raises DiffioInputError: for ``fail``.
    """
    started = [start.generation for start in store.load().starts if start.generation]
    if not started:
        return
    last = started[-1].generation_id
    what = f"This task's input changed after it had started generation {last}: {', '.join(changes)}."
    if on_changed_input == "fail":
        raise DiffioInputError(
            what,
            generation_id=last,
            advice="Restore the old input, or set on_changed_input='warn' to start another generation.",
            may_be_billed=True,
            money="The generation that was started is billed once; this try started none.",
        )
    log.warning("%s Another generation is started for the new input, and billed too.", what)
