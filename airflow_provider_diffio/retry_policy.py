"""DiffioRetryPolicy: what a failed try means for the next one (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.retry import MAX_RETRY_AFTER


class DiffioRetryPolicy(RetryPolicy):
    """
    End retries after a final error, and wait as long as Diffio asks after a passing one.

    The operators and the sensor have it unless a task names a policy of its own. A task that uses
    :class:`~airflow_provider_diffio.hooks.DiffioHook` directly can have it, too:
    ``@task(retries=3, retry_policy=DiffioRetryPolicy())``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:
        error = _ours(exception)
        if error is None:
            return RetryDecision.default()
        if error.final:
            return RetryDecision.fail(f"{type(error).__name__}: the same task would end the same way")
        if error.retry_after is not None:
            # An error may come from elsewhere than our own parser, and the scheduler fails on absurd dates.
            seconds = min(max(0.0, error.retry_after), MAX_RETRY_AFTER)
            return RetryDecision.retry(timedelta(seconds=seconds), f"Diffio asks to wait {seconds:g} s")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> DiffioRetryPolicy:  # noqa: ARG003 - it has no settings
        return cls()


def _ours(exception: BaseException | None) -> DiffioError | None:
    """Find our error, or the one of ours that another was raised from."""
    while exception is not None:
        if isinstance(exception, DiffioError):
            return exception
        exception = exception.__cause__
    return None
