"""What an error of ours means to Airflow: whether a retry of the task may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_diffio.api.errors import DiffioError, DiffioGenerationError


@contextmanager
def after_start(generation_id: str, project_id: str) -> Iterator[None]:
    """
    Say of every error in the block that a generation exists, and what became of the money.

    :param generation_id: the generation.
    :param project_id: its project.
    """
    try:
        yield
    except DiffioError as error:
        error.generation_id = error.generation_id or generation_id
        error.project_id = error.project_id or project_id
        if not error.money and not isinstance(error, DiffioGenerationError):
            error.money = "The generation is billed once; trying again to get its file starts no other one."
        error.may_be_billed = True
        raise


@contextmanager
def airflow_failures() -> Iterator[None]:
    """
    End a task's retries where they would be pointless.

    A final error (wrong key, no money, no permission, retired model, bad input) becomes an
    ``AirflowFailException`` with our error as its cause. Every other error is left as it is, so that Airflow
    retries as the task is configured.
    """
    try:
        yield
    except DiffioError as error:
        if not error.final:
            raise
        from airflow.providers.common.compat.sdk import AirflowFailException

        raise AirflowFailException(f"{error} (No retry: it would end the same way.)") from error
