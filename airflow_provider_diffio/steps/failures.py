"""What an error of ours means to Airflow: whether a retry of the task may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_diffio.api.errors import DiffioError


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
