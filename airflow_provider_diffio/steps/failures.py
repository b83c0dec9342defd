"""What an error of ours means to Airflow: whether a retry of the task may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_diffio.api.error_lines import error_lines
from airflow_provider_diffio.api.errors import DiffioError

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.base import FailingTask


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
