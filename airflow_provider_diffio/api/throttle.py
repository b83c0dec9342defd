"""
The common rate of all waiters of one connection. Time is passed in as seconds of any clock.

Each waiter decides by itself when to poll next. This module delays all of them together when Diffio
responds with 429 or does not respond, and spreads them out afterwards, so that they do not all poll at the
same moment.
"""

from __future__ import annotations

import math

from airflow_provider_diffio.api.errors import DiffioError, DiffioRateLimitError, DiffioResponseError

#: Seconds between the first polls of waiters that begin together, and between polls that were delayed.
START_GAP = 0.01
#: This many failures in a row, over all waiters, are an outage. One broken connection is not.
_OUTAGE = 3
#: An outage delays all waiters by this long at most, and by this long for each waiter: few do no harm.
_LONGEST_CLOSURE = 60.0
_CLOSURE_PER_WAITER = 0.1
#: The longest that the Retry-After of one response delays all waiters, in seconds. The waiter that received
#: it obeys it in full.
_LONGEST_RETRY_AFTER = 300.0
_FIRST_GAP, _LONGEST_GAP = 0.02, 2.0
#: Waiters wake up this often, so that those that are due at about the same time share one turn of the event
#: loop, which costs much less than a turn for each.
SLOTS_PER_SECOND = 48
#: How many wake up at once; so many responses are read before the loop serves other tasks.
PER_SLOT = 8


class Slots:
    """
    Slots of time for many waiters: each has room for a few; who finds a slot full takes a later one.

    However many want to poll at the same moment, they are spread out. Time is passed in, in seconds.
    """

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        #: From a full slot to one that may have room, so that thousands do not walk past the same full ones.
        self._after: dict[int, int] = {}
        self._tidy_at = 1024

    def take(self, wished: float, now: float) -> float:
        """
        Take the first free place.

        :param wished: not before this time.
        :param now: the time; slots that are over are forgotten.
        :return: when it is.
        """
        if len(self._taken) >= self._tidy_at:
            self._tidy(int(now * SLOTS_PER_SECOND))
        slot = self._with_room(math.ceil(wished * SLOTS_PER_SECOND))
        self._taken[slot] = self._taken.get(slot, 0) + 1
        if self._taken[slot] == PER_SLOT:
            self._after[slot] = slot + 1
        return slot / SLOTS_PER_SECOND

    def _with_room(self, slot: int) -> int:
        passed = []
        while slot in self._after:
            passed.append(slot)
            slot = self._after[slot]
        for full in passed:
            self._after[full] = slot
        return slot

    def _tidy(self, current: int) -> None:
        self._taken = {slot: taken for slot, taken in self._taken.items() if slot >= current}
        self._after = {slot: after for slot, after in self._after.items() if slot >= current}
        self._tidy_at = max(1024, 2 * len(self._taken))


class Throttle:
    """
    The common rate of all waiters of one connection.

    A waiter asks for its next time and waits until then. When :meth:`is_open` returns False at that time,
    because things changed meanwhile, it asks again.

    :ivar waiters: how many there are; the caller counts them.
    """

    def __init__(self) -> None:
        self.waiters = 0
        self._open_at = 0.0
        self._next_slot = 0.0
        self._next_start = 0.0
        self._gap = 0.0
        self._failures = 0
        self._changed_at = float("-inf")

    def start(self, now: float) -> float:
        """Return the earliest time for the first poll of one more waiter; many at once are spread out."""
        self._next_start = max(self._next_start + START_GAP, now)
        return self._next_start

    def next_allowed(self, now: float) -> float:
        """Return when a waiter that wants to poll now may do so: now, if all is well."""
        if now >= self._open_at and not self._gap and now >= self._next_slot:
            return now
        at = max(now, self._open_at, self._next_slot)
        self._next_slot = at + max(self._gap, START_GAP)
        return at

    def is_open(self, now: float) -> bool:
        """Return whether a time that :meth:`next_allowed` returned earlier is still valid."""
        return now >= self._open_at

    def on_success(self) -> None:
        """Take note of a response: an outage is over, and the rate rises a little."""
        self._failures = 0
        if self._gap:
            self._gap = self._gap * 0.97 if self._gap > _FIRST_GAP / 10 else 0.0

    def on_error(self, error: DiffioError, sent_at: float, now: float) -> None:
        """
        Take note of a poll that failed.

        :param error: the failure. One that is not transient concerns its waiter alone.
        :param sent_at: when the request was sent. A request from before all waiters were delayed says nothing
            new.
        :param now: the time.
        """
        if not (error.transient or isinstance(error, DiffioResponseError)) or sent_at < self._changed_at:
            return
        self._failures += 1
        if isinstance(error, DiffioRateLimitError):
            self._gap = min(max(2 * self._gap, _FIRST_GAP), _LONGEST_GAP)
            pause = self._backoff(self._failures)
        elif self._failures >= _OUTAGE:
            pause = self._backoff(self._failures - _OUTAGE)
        else:
            return
        asked = min(error.retry_after or 0.0, _LONGEST_RETRY_AFTER)
        self._open_at = max(self._open_at, now + max(pause, asked))
        self._next_slot = max(self._next_slot, self._open_at)
        self._changed_at = now

    def _backoff(self, step: int) -> float:
        longest = min(max(1.0, _CLOSURE_PER_WAITER * self.waiters), _LONGEST_CLOSURE)
        return float(min(2.0 ** min(step, 10), longest))
