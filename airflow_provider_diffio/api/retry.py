"""
What is tried again and when: one policy, driven by tenacity for both clients.

Only errors that say so of themselves are tried again (``transient``), and only calls that do no harm when
they are sent twice. Waiting grows exponentially, with jitter, so that many tasks that failed together do not
come back together. A server's Retry-After is obeyed when it is bearable and ends the attempts when it is
not: asking again sooner than a server allows only earns the same response.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import tenacity

from airflow_provider_diffio.api.errors import DiffioError, DiffioNotReadyError

log = logging.getLogger(__name__)


#: The longest wait in seconds that a server is believed to mean. Some send a date of the year 9999.
MAX_RETRY_AFTER = 3600.0


@dataclass(frozen=True)
class RetryPolicy:
    """
    How often and how patiently a call is tried.

    :param max_attempts: tries in all, at least 1.
    :param base: seconds before the second try; doubled for each further one.
    :param cap: the longest wait in seconds that the policy chooses by itself.
    :param max_retry_after: the longest wait in seconds that a server may ask for; when it asks for more, the
        error is raised at once and carries ``retry_after``.
    """

    max_attempts: int = 5
    base: float = 0.5
    cap: float = 30.0
    max_retry_after: float = 120.0

    def should_try_again(self, error: BaseException) -> bool:
        if not isinstance(error, DiffioError) or not error.transient:
            return False
        if isinstance(error, DiffioNotReadyError):
            # "Not yet" is no failure. How long to wait for the file is the caller's decision.
            return False
        return error.retry_after is None or error.retry_after <= self.max_retry_after

    def seconds_before(self, attempt: int, error: BaseException | None) -> float:
        """Return the wait before try ``attempt`` + 1: half to all of the step, or a bit over Retry-After."""
        step = min(self.cap, self.base * 2.0 ** (attempt - 1))
        chosen = random.uniform(step / 2, step)  # noqa: S311 - jitter, not a secret
        asked = getattr(error, "retry_after", None) or 0.0
        # Many are told the same Retry-After, so it needs the jitter too.
        return max(chosen, asked + chosen - step / 2) if asked else chosen

    def retrying(
        self,
        repeatable: bool,
        sleep: Callable[[float], None] = time.sleep,
        *,
        within: float | None = None,
    ) -> tenacity.Retrying:
        controls = self._controls(repeatable)
        if within is not None:
            controls["stop"] |= tenacity.stop_before_delay(within)
        return tenacity.Retrying(sleep=sleep, **controls)

    def async_retrying(
        self, repeatable: bool, sleep: Callable[[float], Awaitable[None]]
    ) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(sleep=sleep, **self._controls(repeatable))

    def _controls(self, repeatable: bool) -> dict[str, Any]:
        return {
            "stop": tenacity.stop_after_attempt(self.max_attempts if repeatable else 1),
            "retry": tenacity.retry_if_exception(self.should_try_again),
            "wait": self._wait,
            "before_sleep": _log_retry,
            "reraise": True,
        }

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return self.seconds_before(state.attempt_number, error)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.warning("Try %d failed, next in %.1f s: %s", state.attempt_number, wait, error)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """
    Return the seconds that a Retry-After header asks for, at most an hour; None when it cannot be read.

    :param value: the header: seconds, or an HTTP date.
    :param now: wall-clock seconds since the epoch.
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Python refuses to read numbers of thousands of digits.
        return min(float(text), MAX_RETRY_AFTER) if len(text) <= 10 else MAX_RETRY_AFTER
    try:
        moment = email.utils.parsedate_to_datetime(text)
        # A date without a zone would be taken for local time; dates in HTTP are in UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return min(max(0.0, moment.timestamp() - now), MAX_RETRY_AFTER)
    except (TypeError, ValueError, OverflowError):
        return None
