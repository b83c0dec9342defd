"""What the demo says, and when it says that it failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.demo import report
from tests.demo.measure import Figures
from tests.demo.report import DemoFailedError
from tests.e2e.local_airflow import HistoryEntry, TaskChange, TaskInstance

GOOD = Figures(noisy_snr_db=8.0, restored_snr_db=13.6, noisy_floor_db=-32.0, restored_floor_db=-62.2)
START = datetime(2026, 1, 1, tzinfo=UTC)


def change(task_id: str, before: str | None, state: str) -> TaskChange:
    task = TaskInstance(task_id, -1, state, try_number=1, pid=None, started=None, ended=None)
    return TaskChange(task, before, 3.0)


def happened(task_id: str, *events: tuple[float, str]) -> list[HistoryEntry]:
    return [HistoryEntry(START + timedelta(seconds=at), task_id, -1, 1, event) for at, event in events]


@pytest.mark.parametrize(
    ("task_id", "before", "state", "said"),
    [
        ("upload", None, "running", "uploading the recording"),
        ("upload", "running", "success", "done"),
        ("wait", "running", "deferred", "deferred: waits on the triggerer, no worker slot in use"),
        ("save", "queued", "running", "downloading the restored recording"),
        ("save", "running", "failed", "FAILED"),
        ("something_new", None, "running", "working"),
    ],
)
def test_a_change_is_told_in_plain_words(task_id: str, before: str | None, state: str, said: str) -> None:
    assert report.describe(change(task_id, before, state)) == said


@pytest.mark.parametrize("state", ["scheduled", "queued", "none"])
def test_states_that_mean_nothing_to_a_reader_are_left_out(state: str) -> None:
    assert report.describe(change("upload", None, state)) is None


def test_a_busy_worker_is_not_hidden() -> None:
    said = report.describe(change("wait", "running", "deferred"), ["save"])
    assert said == "deferred: waits on the triggerer, tasks on workers: save"


def test_progress_lines_stand_in_columns() -> None:
    assert report.line(4.25, "upload", "done") == "   4.2 s  upload           done"
    assert report.line(120.0, "save_transcript", "done") == " 120.0 s  save_transcript  done"


def test_deferrals_are_read_from_the_record() -> None:
    history = [
        *happened("restore", (0, "running"), (1, "success")),
        *happened("wait", (2, "running"), (3, "deferred"), (20, "running"), (21, "success")),
    ]
    (wait,) = report.deferrals(history, "wait")
    assert wait.seconds == 17
    said = report.describe_deferrals([wait], "trigger starting")
    assert said == "17.0 s on the triggerer, without a worker slot"


def test_a_task_may_be_deferred_more_than_once() -> None:
    events = ((0, "deferred"), (5, "running"), (6, "deferred"), (9, "queued"), (10, "running"))
    waits = report.deferrals(happened("wait", *events), "wait")
    assert [wait.seconds for wait in waits] == [5, 3]


@pytest.mark.parametrize(
    ("events", "log"),
    [
        ([(0.0, "running"), (20.0, "success")], "trigger starting"),
        ([(0.0, "running"), (1.0, "deferred"), (20.0, "running")], "\n"),
    ],
)
def test_a_wait_that_held_a_worker_fails_the_demo(events: list[tuple[float, str]], log: str) -> None:
    with pytest.raises(DemoFailedError, match="held a worker slot"):
        report.describe_deferrals(report.deferrals(happened("wait", *events), "wait"), log)


def test_a_clear_improvement_passes() -> None:
    report.check(GOOD)


@pytest.mark.parametrize(
    ("restored_snr", "restored_floor", "said"),
    [
        (13.6, -43.9, "noise floor fell by 11.9 dB, not 12"),
        (11.9, -62.0, "speech rose by 3.9 dB above the noise, not 4"),
        (8.0, -32.0, "noise floor.*speech"),
    ],
)
def test_too_little_improvement_fails_the_demo(restored_snr: float, restored_floor: float, said: str) -> None:
    figures = Figures(8.0, restored_snr, -32.0, restored_floor)
    with pytest.raises(DemoFailedError, match=said):
        report.check(figures)


def test_the_figures_stand_in_a_table() -> None:
    assert report.measured(GOOD) == [
        "                                  before       after      change",
        "noise floor in the pauses     -32.0 dBFS  -62.2 dBFS    -30.2 dB",
        "speech above the noise            8.0 dB     13.6 dB     +5.6 dB",
    ]


def test_paths_are_shown_from_where_the_reader_is() -> None:
    assert report.shown(Path("/home/me/project/.demo/a.mp3"), Path("/home/me/project")) == ".demo/a.mp3"
    assert report.shown(Path("/elsewhere/a.mp3"), Path("/home/me/project")) == "/elsewhere/a.mp3"
