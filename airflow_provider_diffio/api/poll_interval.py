"""
When to poll a generation next: pure functions of what was observed and when.

Three rules, from the weakest knowledge to the strongest:

* Nothing is known but the time waited. The pause is a share of it, so that finding the end late is a small
  part of the job; in a long wait it grows with the root of the time.
* The place in the queue moves: half of the time until its head.
* Progress moves: most of the time that is left, and when little is left, just past the end.

An estimate is not trusted far: no pause is much longer than the progress was watched for, of two speeds the
faster counts, and what stands still is polled by its age. Being wrong costs polls or seconds; what ends the
waiting is Diffio's own word alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from airflow_provider_diffio.api.models import GenerationProgress

#: Knowing nothing, pause for this share of the time waited, but for no more than this many times its root.
_UNKNOWN_SHARE = 0.12
_UNKNOWN_ROOT = 1.1
#: While much is left, sleep through this share of it.
_STRIDE = 0.8
#: A share of the whole job that is little: from there, the next poll is meant to be the last.
_NEAR = 0.2
#: How late, as a share of the whole job, the end may be found for the sake of fewer polls.
_TOLERANCE = 0.025
#: Shares per second; whatever is slower would take decades.
_SLOWEST = 1e-9
#: No pause is longer than this many times the time that the progress was watched for.
_TRUST = 1.5


class Observation(NamedTuple):
    """
    What one poll observed.

    :ivar at: seconds since the waiting began.
    :ivar done: share of the work that is done, up to 1; 0 also when Diffio does not say.
    :ivar position: place in the queue, from 1; None when it is not queued or Diffio does not say.
    """

    at: float
    done: float = 0.0
    position: int | None = None

    @classmethod
    def of(cls, progress: GenerationProgress, at: float) -> Observation:
        percent = progress.percent
        if percent is not None and percent > 0:
            return cls(at, done=min(1.0, percent / 100))
        position = progress.queue.position if progress.queue else None
        return cls(at, position=position if position and position > 0 else None)


#: What is remembered: at most where a movement began, and its last two steps.
Observations = tuple[Observation, ...]
#: For all we know, nothing was done when the waiting began.
_BEGINNING = Observation(0.0)


def observe(seen: Observations, new: Observation) -> Observations:
    """
    Return what is worth knowing of what was seen before and of what is seen now; never more than three.

    :param seen: what this function returned last, ``()`` at first.
    :param new: what is seen now.
    """
    last = seen[-1] if seen else _BEGINNING
    if new.done > last.done:
        # Work that is seen for the first time began after the last poll that saw none.
        start = seen[0] if seen and last.done else last
        return (start, last, new) if last is not start else (start, new)
    if new.done and new.done == last.done:
        return seen
    if new.position and seen and seen[0].position and new.position <= seen[0].position:
        return (seen[0], new)
    return (new,)


def next_pause(elapsed: float, seen: Observations, shortest: float, longest: float) -> float:
    """
    Return how many seconds to wait before the next poll.

    :param elapsed: seconds since the waiting began.
    :param seen: what :func:`observe` returned last.
    :param shortest: never less than this.
    :param longest: never more than this.
    """
    elapsed = max(0.0, elapsed)
    if len(seen) > 1 and seen[-1].done:
        pause = _by_progress(elapsed, seen)
    elif len(seen) > 1:
        pause = max(unknown_pause(elapsed), _by_queue(elapsed, *seen))
    else:
        pause = unknown_pause(elapsed)
    return min(max(shortest, pause), longest)


def unknown_pause(elapsed: float) -> float:
    """Return the pause when nothing is known but the time waited."""
    return min(_UNKNOWN_SHARE * elapsed, _UNKNOWN_ROOT * math.sqrt(max(0.0, elapsed)))


def _by_progress(elapsed: float, seen: Observations) -> float:
    start, before, last = seen[0], seen[-2], seen[-1]
    speed = max(_speed(start, last), _speed(before, last), _SLOWEST)
    left = (1.0 - last.done) / speed - (elapsed - last.at)
    if left <= 0.0:
        # Overdue: it stands still, or goes on after its last percent.
        pause = min(unknown_pause(elapsed), _UNKNOWN_SHARE * (elapsed - last.at))
    elif left <= _NEAR * (elapsed + left):
        pause = left + _TOLERANCE * (elapsed + left) / 2
    else:
        pause = _STRIDE * left
    return max(_TOLERANCE * elapsed, min(pause, _TRUST * (elapsed - start.at)))


def _by_queue(elapsed: float, first: Observation, last: Observation) -> float:
    moved = (first.position or 0) - (last.position or 0)
    if moved <= 0 or last.at <= first.at:
        return 0.0
    until_head = (last.position or 0) * (last.at - first.at) / moved
    return min(until_head, elapsed) / 2


def _speed(start: Observation, end: Observation) -> float:
    # A clock that was set back makes no speed; the smallest step keeps the arithmetic in bounds.
    return (end.done - start.done) / max(end.at - start.at, 0.001)
