"""What a wait tells its log, on the worker and on the triggerer alike."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.models import GenerationProgress
from airflow_provider_diffio.api.readable import readable_seconds


class ProgressLog:
    """
    Logs what changed since the last poll, and nothing else. It is a
    :class:`~airflow_provider_diffio.api.polling.WaitObserver`.

    :param log: the logger of a task or trigger.
    :param since: when the wait began, in seconds since the epoch; None when that is of no interest.
    """

    def __init__(self, log: Any, *, since: float | None = None) -> None:
        self._log = log
        self._since = since
        self._said = ""
        self._seen: object = None

    def progress(self, progress: GenerationProgress) -> None:
        # Most polls bring what the last one brought; that is cheaper to find than to put into words again.
        seen = (progress.status, progress.stage, progress.percent, progress.queue)
        if seen != self._seen:
            self._seen = seen
            self._say(f"Generation {progress.generation_id}: {progress.describe()}{self._taken(progress)}")

    def trouble(self, error: DiffioError) -> None:
        self._seen = None
        self._say(f"The poll failed: {error}", warning=True)

    def _taken(self, progress: GenerationProgress) -> str:
        """Return how long a complete generation took, and how long its recording is, as far as known."""
        stages = progress.stage_progress
        taken = []
        if progress.is_complete and self._since is not None:
            taken.append(f", after {readable_seconds(time.time() - self._since)}")
        if stages is not None and stages.duration_seconds:
            taken.append(f" ({readable_seconds(stages.duration_seconds)} of audio)")
        return "".join(taken)

    def _say(self, text: str, *, warning: bool = False) -> None:
        if text != self._said:
            self._said = text
            (self._log.warning if warning else self._log.info)("%s", text)


class BatchProgress(NamedTuple):
    """
    How far a batch is.

    :ivar total: its recordings.
    :ivar done: restored, or found restored.
    :ivar failed: those that failed.
    :ivar at_diffio: generations that are not over.
    :ivar to_fetch: generations that are over, and whose files are not written yet.
    """

    total: int
    done: int
    failed: int = 0
    at_diffio: int = 0
    to_fetch: int = 0

    def sentence(self, began: float, now: float, done_before: int = 0) -> str:
        """
        Return it in words, with a guess at how long the rest takes.

        :param began: when the work began, in seconds since the epoch.
        :param now: the time.
        :param done_before: how many were done when it began.
        """
        parts = [f"{self.done:,} of {self.total:,} restored"]
        for number, words in (
            (self.at_diffio, "at Diffio"), (self.to_fetch, "to be fetched"), (self.failed, "failed"),
        ):  # fmt: skip
            if number:
                parts.append(f"{number:,} {words}")
        progressed = self.done + self.to_fetch + self.failed - done_before
        rest = self.total - self.done - self.to_fetch - self.failed
        if progressed > 0 and rest > 0 and now > began:
            minutes = (now - began) * rest / progressed / 60
            parts.append(f"about {math.ceil(minutes):,} min left" if minutes > 1 else "about a minute left")
        return f"{', '.join(parts)}."


class SpacedLog:
    """
    Logs a line of progress where it changed, at most every so many seconds.

    :param log: the logger of a task or trigger.
    :param seconds: between two lines at least; 30 by default.
    """

    def __init__(self, log: Any, seconds: float = 30.0) -> None:
        self._log = log
        self._seconds = seconds
        self._next = 0.0
        self._said: BatchProgress | None = None

    def tell(self, progress: BatchProgress, began: float, done_before: int = 0) -> None:
        """Log it, if it is time; the arguments are those of :meth:`BatchProgress.sentence`."""
        now = time.monotonic()
        if progress != self._said and now >= self._next:
            self._said, self._next = progress, now + self._seconds
            self._log.info("%s", progress.sentence(began, time.time(), done_before))


def kill_notice(generation_id: str | None, *, recorded: bool = True) -> str:
    """
    Return what it means at Diffio that a task is stopped here: nothing.

    :param generation_id: the generation that the task has started or waits for; None before it has one.
    :param recorded: whether the next try of the task knows of it.
    """
    if not recorded:
        return (
            "This task is being stopped. Diffio offers no cancel: a generation that it has started goes on"
            " and is billed. Airflow before 3.3 keeps no record of it, so the next try starts another one."
        )
    if generation_id is None:
        return (
            "This task is being stopped. If it was starting a generation, the next try finds it by the same"
            " idempotency key, and Diffio bills it once."
        )
    return (
        f"The wait for generation {generation_id} is being stopped here. Diffio offers no cancel: the"
        " generation goes on and is billed once. The next try of the task collects it and starts none."
    )


def batch_kill_notice(in_flight: int) -> str:
    """
    Return what it means at Diffio that a batch is stopped here.

    :param in_flight: how many generations it waits for.
    """
    if not in_flight:
        return (
            "This task is being stopped. The next try goes on where it stood: the ledger knows what is done."
        )
    return (
        f"This task is being stopped. Diffio offers no cancel: its {in_flight:,} generations go on and are"
        " billed once each. The next try of the task collects them and starts none of them again."
    )
