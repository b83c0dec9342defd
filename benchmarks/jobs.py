"""
Polls against delay, simulated: what each way of waiting costs, over jobs from 20 seconds to 2 hours.

The clock is a number, so this takes a second and always gives the same. The jobs are made up, since no list
of Diffio's own is public: their lengths spread evenly over the orders of magnitude, a third runs steadily,
and of the rest equal parts queue, stall, advance in bursts, or go on long after their last percent.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_provider_diffio.api.models import GenerationProgress, Queue, StageProgress
from airflow_provider_diffio.api.polling import GenerationWait, PollAgain, WaitSpec

SHORTEST, LONGEST = 20.0, 7200.0
KINDS = ("steady", "steady", "queued", "stalling", "in bursts", "long tail")
_STEPS = 40
_EPOCH = 1_800_000_000.0
#: A trigger reports nothing in its first seconds, since Airflow would fail the task.
_NOT_BEFORE = 10.0


@dataclass(frozen=True)
class Job:
    """One generation: how long it takes in all, and what it would say when."""

    kind: str
    seconds: float
    queued: float
    places: int
    #: Share done at the end of each of equally long steps after the queue.
    done: tuple[float, ...]
    reports: bool

    def look(self, at: float) -> GenerationProgress:
        if at >= self.seconds:
            return GenerationProgress("g", "p", "complete")
        if not self.reports:
            return GenerationProgress("g", "p", "processing")
        if at < self.queued:
            place = max(1, math.ceil(self.places * (1 - at / self.queued)))
            return GenerationProgress("g", "p", "queued", queue=Queue(position=place))
        step = (at - self.queued) / (self.seconds - self.queued) * _STEPS
        index = min(int(step), _STEPS - 1)
        before = self.done[index - 1] if index else 0.0
        share = before + (self.done[index] - before) * (step - index)
        # Diffio reports whole percents.
        percent = StageProgress(overall_percent=math.floor(100 * share))
        return GenerationProgress("g", "p", "processing", stage_progress=percent)


@dataclass(frozen=True)
class Outcome:
    job: Job
    polls: int
    delay: float


@dataclass(frozen=True)
class Row:
    """One way of waiting over all jobs."""

    name: str
    polls: float
    median_delay: float
    mean_delay: float
    median_share: float
    #: Median of the delay in units of what is allowed: 4 % (8 % without reports) of the job or 3 s.
    median_of_allowed: float

    @classmethod
    def of(cls, name: str, outcomes: Sequence[Outcome]) -> Row:
        allowed = 0.04 if outcomes[0].job.reports else 0.08
        return cls(
            name,
            statistics.fmean(outcome.polls for outcome in outcomes),
            statistics.median(outcome.delay for outcome in outcomes),
            statistics.fmean(outcome.delay for outcome in outcomes),
            statistics.median(outcome.delay / outcome.job.seconds for outcome in outcomes),
            statistics.median(outcome.delay / max(allowed * outcome.job.seconds, 3) for outcome in outcomes),
        )


def jobs(count: int, *, reports: bool, chance: random.Random) -> list[Job]:
    """Make jobs of all kinds and lengths."""
    made = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        seconds = math.exp(chance.uniform(math.log(SHORTEST), math.log(LONGEST)))
        queued = seconds * (chance.uniform(0.1, 0.5) if kind == "queued" else chance.uniform(0.0, 0.02))
        made.append(Job(kind, seconds, queued, chance.randint(2, 20), _course(kind, chance), reports))
    return made


def _course(kind: str, chance: random.Random) -> tuple[float, ...]:
    speeds = [max(0.1, chance.gauss(1.0, 0.25)) for _ in range(_STEPS)]
    if kind == "in bursts":
        speeds = [chance.uniform(3, 6) if chance.random() < 0.2 else 0.2 for _ in speeds]
    elif kind == "stalling":
        start = chance.randrange(2, _STEPS - 8)
        speeds[start : start + 6] = [0.0] * 6
    elif kind == "long tail":
        rest = chance.randint(2, 6)
        speeds[-rest:] = [0.0] * rest
    total, reached, done = sum(speeds), 0.0, []
    for speed in speeds:
        reached += speed
        done.append(reached / total)
    return tuple(done)


def ours(job: Job) -> Outcome:
    """Wait as the trigger does, with the defaults of the operators."""
    waiting = GenerationWait(WaitSpec("g", None, started_at=_EPOCH, deadline=_EPOCH + 86400))
    at, polls = waiting.begin(_EPOCH, _EPOCH + _NOT_BEFORE).at, 1
    while isinstance(decision := waiting.on_progress(job.look(at - _EPOCH), at), PollAgain):
        at, polls = decision.at, polls + 1
    return Outcome(job, polls, at - _EPOCH - job.seconds)


def every(interval: float) -> Callable[[Job], Outcome]:
    """Wait as most do: the same interval, for ever."""

    def wait(job: Job) -> Outcome:
        polls = math.ceil(job.seconds / interval)
        return Outcome(job, polls, polls * interval - job.seconds)

    return wait


WAYS: dict[str, Callable[[Job], Outcome]] = {
    "this provider": ours,
    "every 2 s (official SDK)": every(2),
    "every 15 s": every(15),
    "every 60 s": every(60),
}


def simulate(count: int) -> dict[str, Any]:
    """Return the figures of every way of waiting, with and without reports, and for ten-minute jobs."""
    random.seed(4)  # the jitter's
    result: dict[str, Any] = {}
    for name, reports in (("reported", True), ("not reported", False)):
        mix = jobs(count, reports=reports, chance=random.Random(7))  # noqa: S311 - no secret
        outcomes = {way: [wait(job) for job in mix] for way, wait in WAYS.items()}
        rows = [Row.of(way, found) for way, found in outcomes.items()]
        result[name] = {
            "rows": [asdict(row) for row in rows],
            "fewer_polls_than_sdk": rows[1].polls / rows[0].polls,
            "by_kind": {kind: asdict(_of_kind(kind, outcomes["this provider"])) for kind in set(KINDS)},
            "points": {
                way: [(round(o.job.seconds, 1), o.polls, round(o.delay, 2)) for o in found[:400]]
                for way, found in outcomes.items()
            },
            # Their ends fall anywhere within an interval.
            "ten_minutes": asdict(Row.of("ours", [ours(ten_minutes(job)) for job in mix])),
        }
    return result


def ten_minutes(job: Job) -> Job:
    return replace(job, seconds=600.0, queued=job.queued * 600.0 / job.seconds)


def _of_kind(kind: str, outcomes: Sequence[Outcome]) -> Row:
    return Row.of(kind, [outcome for outcome in outcomes if outcome.job.kind == kind])
