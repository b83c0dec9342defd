"""
When to look next and what an answer means: the one decision behind every way of waiting.

:class:`GenerationWait` is told what was seen and what time it is, and says what to do. It has no clock, no
loop and no network, so the sensor, the trigger and ``wait_for_generation`` can not drift apart. Where the
next look is placed is the business of :mod:`~airflow_provider_diffio.api.poll_interval`.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
    DiffioResponseError,
)
from airflow_provider_diffio.api.models import GenerationProgress
from airflow_provider_diffio.api.poll_interval import Observation, Observations, next_pause, observe

DEFAULT_POLL_INTERVAL = 5.0
DEFAULT_MAX_POLL_INTERVAL = 180.0
DEFAULT_TIMEOUT = 6 * 3600.0

_JITTER = 0.1


# What DAG files import has named tuples for its values: making such a class takes a fifth of the time that a
# frozen dataclass takes, and whatever parses DAG files pays for it.


class PollAgain(NamedTuple):
    """Not over: look again at ``at`` (seconds since the epoch)."""

    at: float


class Succeeded(NamedTuple):
    """Over and complete."""

    progress: GenerationProgress


class Failed(NamedTuple):
    """Over for this waiter: ``error`` says why."""

    error: DiffioError


Decision = PollAgain | Succeeded | Failed


class GenerationWait:
    """
    Waiting for one generation, as a decision.

    :param generation_id: the generation.
    :param project_id: its project, for messages.
    :param started_at: when the waiting began, in seconds since the epoch.
    :param deadline: when to give up, in seconds since the epoch; absolute, so that a restart does not start
        it again.
    :param poll_interval: seconds between looks at least.
    :param max_poll_interval: seconds between looks at most.
    """

    def __init__(
        self,
        *,
        generation_id: str,
        project_id: str | None = None,
        started_at: float,
        deadline: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float = DEFAULT_MAX_POLL_INTERVAL,
    ) -> None:
        check_intervals(poll_interval, max_poll_interval)
        self.generation_id = generation_id
        self.project_id = project_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.max_poll_interval = max(poll_interval, max_poll_interval)
        self.last_seen: GenerationProgress | None = None
        self._last_error: DiffioError | None = None
        self._seen: Observations = ()

    def begin(self, now: float, not_before: float = 0.0) -> PollAgain:
        """
        Decide when to look first, for a waiter who takes over from another one, which has just looked.

        When there is a time before which nobody listens, that is early enough. When that time is past, this
        waiter was restarted, likely together with many: it comes at any time within its next pause.
        """
        pause = next_pause(now - self.started_at, (), self.poll_interval, self.max_poll_interval)
        if now < not_before or now - self.started_at < self.poll_interval:
            at = max(now + pause, not_before) + random.uniform(0, _JITTER * pause)  # noqa: S311 - jitter
        else:
            at = now + random.uniform(0, pause)  # noqa: S311 - jitter, not a secret
        return PollAgain(min(at, self.deadline))

    def on_progress(self, progress: GenerationProgress, now: float) -> Decision:
        """Decide after an answer. The overall status alone counts; an unknown word means *not over*."""
        self.last_seen = progress
        self._last_error = None
        if progress.is_complete:
            return Succeeded(progress)
        if progress.is_failed:
            return Failed(self._failure(progress))
        self._seen = observe(self._seen, Observation.of(progress, max(0.0, now - self.started_at)))
        return self._poll_again(now, floor=0.0)

    def on_error(self, error: DiffioError, now: float) -> Decision:
        """
        Decide after a look that failed.

        What may pass is ridden out until the deadline, however long it lasts: the generation goes on at
        Diffio whether or not anybody can ask about it. A Retry-After is obeyed.
        """
        if not (error.transient or isinstance(error, DiffioResponseError)):
            error.may_be_billed = True
            return Failed(error)
        self._last_error = error
        return self._poll_again(now, floor=error.retry_after or 0.0)

    def _poll_again(self, now: float, floor: float) -> Decision:
        if now >= self.deadline:
            return Failed(self._timeout(now))
        elapsed = now - self.started_at
        interval = next_pause(elapsed, self._seen, self.poll_interval, self.max_poll_interval)
        interval *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter, not a secret
        # Many waiters are told the same Retry-After, so it needs the jitter too.
        floor *= random.uniform(1, 1 + _JITTER)  # noqa: S311 - jitter, not a secret
        return PollAgain(min(now + max(interval, floor), self.deadline))

    def _failure(self, progress: GenerationProgress) -> DiffioGenerationFailedError:
        said = progress.failure()
        return DiffioGenerationFailedError(
            f"Diffio reports the generation as {progress.status}{f': {said}' if said else ''}.",
            error=progress.error,
            error_details=progress.error_details,
            generation_id=self.generation_id,
            project_id=self.project_id or progress.api_project_id,
            may_be_billed=True,
            advice=(
                "It is not restored, and may have been billed for the time it ran. A retry of the task buys a"
                " new generation; check first that the recording plays."
            ),
        )

    def _timeout(self, now: float) -> DiffioGenerationTimeoutError:
        seen = self.last_seen.describe() if self.last_seen else "nothing"
        trouble = f" The last look failed: {self._last_error.message}" if self._last_error else ""
        return DiffioGenerationTimeoutError(
            f"The generation was not over after {now - self.started_at:.0f} s; last seen: {seen}.{trouble}",
            generation_id=self.generation_id,
            project_id=self.project_id,
            may_be_billed=True,
            advice=(
                "It goes on at Diffio, which offers no cancel, and is billed once. A retry of the task"
                " collects it without buying another; give it a longer timeout."
            ),
        )


def check_intervals(poll_interval: float, max_poll_interval: float) -> None:
    """
    Refuse intervals that would make a hot loop.

    :raises DiffioInputError: when one is not a number of at least 0.1 seconds.
    """
    for name, value in (("poll_interval", poll_interval), ("max_poll_interval", max_poll_interval)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value < 1e9:
            raise DiffioInputError(f"{name} must be at least 0.1 seconds, not {value!r}.")
