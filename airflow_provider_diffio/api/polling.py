"""
Waiting for a generation: one specification, one decision, one driver.

:class:`WaitSpec` says what is waited for and until when, in plain values that can be stored.
:class:`GenerationWait` decides: it is told what Diffio said and what time it is, and says what to do next. It
has no clock, no loop and no network, so the sensor, the trigger and the hook cannot drift apart.
:class:`WaitDriver` polls and decides, for everybody who waits in a thread; a trigger has an event loop of its
own. When to poll next is the business of :mod:`~airflow_provider_diffio.api.poll_interval`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
    DiffioResponseError,
)
from airflow_provider_diffio.api.models import GenerationProgress
from airflow_provider_diffio.api.money import mark_billed
from airflow_provider_diffio.api.poll_interval import Observation, Observations, next_pause, observe
from airflow_provider_diffio.api.readable import readable_seconds

if TYPE_CHECKING:
    # Making a protocol costs several classes, and whatever parses DAG files would pay for it.
    class WaitObserver(Protocol):
        """Is told what each poll of a wait brought."""

        def progress(self, progress: GenerationProgress) -> None:
            """Diffio reported this."""

        def trouble(self, error: DiffioError) -> None:
            """The poll failed; the wait decides whether it goes on."""


DEFAULT_POLL_INTERVAL = 5.0
DEFAULT_MAX_POLL_INTERVAL = 180.0
DEFAULT_WAIT_TIMEOUT = 6 * 3600.0
#: How long a file may take to appear after its generation is complete, in seconds.
DEFAULT_READY_TIMEOUT = 120.0

_JITTER = 0.1
#: Seconds that the last poll of a wait gets, at its deadline.
_LAST_POLL = 2.0


# What DAG files import has named tuples for its values: making such a class takes a fifth of the time that a
# frozen dataclass takes, and whatever parses DAG files pays for it.


class WaitSpec(NamedTuple):
    """
    One wait, as plain values: it is stored with the deferred task.

    :ivar generation_id: the generation.
    :ivar project_id: its project, which speeds up Diffio's lookup; None where it is not known.
    :ivar started_at: when the wait began, in seconds since the epoch.
    :ivar deadline: when it ends, in seconds since the epoch; absolute, so that a restart does not begin it
        again.
    :ivar poll_interval: seconds between polls at least.
    :ivar max_poll_interval: seconds between polls at most.
    """

    generation_id: str
    project_id: str | None
    started_at: float
    deadline: float
    poll_interval: float = DEFAULT_POLL_INTERVAL
    max_poll_interval: float = DEFAULT_MAX_POLL_INTERVAL

    def to_dict(self) -> dict[str, Any]:
        """Return what to store: plain JSON, field by field."""
        return self._asdict()

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> WaitSpec:
        """
        Read what this or another version stored; fields that are not known here are passed over.

        :raises DiffioError: when a field that every version stores is missing.
        """
        missing = [name for name in cls._fields if name not in stored and name not in cls._field_defaults]
        if missing:
            raise DiffioError(
                f"The stored wait lacks {', '.join(missing)}.",
                advice="A retry of the task polls the generation and starts none.",
                may_be_billed=True,
                money="The generation goes on at Diffio, and is billed once.",
            )
        return cls(**{name: stored[name] for name in cls._fields if name in stored})


class PollAgain(NamedTuple):
    """Not over: poll again at ``at`` (seconds since the epoch)."""

    at: float


class Succeeded(NamedTuple):
    """Over and complete."""

    progress: GenerationProgress


class Failed(NamedTuple):
    """Over for this waiter: ``error`` says why."""

    error: DiffioError


Decision = PollAgain | Succeeded | Failed

#: How a wait can end, in one word: what a trigger tells the task that it resumes.
OUTCOMES = frozenset({"complete", "failed", "timeout", "error"})


def outcome(decision: Succeeded | Failed) -> str:
    """Return how a wait ended: one of :data:`OUTCOMES`."""
    if isinstance(decision, Succeeded):
        return "complete"
    if isinstance(decision.error, DiffioGenerationFailedError):
        return "failed"
    return "timeout" if isinstance(decision.error, DiffioGenerationTimeoutError) else "error"


class GenerationWait:
    """
    Waiting for one generation, as a decision.

    :param spec: what is waited for, and until when.
    :raises DiffioInputError: for intervals that would make a hot loop.
    """

    def __init__(self, spec: WaitSpec) -> None:
        check_intervals(spec.poll_interval, spec.max_poll_interval)
        self.spec = spec
        self._longest = max(spec.poll_interval, spec.max_poll_interval)
        self.last_seen: GenerationProgress | None = None
        self._last_error: DiffioError | None = None
        self._observations: Observations = ()

    def begin(self, now: float, not_before: float = 0.0) -> PollAgain:
        """
        Decide when to poll first, for a waiter who takes over from another one that has just polled.

        :param now: the time, in seconds since the epoch.
        :param not_before: no result is needed before this time, so the first poll may wait for it. When it
            is past, this waiter was restarted, likely together with many others: its first poll is at a
            random time within its next pause.
        """
        pause = next_pause(now - self.spec.started_at, (), self.spec.poll_interval, self._longest)
        if now < not_before or now - self.spec.started_at < self.spec.poll_interval:
            at = max(now + pause, not_before) + random.uniform(0, _JITTER * pause)  # noqa: S311 - jitter
        else:
            at = now + random.uniform(0, pause)  # noqa: S311 - jitter, not a secret
        return PollAgain(min(at, self.spec.deadline))

    def on_progress(self, progress: GenerationProgress, now: float) -> Decision:
        """Decide after a response. The overall status alone counts; an unknown word means *not over*."""
        self.last_seen = progress
        self._last_error = None
        if progress.is_complete:
            return Succeeded(progress)
        if progress.is_failed:
            return Failed(self._failure(progress))
        self._observations = observe(
            self._observations, Observation.of(progress, max(0.0, now - self.spec.started_at))
        )
        return self._poll_again(now, floor=0.0)

    def on_error(self, error: DiffioError, now: float) -> Decision:
        """
        Decide after a poll that failed.

        Trouble that may pass is waited out until the deadline: the generation goes on at Diffio whether or
        not anybody can poll it. A Retry-After is obeyed.
        """
        if not (error.transient or isinstance(error, DiffioResponseError)):
            mark_billed(error)
            return Failed(error)
        self._last_error = error
        return self._poll_again(now, floor=error.retry_after or 0.0)

    def _poll_again(self, now: float, floor: float) -> Decision:
        if now >= self.spec.deadline:
            return Failed(self._timeout(now))
        elapsed = now - self.spec.started_at
        interval = next_pause(elapsed, self._observations, self.spec.poll_interval, self._longest)
        interval *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter, not a secret
        # Many waiters are told the same Retry-After, so it needs the jitter too.
        floor *= random.uniform(1, 1 + _JITTER)  # noqa: S311 - jitter, not a secret
        return PollAgain(min(now + max(interval, floor), self.spec.deadline))

    def _failure(self, progress: GenerationProgress) -> DiffioGenerationFailedError:
        said = progress.failure()
        return DiffioGenerationFailedError(
            f"Diffio reports the generation as {progress.status}{f': {said}' if said else ''}.",
            error=progress.error,
            error_details=progress.error_details,
            generation_id=self.spec.generation_id,
            project_id=self.spec.project_id or progress.api_project_id,
            may_be_billed=True,
            money=(
                "The recording is not restored, and the generation may have been billed for the time it ran."
            ),
            advice="A retry of the task starts a new one; check first that the recording plays.",
        )

    def _timeout(self, now: float) -> DiffioGenerationTimeoutError:
        seen = self.last_seen.describe() if self.last_seen else "nothing"
        trouble = f" The last poll failed: {self._last_error.message}" if self._last_error else ""
        return DiffioGenerationTimeoutError(
            f"The generation was not over after {readable_seconds(now - self.spec.started_at)};"
            f" last seen: {seen}."
            f"{trouble}",
            generation_id=self.spec.generation_id,
            project_id=self.spec.project_id,
            may_be_billed=True,
            money="It goes on at Diffio, which offers no cancel, and is billed once.",
            advice=(
                "Give the task a longer timeout: a retry of the same wait polls this generation and starts"
                " none."
            ),
        )


class WaitDriver:
    """
    Polls and decides, for whoever waits in a thread of its own.

    :param spec: what is waited for, and until when.
    :param ask: asks Diffio once how far the generation is.
    :param observer: is told what each poll brought.
    :param clock: seconds since the epoch; :func:`steady_clock` by default.
    :param sleep: sleeps for so many seconds.
    :raises DiffioInputError: for intervals that would make a hot loop.
    """

    def __init__(
        self,
        spec: WaitSpec,
        ask: Callable[[], GenerationProgress],
        *,
        observer: WaitObserver | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wait = GenerationWait(spec)
        self._ask = ask
        self._observer = observer
        self._clock = clock or steady_clock()
        self._sleep = sleep

    def poll(self) -> Decision:
        """Ask once, and decide."""
        try:
            progress = self._ask()
        except DiffioError as error:
            if self._observer is not None:
                self._observer.trouble(error)
            return self._wait.on_error(error, self._clock())
        if self._observer is not None:
            self._observer.progress(progress)
        return self._wait.on_progress(progress, self._clock())

    def run(self, decision: Decision | None = None) -> Succeeded | Failed:
        """
        Poll until the wait is over.

        :param decision: what the last :meth:`poll` decided; without one, the first poll is due now.
        """
        decision = decision or self.poll()
        while isinstance(decision, PollAgain):
            self._sleep(max(0.0, decision.at - self._clock()))
            decision = self.poll()
        return decision


def poll_timeout(deadline: float, now: float) -> float | None:
    """
    Return within how many seconds a poll must be over, so that a slow response does not pass a deadline by.

    :param deadline: of the wait, in seconds since the epoch.
    :param now: the time, in seconds since the epoch.
    :return: the time left, and a moment for the last poll; None where there is no deadline.
    """
    return None if deadline == float("inf") else max(deadline - now, _LAST_POLL)


def steady_clock() -> Callable[[], float]:
    """Return a clock of seconds since the epoch that does not follow later changes of the machine's clock."""
    started, origin = time.time(), time.monotonic()
    return lambda: started + time.monotonic() - origin


def check_intervals(poll_interval: float, max_poll_interval: float) -> None:
    """
    Refuse intervals that would make a hot loop.

    :raises DiffioInputError: when one is not a number of at least 0.1 seconds.
    """
    for name, value in (("poll_interval", poll_interval), ("max_poll_interval", max_poll_interval)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value < 1e9:
            raise DiffioInputError(f"{name} must be at least 0.1 seconds, not {value!r}.")
