"""The decision what to do after each look at a generation; time is passed in."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.models import GenerationProgress, StageProgress
from airflow_provider_diffio.api.polling import (
    Failed,
    GenerationWait,
    PollAgain,
    Succeeded,
    WaitDriver,
    WaitSpec,
    check_intervals,
    steady_clock,
)

NOW = 1_800_000_000.0


def wait(timeout: float = 3600, **options: Any) -> GenerationWait:
    return GenerationWait(WaitSpec("g", "p", started_at=NOW, deadline=NOW + timeout, **options))


def seen(status: str, **fields: Any) -> GenerationProgress:
    return GenerationProgress("g", "p", status, **fields)


def failure(decision: Any) -> errors.DiffioError:
    assert isinstance(decision, Failed)
    return decision.error


def pause(decision: Any, now: float) -> float:
    assert isinstance(decision, PollAgain)
    return decision.at - now


def test_complete_is_success() -> None:
    progress = seen("complete", has_video=True)
    assert wait().on_progress(progress, NOW) == Succeeded(progress)


def test_complete_is_success_even_after_the_deadline() -> None:
    assert isinstance(wait(timeout=10).on_progress(seen("complete"), NOW + 99), Succeeded)


@pytest.mark.parametrize("word", ["failed", "error"])
def test_failed_is_a_failure_with_diffios_words(word: str) -> None:
    error = failure(wait().on_progress(seen(word, error="Decoder.", error_details="At 3 s."), NOW))
    assert isinstance(error, errors.DiffioGenerationFailedError)
    assert (error.error, error.error_details, error.may_be_billed) == ("Decoder.", "At 3 s.", True)
    assert (error.generation_id, error.project_id) == ("g", "p")
    assert error.message == f"Diffio reports the generation as {word}: Decoder: At 3 s."


def test_a_failure_without_words_is_told_without_them() -> None:
    assert failure(wait().on_progress(seen("failed"), NOW)).message == (
        "Diffio reports the generation as failed."
    )


def test_a_failure_of_many_lines_is_told_in_one() -> None:
    error = failure(wait().on_progress(seen("failed", error="a\nb" * 9999, error_details="c\nd" * 9999), NOW))
    assert error.message.isprintable()
    assert len(error.message) < 1200


@pytest.mark.parametrize("word", ["queued", "pending", "processing", "reticulating", "Complete"])
def test_any_other_word_means_not_over(word: str) -> None:
    assert isinstance(wait().on_progress(seen(word), NOW), PollAgain)


def test_finished_stages_do_not_end_it() -> None:
    progress = seen("processing", stage="complete")
    assert isinstance(wait().on_progress(progress, NOW), PollAgain)


def test_the_deadline_is_absolute() -> None:
    waiting = wait(timeout=100)
    assert isinstance(waiting.on_progress(seen("queued"), NOW + 99.9), PollAgain)
    error = failure(waiting.on_progress(seen("processing", stage="restoring"), NOW + 100))
    assert isinstance(error, errors.DiffioGenerationTimeoutError)
    assert error.message == "The generation was not over after 100 s; last seen: processing, stage restoring."
    assert (error.generation_id, error.project_id, error.may_be_billed) == ("g", "p", True)


def test_no_look_is_planned_beyond_the_deadline() -> None:
    assert pause(wait(timeout=3).on_progress(seen("queued"), NOW), NOW) == 3


@pytest.mark.parametrize(
    "error",
    [
        errors.DiffioConnectionError("No response."),
        errors.DiffioServerError("Down."),
        errors.DiffioRateLimitError("Slow down."),
        errors.DiffioResponseError("responded with text/html"),
    ],
)
def test_an_outage_is_ridden_out_until_the_deadline(error: errors.DiffioError) -> None:
    waiting = wait(timeout=100)
    for second in range(100):
        assert isinstance(waiting.on_error(error, NOW + second), PollAgain)
    timeout = failure(waiting.on_error(error, NOW + 100))
    assert isinstance(timeout, errors.DiffioGenerationTimeoutError)
    assert timeout.message.endswith(f"last seen: nothing. The last poll failed: {error.message}")


def test_trouble_that_passed_is_not_reported() -> None:
    waiting = wait(timeout=100)
    waiting.on_error(errors.DiffioServerError("Down."), NOW)
    assert "Down" not in failure(waiting.on_progress(seen("queued"), NOW + 100)).message


@pytest.mark.parametrize(
    "error",
    [
        errors.DiffioAuthenticationError("No."),
        errors.DiffioPermissionError("No."),
        errors.DiffioNotFoundError("No."),
        errors.DiffioBillingError("No."),
        errors.DiffioApiError("No.", status_code=400),
        errors.DiffioInputError("No."),
    ],
)
def test_what_will_not_pass_fails_at_once(error: errors.DiffioError) -> None:
    assert failure(wait().on_error(error, NOW)) is error
    assert error.may_be_billed


def test_retry_after_is_the_least_wait() -> None:
    error = errors.DiffioRateLimitError("Slow down.", retry_after=50)
    pauses = [pause(wait().on_error(error, NOW), NOW) for _ in range(100)]
    assert 50 <= min(pauses) < max(pauses) <= 55


def test_retry_after_does_not_move_the_deadline() -> None:
    error = errors.DiffioRateLimitError("Slow down.", retry_after=9999)
    assert pause(wait(timeout=60).on_error(error, NOW), NOW) == 60


def test_the_first_interval_is_the_one_asked_for() -> None:
    pauses = [pause(wait(poll_interval=10).on_progress(seen("queued"), NOW), NOW) for _ in range(100)]
    assert 9 <= min(pauses) < max(pauses) <= 11


def test_intervals_grow_with_the_time_waited_and_are_bounded() -> None:
    waiting = wait(timeout=1e6, poll_interval=5, max_poll_interval=60)
    pauses = [
        sum(pause(waiting.on_progress(seen("queued"), NOW + s), NOW + s) for _ in range(50)) / 50
        for s in (0, 300, 600, 5000)
    ]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 66


def test_a_clock_that_goes_backwards_makes_no_hot_loop() -> None:
    assert pause(wait(poll_interval=5).on_progress(seen("queued"), NOW - 9999), NOW - 9999) >= 4.5


def test_the_interval_asked_for_outranks_the_bound() -> None:
    waiting = wait(poll_interval=120, max_poll_interval=60)
    assert 108 <= pause(waiting.on_progress(seen("queued"), NOW), NOW) <= 132


@pytest.mark.parametrize("bad", [0, -1, 0.05, float("nan"), float("inf"), True, "5", None])
def test_an_interval_that_makes_a_hot_loop_is_refused(bad: Any) -> None:
    for poll_interval, max_poll_interval in ((bad, 60), (5, bad)):
        with pytest.raises(errors.DiffioInputError, match=r"poll_interval must be at least 0.1 seconds"):
            check_intervals(poll_interval, max_poll_interval)
    with pytest.raises(errors.DiffioInputError):
        wait(poll_interval=bad)


def test_progress_moves_the_next_look() -> None:
    waiting = wait(poll_interval=5, max_poll_interval=600)
    half = seen("processing", stage_progress=StageProgress(overall_percent=50.0))
    assert pause(waiting.on_progress(half, NOW + 300), NOW + 300) > 200
    almost = seen("processing", stage_progress=StageProgress(overall_percent=99.0))
    assert pause(waiting.on_progress(almost, NOW + 540), NOW + 540) < 25


def test_a_new_waiter_begins_when_somebody_listens() -> None:
    looks = [wait(poll_interval=5).begin(NOW + 1, not_before=NOW + 10).at - NOW for _ in range(100)]
    assert 10 <= min(looks) < max(looks) <= 10.5
    assert wait(poll_interval=60).begin(NOW + 1, not_before=NOW + 10).at >= NOW + 60


def test_restarted_waiters_do_not_begin_together() -> None:
    looks = [wait(timeout=1e5).begin(NOW + 3600, not_before=NOW + 10).at - NOW - 3600 for _ in range(300)]
    assert 0 <= min(looks) < 15
    assert 50 < max(looks) <= 180


def test_nobody_begins_after_the_deadline() -> None:
    assert wait(timeout=3).begin(NOW, not_before=NOW + 10).at == NOW + 3


class Clock:
    """A clock that only sleeping moves, and what was done when."""

    def __init__(self, *progress: GenerationProgress | errors.DiffioError) -> None:
        self.now = NOW
        self.done: list[str] = []
        self._progress = list(progress)

    def ask(self) -> GenerationProgress:
        self.done.append("poll")
        progress = self._progress.pop(0)
        if isinstance(progress, errors.DiffioError):
            raise progress
        return progress

    def sleep(self, seconds: float) -> None:
        self.done.append("sleep")
        self.now += seconds

    def driver(self, **options: Any) -> WaitDriver:
        spec = WaitSpec("g", "p", started_at=NOW, deadline=NOW + 100)
        return WaitDriver(spec, self.ask, clock=lambda: self.now, sleep=self.sleep, **options)


def test_the_driver_goes_on_from_the_first_decision() -> None:
    clock = Clock(seen("processing"), errors.DiffioServerError("Down."), seen("complete"))
    driver = clock.driver()
    first = driver.poll()
    assert driver.run(first) == Succeeded(seen("complete"))
    assert clock.done == ["poll", "sleep", "poll", "sleep", "poll"]


def test_the_driver_polls_at_once_and_gives_up_at_the_deadline() -> None:
    clock = Clock(*[seen("processing")] * 1000)
    decision = clock.driver().run()
    assert isinstance(failure(decision), errors.DiffioGenerationTimeoutError)
    assert clock.done[:2] == ["poll", "sleep"]
    assert clock.now == NOW + 100


def test_the_driver_tells_what_each_poll_brought() -> None:
    told: list[Any] = []

    class Observer:
        def progress(self, progress: GenerationProgress) -> None:
            told.append(progress.status)

        def trouble(self, error: errors.DiffioError) -> None:
            told.append(error.message)

    clock = Clock(errors.DiffioServerError("Down."), seen("queued"), seen("complete"))
    clock.driver(observer=Observer()).run()
    assert told == ["Down.", "queued", "complete"]


def test_a_clock_that_is_set_back_holds_no_wait_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = steady_clock()
    before = clock()
    monkeypatch.setattr("time.time", lambda: before - 86_400)
    assert 0 <= clock() - before < 60
