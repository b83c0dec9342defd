"""What has to hold at the end, and the numbers to show. Pure: what was seen comes in, words go out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.distributed.observer import Sample, spans


@dataclass(frozen=True)
class Kill:
    """A member of the cluster that was killed at work."""

    member: str
    at: float
    """Seconds since the run began."""
    held: Sequence[int]
    """Map indexes of the tasks that it ran, or whose triggers it had, when it died."""
    recovered: Sequence[float]
    """Seconds from the kill until each of them was in other hands: tried again, or on another triggerer."""


@dataclass(frozen=True)
class Outcome:
    """Everything that was found after the run."""

    names: Sequence[str]
    """The recordings; the task with map index ``n`` restores the ``n``-th."""
    run_state: str
    states: Sequence[str | None]
    tries: Sequence[int]
    deferrals: int
    bought: Mapping[str, int]
    """Billed generations by recording."""
    whole: Sequence[str]
    """Recordings whose file holds what Diffio made, as the task's XCom says."""
    found: Sequence[str]
    """Every file at the destination."""
    unfinished: Sequence[str]
    """Files that an upload to the bucket was begun for, and neither finished nor aborted."""
    open_uploads: Sequence[str]
    """Recordings with an upload to Diffio that is not finished."""
    worker: Kill
    triggerer: Kill
    samples: Sequence[Sample]
    wall_seconds: float
    slots: int

    def problems(self) -> list[str]:
        """What is not as it must be; nothing, it is to be hoped."""
        count = len(self.names)
        cut_off = {self.names[index] for index in self.worker.held}
        wanted: dict[str, tuple[object, object]] = {
            "the run": (self.run_state, "success"),
            "states of the tasks": (dict(Counter(self.states)), {"success": count}),
            "billed generations": (sum(self.bought.values()), count),
            "not billed exactly once": (sorted(n for n in self.names if self.bought.get(n) != 1), []),
            "billed, but no recording of ours": (sorted(set(self.bought) - set(self.names)), []),
            "not whole": (sorted(set(self.names) - set(self.whole)), []),
            "files beside them": (sorted(set(self.found) - set(self.names)), []),
            # A process that is killed outright can abort nothing; S3 removes what it began by a lifecycle
            # rule, Diffio after a day.
            "unfinished uploads to the bucket": (sorted(set(self.unfinished) - cut_off), []),
            "unfinished uploads to Diffio": (sorted(set(self.open_uploads) - cut_off), []),
            "all deferred": (self.deferrals >= count, True),
            "the worker was at work": (bool(self.worker.held), True),
            "cut off and not tried again": ([i for i in self.worker.held if self.tries[i] < 2], []),
            "the triggerer was at work": (bool(self.triggerer.held), True),
        }
        return [f"{what}: {is_!r}, not {must!r}" for what, (is_, must) in wanted.items() if is_ != must]

    def rows(self) -> list[tuple[str, str]]:
        """The summary."""
        count = len(self.names)
        most = max(self.samples, key=_deferred)
        waited = sum(seconds * _deferred(sample) for seconds, sample in spans(self.samples))
        worked = sum(seconds * sum(sample.running.values()) for seconds, sample in spans(self.samples))
        on = ", ".join(f"{number} on {name}" for name, number in sorted(most.waiting.items()))
        again = sum(self.tries) - count
        return [
            ("recordings", f"{count}, of them {len(self.whole)} whole at the destination"),
            ("billed", f"{sum(self.bought.values())} generations for {len(self.bought)} recordings"),
            ("run", f"{self.run_state}, {self.wall_seconds:.0f} s"),
            ("tries", f"{sum(self.tries)}: one for each task, and {again} again"),
            ("deferrals", str(self.deferrals)),
            ("killed", _describe(self.worker, "tasks ran on it", "tried again")),
            ("", _describe(self.triggerer, "tasks waited on it", "on the other")),
            (
                "most at a time",
                f"{_deferred(most)} waiting ({on}); {_used(most)} of {self.slots} slots in use",
            ),
            ("in all", f"{waited:.0f} task seconds waited without a slot, {worked:.0f} seconds ran in one"),
            ("left unfinished", f"{len(self.unfinished)} in the bucket, {len(self.open_uploads)} at Diffio"),
        ]


def _deferred(sample: Sample) -> int:
    return sample.states.get("deferred", 0)


def _used(sample: Sample) -> int:
    return sum(sample.running.values())


def _describe(kill: Kill, held: str, recovered: str) -> str:
    again = (
        f"{recovered} after {min(kill.recovered):.0f} to {max(kill.recovered):.0f} s"
        if kill.recovered
        else ""
    )
    return f"{kill.member} after {kill.at:.0f} s: {len(kill.held)} {held}, {again or 'none of them back'}"
