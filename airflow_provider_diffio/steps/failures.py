"""What an error of ours means to Airflow: whether a retry of the task may help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.error_lines import error_lines
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.money import after_start, mark_billed
from airflow_provider_diffio.steps.xcom import plain_value

if TYPE_CHECKING:
    from airflow_provider_diffio.ledger.restoration import Start
    from airflow_provider_diffio.steps.base import FailingTask
    from airflow_provider_diffio.steps.task_state import TaskState


@contextmanager
def of_generation(value: Any) -> Iterator[None]:
    """
    Say of every error in the block that the generation which a task was given exists.

    :param value: a *generation* value, a hook's result, or a trigger's event; anything else says nothing.
    """
    plain = plain_value(value)
    ids = plain if isinstance(plain, Mapping) else {}
    generation_id, project_id = ids.get("generation_id"), ids.get("api_project_id") or ids.get("project_id")
    if not isinstance(generation_id, str) or not isinstance(project_id, str):
        yield
        return
    with after_start(generation_id, project_id):
        yield


@contextmanager
def of_earlier_tries(state: TaskState) -> Iterator[None]:
    """
    Say of every error in the block what earlier tries of the task have started, according to its record.

    :param state: the record.
    """
    try:
        yield
    except DiffioError as error:
        starts: tuple[Start, ...] = ()
        with suppress(DiffioError):
            starts = state.of_earlier_tries().starts
        if starts and not error.may_be_billed:
            generation = starts[-1].generation
            if generation is None:
                said = "An earlier try of this task may have started a generation, which is billed once."
            else:
                error.generation_id = error.generation_id or generation.generation_id
                said = (
                    f"An earlier try of this task started generation {generation.generation_id}, which is"
                    " billed once."
                )
            error.money = f"{error.money} {said}".strip()
            mark_billed(error)
        raise


@contextmanager
def airflow_failures(task: FailingTask, *, expected: bool = False) -> Iterator[None]:
    """
    Log an error of ours in short lines, and end a task's retries where they would be pointless.

    A final error (wrong key, no money, no permission, retired model, bad input) becomes an
    ``AirflowFailException``; :func:`~airflow_provider_diffio.api.errors.diffio_error` finds ours behind it.
    Every other error is left as it is, so that Airflow retries as the task is configured.

    :param task: the running task.
    :param expected: whether its user is prepared for errors, which are only warnings then.
    """
    try:
        yield
    except DiffioError as error:
        report(task, error, expected=expected)
        if not error.final:
            raise
        from airflow.providers.common.compat.sdk import AirflowFailException

        raise AirflowFailException(f"{error} (No retry: it would end the same way.)") from None


def replaced_by(error: DiffioError, exception: BaseException) -> BaseException:
    """
    Return an exception of Airflow's to raise ``from None`` in the place of ours, which stays behind it.

    :param error: ours, for :func:`~airflow_provider_diffio.api.errors.diffio_error` to find.
    :param exception: Airflow's, which alone has a traceback in the log.
    """
    exception.__context__ = error
    return exception


def report(task: FailingTask, error: DiffioError, *, expected: bool = False) -> None:
    """
    Log what happened, where, what to do and what became of the money, each in short lines of its own.

    Airflow's UI does not wrap the message above a traceback, so its end would be out of sight.

    :param task: the running task.
    :param error: what ends this try of it.
    :param expected: whether it is only a warning.
    """
    task.log.debug("The error in full:", exc_info=error)
    say = task.log.warning if expected else task.log.error
    for text in error_lines(error, conn_id=task.diffio_conn_id, money=_money(task)):
        say("%s", text)


def _money(task: FailingTask) -> str:
    if task.generation_in_flight is None:
        return "This try started no generation, so nothing is billed for it."
    return f"Generation {task.generation_in_flight} goes on at Diffio and is billed once."
