"""
Who may ask when, among many who wait through one connection. Time is passed in; any clock will do.

Each waiter decides for itself when it wants to look next. This holds all of them back together when Diffio
says that it is too much (429) or does not answer, and lines them up when it goes on, so that they do not come
back together.
"""

from __future__ import annotations

import math

from airflow_provider_diffio.api.errors import DiffioError, DiffioRateLimitError, DiffioResponseError

#: Seconds between the first looks of waiters that begin at once, and between those that were held back.
START_GAP = 0.01
#: Failures in a row, whosever, that make an outage. One broken connection is none.
_OUTAGE = 3
#: Everybody is held back for this long at most, and for this long per waiter: few do no harm.
_LONGEST_CLOSURE = 60.0
_CLOSURE_PER_WAITER = 0.1
#: The longest that one answer's Retry-After holds everybody back; whom it was told obeys it to the end.
_LONGEST_RETRY_AFTER = 300.0
_FIRST_GAP, _LONGEST_GAP = 0.02, 2.0
#: Waiters wake up this often, so that those that are due at about the same time share one turn of the event
#: loop, which costs much less than a turn for each.
SLOTS_PER_SECOND = 48
#: How many wake up at once; so many answers are read before the loop serves anybody else.
PER_SLOT = 8


class Slots:
    """
    Slots of time for many waiters: each has room for a few, and who finds none comes a bit later.

    However many want to look at the same moment, there is no stampede. Time is passed in, in seconds.
    """

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        #: From a full slot to one that may have room, so that thousands do not walk past the same full ones.
        self._after: dict[int, int] = {}
        self._tidy_at = 1024

    def take(self, wished: float, now: float) -> float:
        """
        Take the first place there is.

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

    A waiter asks when it is allowed next and waits until then; when :meth:`is_open` denies it, because
    things changed meanwhile, it asks again.

    :ivar waiters: how many there are; kept by who lets them in.
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
        """Return the earliest time for the first look of one more waiter; many at once are spread out."""
        self._next_start = max(self._next_start + START_GAP, now)
        return self._next_start

    def next_allowed(self, now: float) -> float:
        """Return when a waiter that wants to look now may do so: now, if all is well."""
        if now >= self._open_at and not self._gap and now >= self._next_slot:
            return now
        at = max(now, self._open_at, self._next_slot)
        self._next_slot = at + max(self._gap, START_GAP)
        return at

    def is_open(self, now: float) -> bool:
        """Whether a next_allowed whose time has come is still good."""
        return now >= self._open_at

    def on_success(self) -> None:
        """Take note of an answer: an outage is over, and the throttle picks up a little."""
        self._failures = 0
        if self._gap:
            self._gap = self._gap * 0.97 if self._gap > _FIRST_GAP / 10 else 0.0

    def on_error(self, error: DiffioError, sent_at: float, now: float) -> None:
        """
        Take note of a look that failed.

        :param error: how; one that does not pass concerns its waiter alone.
        :param sent_at: when the request was sent. What was under way already when everybody was held back
            says nothing new.
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
