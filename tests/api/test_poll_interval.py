"""Where the next look is placed: a pure function of what was seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_diffio.api.models import GenerationProgress, Queue, Stage, StageProgress
from airflow_provider_diffio.api.poll_interval import (
    Observation,
    Observations,
    next_pause,
    observe,
    unknown_pause,
)


def pause(elapsed: float, *sightings: Observation, shortest: float = 5, longest: float = 1000) -> float:
    return next_pause(elapsed, seen(*sightings), shortest, longest)


def seen(*sightings: Observation) -> Observations:
    remembered: Observations = ()
    for sighting in sightings:
        remembered = observe(remembered, sighting)
    return remembered


def test_the_first_pause_is_the_shortest() -> None:
    assert pause(0) == 5


def test_knowing_nothing_the_pause_is_a_share_of_the_time_waited() -> None:
    assert pause(60) == pytest.approx(7.2)
    assert all(unknown_pause(seconds) <= 0.12 * seconds for seconds in range(10_000))


def test_in_a_long_wait_the_share_shrinks() -> None:
    assert pause(3600) / 3600 < pause(600) / 600 < pause(60) / 60


def test_half_done_means_looking_when_most_of_the_rest_is_over() -> None:
    assert 300 + pause(300, Observation(300, 0.5)) == pytest.approx(540)


def test_near_its_end_the_next_look_is_meant_to_be_the_last() -> None:
    at = 900 + pause(900, Observation(300, 0.3), Observation(900, 0.9))
    assert 1000 < at < 1025


def test_an_estimate_reaches_no_further_than_it_was_watched() -> None:
    assert pause(10, Observation(10, 0.001)) == 15
    assert pause(3610, Observation(3600), Observation(3610, 0.001)) <= 0.03 * 3610


def test_of_two_speeds_the_faster_counts() -> None:
    steady = pause(400, Observation(200, 0.3), Observation(400, 0.6))
    faster = pause(400, Observation(200, 0.1), Observation(400, 0.6))
    assert faster < steady


def test_a_burst_that_ends_costs_looks_only() -> None:
    # From 0.2 to 0.8 within ten seconds, and then nothing: it is looked at again and again, ever less often.
    sightings = (Observation(200, 0.2), Observation(210, 0.8))
    assert pause(210, *sightings) < 10
    assert 5 <= pause(230, *sightings) < pause(600, *sightings) < unknown_pause(600) + 1


def test_work_after_the_last_percent_is_looked_at_by_its_age() -> None:
    sightings = (Observation(100, 0.5), Observation(200, 1.0))
    assert pause(200, *sightings) == 5
    assert pause(400, *sightings) == pytest.approx(22)
    assert pause(400, *sightings, Observation(400, 1.0)) == pytest.approx(22)


def test_what_starts_over_is_judged_anew() -> None:
    fallen = seen(Observation(100, 0.2), Observation(200, 0.9), Observation(300, 0.1))
    assert fallen == (Observation(300, 0.1),)
    assert next_pause(300, fallen, 5, 1000) == unknown_pause(300)


def test_a_queue_that_moves_is_waited_for_until_half_way() -> None:
    assert pause(100, Observation(10, position=40), Observation(100, position=30)) == pytest.approx(50)
    assert pause(900, Observation(0, position=40), Observation(900, position=30)) == pytest.approx(450)


@pytest.mark.parametrize("positions", [(5, 5), (5, 9), (5, None)])
def test_a_queue_that_does_not_move_says_nothing(positions: tuple[int, int | None]) -> None:
    sightings = [
        Observation(100.0 * number, position=place) for number, place in enumerate(positions, start=1)
    ]
    assert pause(200, *sightings) == unknown_pause(200)


def test_time_in_the_queue_is_no_part_of_the_work() -> None:
    queued = (Observation(1000, position=2), Observation(2000, position=1))
    assert pause(2100, *queued, Observation(2100, 0.1)) == 150


def test_a_clock_that_was_set_back_breaks_nothing() -> None:
    assert pause(-500, Observation(100, 0.5), Observation(50, 0.6)) == 5
    assert pause(0, Observation(0, 0.5), Observation(0, 0.6)) == 5


def test_the_bounds_are_those_that_were_asked_for() -> None:
    assert pause(10_000, shortest=1, longest=60) == 60
    assert pause(1, shortest=30, longest=60) == 30


sightings = st.builds(
    Observation,
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.none() | st.integers(-3, 10**9),
)


@given(
    elapsed=st.floats(-1e9, 1e9),
    found=st.lists(sightings, max_size=12),
    shortest=st.floats(0.1, 1e4),
    more=st.floats(0, 1e4),
)
def test_whatever_is_seen_the_pause_is_within_its_bounds(
    elapsed: float, found: list[Observation], shortest: float, more: float
) -> None:
    remembered = seen(*found)
    assert len(remembered) <= 3
    assert shortest <= next_pause(elapsed, remembered, shortest, shortest + more) <= shortest + more


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Observation(7)),
        ({"stage_progress": StageProgress(overall_percent=25.0)}, Observation(7, 0.25)),
        ({"stage_progress": StageProgress(overall_percent=250.0)}, Observation(7, 1.0)),
        ({"stage_progress": StageProgress(overall_percent=float("nan"))}, Observation(7)),
        ({"inference": Stage(progress=50)}, Observation(7, 0.5)),
        ({"queue": Queue(position=3)}, Observation(7, position=3)),
        ({"queue": Queue(position=0)}, Observation(7)),
        (
            {"queue": Queue(position=1), "stage_progress": StageProgress(overall_percent=5)},
            Observation(7, 0.05),
        ),
    ],
)
def test_what_counts_as_progress(fields: dict[str, object], expected: Observation) -> None:
    progress = GenerationProgress("g", "p", "processing", **fields)  # type: ignore[arg-type]
    assert Observation.of(progress, 7) == expected
