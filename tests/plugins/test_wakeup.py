"""Deferred tasks where webhooks are expected to resume them (experimental)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio import config
from airflow_provider_diffio.config import FALLBACK_INTERVAL, trigger_poll_intervals, wake_up_enabled
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.plugins.wakeup import WakeUp, _fits
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.features import WAKE_UP, needs
from tests.task_runner import TaskRunner, fire


@pytest.fixture
def generation(connection: dict[str, Any], recording: Path, slow: None) -> dict[str, Any]:
    hook = DiffioHook()
    return hook.create_generation(hook.create_project(recording).api_project_id).to_value()


def wait(generation: dict[str, Any], dag: Any) -> DiffioGenerationSensor:
    return DiffioGenerationSensor(task_id="wait", generation=generation, deferrable=True, dag=dag)


def test_it_is_off_unless_said_otherwise(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    assert not wake_up_enabled()
    trigger = task_runner.run(wait(generation, dag)).trigger
    assert trigger["poll_interval"] < 60
    assert trigger_poll_intervals(5.0, 180.0) == {"poll_interval": 5.0, "max_poll_interval": 180.0}


@needs(WAKE_UP)
def test_tasks_poll_slowly_where_it_is_on(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DIFFIO__WAKE_UP", "True")
    trigger = task_runner.run(wait(generation, dag)).trigger
    assert trigger["poll_interval"] == FALLBACK_INTERVAL
    assert trigger["max_poll_interval"] >= FALLBACK_INTERVAL


@needs(WAKE_UP)
def test_when_no_delivery_comes_the_polls_end_the_wait(
    task_runner: TaskRunner,
    dag: Any,
    generation: dict[str, Any],
    short_deferrals: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__DIFFIO__WAKE_UP", "True")
    monkeypatch.setattr(config, "FALLBACK_INTERVAL", 2.0)
    sensor = wait(generation, dag)
    deferred = task_runner.run(sensor)
    assert task_runner.resume(sensor, fire(deferred), deferred).value["status"] == "complete"


@pytest.mark.skipif(WAKE_UP.here, reason="about other versions")
def test_other_versions_do_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DIFFIO__WAKE_UP", "True")
    assert not wake_up_enabled()


class Event:
    event_type = "generation.completed"
    generation_id = "gen_1"


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"not_before": 0.0}, True),
        ({"generation_id": "gen_12"}, False),
        ({"diffio_conn_id": "other"}, False),
        ({"not_before": time.time() + 3600}, False),
    ],
)
def test_a_task_is_resumed_only_for_its_own_generation_and_in_time(
    changes: dict[str, Any], fits: bool
) -> None:
    arguments = {"generation_id": "gen_1", "diffio_conn_id": "c", "not_before": time.time() - 1, **changes}
    event: Any = Event()
    assert _fits(arguments, "c", event) is fits


def test_off_it_does_nothing_at_a_delivery() -> None:
    waker, event = WakeUp(), Event()
    found: Any = event
    # There is no event loop here: making a task would fail.
    waker.deliver("c", found)
    assert waker._tasks == set()
