"""The common throttle of many waiters; time is passed in."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.throttle import PER_SLOT, SLOTS_PER_SECOND, START_GAP, Slots, Throttle

DOWN = errors.DiffioServerError("Down.")


def limited(retry_after: float | None = None) -> errors.DiffioError:
    return errors.DiffioRateLimitError("Slow down.", retry_after=retry_after)


def outage(throttle: Throttle, now: float) -> None:
    for _ in range(3):
        throttle.on_error(DOWN, now, now)


def test_while_all_is_well_everybody_goes_at_once() -> None:
    throttle = Throttle()
    assert {throttle.next_allowed(5.0) for _ in range(1000)} == {5.0}


def test_beginners_are_spread_out() -> None:
    throttle = Throttle()
    starts = [throttle.start(100.0) for _ in range(1000)]
    assert starts[0] == 100.0
    assert starts[-1] == pytest.approx(100.0 + 999 * START_GAP)
    assert throttle.start(500.0) == 500.0


def test_one_failure_is_no_outage() -> None:
    throttle = Throttle()
    throttle.on_error(DOWN, 0.0, 1.0)
    throttle.on_error(DOWN, 0.0, 1.0)
    assert throttle.next_allowed(1.0) == 1.0


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        errors.DiffioConnectionError("No response."),
        errors.DiffioResponseError("responded with text/html"),
    ],
)
def test_an_outage_delays_all_and_spreads_them_out(error: errors.DiffioError) -> None:
    throttle = Throttle()
    for _ in range(3):
        throttle.on_error(error, 10.0, 10.0)
    assert not throttle.is_open(10.5)
    allowed = [throttle.next_allowed(10.5) for _ in range(500)]
    assert allowed[0] == 11.0
    assert allowed[-1] == pytest.approx(11.0 + 499 * START_GAP)


def test_a_long_outage_is_asked_about_ever_less_often_but_never_given_up() -> None:
    throttle, now, pauses = Throttle(), 0.0, []
    throttle.waiters = 10_000
    outage(throttle, now)
    for _ in range(12):
        at = throttle.next_allowed(now)
        pauses.append(at - now)
        now = at
        throttle.on_error(DOWN, now, now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60


def test_few_waiters_are_not_held_back_long() -> None:
    throttle = Throttle()
    throttle.waiters = 1
    for _ in range(50):
        throttle.on_error(DOWN, 100.0, 100.0)
    assert throttle.next_allowed(100.0) == 101.0


def test_what_was_under_way_says_nothing_new() -> None:
    throttle = Throttle()
    throttle.on_error(limited(), 9.0, 10.0)
    opens = throttle.next_allowed(10.0)
    for _ in range(1000):
        throttle.on_error(limited(), 9.0, 10.1)
    assert throttle.is_open(opens)


def test_an_answer_ends_the_outage() -> None:
    throttle = Throttle()
    outage(throttle, 0.0)
    throttle.on_success()
    throttle.on_error(DOWN, 100.0, 100.0)
    assert throttle.is_open(100.0)


def test_too_many_requests_are_spread_until_it_goes_well() -> None:
    throttle = Throttle()
    throttle.on_error(limited(retry_after=30), 0.0, 0.0)
    allowed = [throttle.next_allowed(0.0) for _ in range(100)]
    assert allowed[0] == 30.0
    assert allowed[1] - allowed[0] > START_GAP
    for _ in range(500):
        throttle.on_success()
    assert throttle.next_allowed(1000.0) == throttle.next_allowed(1000.0) == 1000.0


def test_each_refusal_spreads_them_further() -> None:
    throttle = Throttle()
    gaps = []
    for now in (0.0, 1000.0, 2000.0):
        throttle.on_error(limited(), now, now)
        first, second = throttle.next_allowed(now + 500), throttle.next_allowed(now + 500)
        gaps.append(second - first)
    assert gaps[0] < gaps[1] < gaps[2]


def test_an_absurd_retry_after_does_not_hold_everybody_back() -> None:
    throttle = Throttle()
    throttle.on_error(limited(retry_after=1e9), 0.0, 0.0)
    assert throttle.next_allowed(0.0) == 300.0


@pytest.mark.parametrize(
    "error", [errors.DiffioNotFoundError("No such generation."), errors.DiffioAuthenticationError("No.")]
)
def test_what_concerns_one_waiter_slows_nobody_else(error: errors.DiffioError) -> None:
    throttle = Throttle()
    for _ in range(10):
        throttle.on_error(error, 0.0, 0.0)
    assert throttle.next_allowed(0.0) == 0.0


def slot(number: int) -> float:
    return number / SLOTS_PER_SECOND


def test_an_appointment_is_at_the_next_slot() -> None:
    slots = Slots()
    assert slots.take(10.0, 9.0) == 10.0
    assert 20.001 <= slots.take(20.001, 9.0) < 20.001 + slot(1)


def test_those_that_are_due_together_share_slots_and_none_is_crowded() -> None:
    slots = Slots()
    taken = Counter(slots.take(slot(5000), 50.0) for _ in range(10 * PER_SLOT))
    assert taken == {slot(5000 + number): PER_SLOT for number in range(10)}


def test_who_comes_later_fills_what_is_left() -> None:
    slots = Slots()
    for _ in range(3 * PER_SLOT):
        slots.take(slot(5000), 50.0)
    assert slots.take(slot(4999), 50.0) == slot(4999)
    assert slots.take(slot(5001), 50.0) == slot(5003)
    assert slots.take(slot(5040), 50.0) == slot(5040)


def test_a_stampede_is_dealt_out_and_forgotten() -> None:
    slots, filled = Slots(), 20_000
    last = max(slots.take(slot(50_000), 1000.0) for _ in range(filled * PER_SLOT))
    assert last == slot(50_000 + filled - 1)
    for _ in range(filled * PER_SLOT):
        slots.take(last + 10.0, last + 9.0)
    assert len(slots._taken) < 2 * filled
    assert slot(min(slots._taken)) > last
