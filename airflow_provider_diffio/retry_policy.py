"""DiffioRetryPolicy: what a failed try means for the next one (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_diffio._compat import RetryDecision, RetryPolicy, reschedule_decision
from airflow_provider_diffio.api.errors import (
    DiffioConnectionError,
    DiffioRateLimitError,
    DiffioServerError,
    diffio_error,
)
from airflow_provider_diffio.api.retry import MAX_RETRY_AFTER

#: How long an outage may last before it uses up retries.
OUTAGE_LIMIT = timedelta(days=1)
_OUTAGES = (DiffioConnectionError, DiffioRateLimitError, DiffioServerError)


class DiffioRetryPolicy(RetryPolicy):
    """
    End retries after a final error, and wait as long as Diffio asks after a passing one.

    From Airflow 3.4 on, an outage uses up no retries: after a 429, a 5xx or a lost connection, the task runs
    again after its ``retry_delay``, or after the time that Diffio asks for. A day after the first such error
    of a try, these errors use up retries, too.

    The operators and the sensor have it unless a task names a policy of its own. A task that uses
    :class:`~airflow_provider_diffio.hooks.DiffioHook` directly can have it, too:
    ``@task(retries=3, retry_policy=DiffioRetryPolicy())``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:
        error = diffio_error(exception)
        if error is None:
            return RetryDecision.default()
        if error.final:
            return RetryDecision.fail(f"{type(error).__name__}: the same task would end the same way")
        delay, reason = None, f"{type(error).__name__}: this passes"
        if error.retry_after is not None:
            # An error may come from elsewhere than our own parser, and the scheduler fails on absurd dates.
            seconds = min(max(0.0, error.retry_after), MAX_RETRY_AFTER)
            delay, reason = timedelta(seconds=seconds), f"Diffio asks to wait {seconds:g} s"
        if isinstance(error, _OUTAGES):
            decision = reschedule_decision(delay, OUTAGE_LIMIT, reason)
            if decision is not None:
                return decision
        return RetryDecision.default() if delay is None else RetryDecision.retry(delay, reason)

    def serialize(self) -> dict[str, Any]:
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> DiffioRetryPolicy:  # noqa: ARG003 - it has no settings
        return cls()
