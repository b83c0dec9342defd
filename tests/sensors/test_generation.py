"""The sensor in its three modes, and what a resumed task makes of an event."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.task_runner import TaskRunner, fire


@pytest.fixture
def generation(task_runner: TaskRunner, recording: Any, slow: None) -> dict[str, Any]:
    """A generation that takes a second."""
    hook = DiffioHook()
    project = hook.create_project(recording)
    return hook.create_generation(project.api_project_id, idempotency_key="test").to_value()


def sensor(dag: Any, generation: Any, **options: Any) -> DiffioGenerationSensor:
    return DiffioGenerationSensor(
        task_id="wait", generation=generation, poll_interval=0.1, poke_interval=0.1, dag=dag, **options
    )


def wait_until_over(generation: dict[str, Any]) -> None:
    DiffioHook().wait_for_generation(generation["generation_id"], poll_interval=0.1, timeout=20)


def test_poking_returns_the_finished_value(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    outcome = task_runner.run(sensor(dag, generation, deferrable=False, timeout=20))
    assert outcome.state == "success"
    assert outcome.value == {
        **generation,
        "status": "complete",
        "has_video": False,
        "transcription": "available",
    }


def test_rescheduling_gives_the_worker_back_until_it_is_over(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    wait = sensor(dag, generation, deferrable=False, mode="reschedule", timeout=60)
    assert task_runner.run(wait).state == "up_for_reschedule"
    wait_until_over(generation)
    assert task_runner.run(wait).value["status"] == "complete"


def test_deferring_returns_the_finished_value(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], short_deferrals: None
) -> None:
    wait = sensor(dag, generation, deferrable=True)
    deferred = task_runner.run(wait)
    assert deferred.state == "deferred"
    assert task_runner.resume(wait, fire(deferred), deferred).value["status"] == "complete"


def test_what_is_over_already_is_not_deferred(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    wait_until_over(generation)
    outcome = task_runner.run(sensor(dag, generation, deferrable=True))
    assert (outcome.state, outcome.value["status"]) == ("success", "complete")


def test_a_trigger_does_not_fire_while_the_scheduler_may_still_see_the_task_running(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    before = time.time()
    deferred = task_runner.run(sensor(dag, generation, deferrable=True))
    assert deferred.trigger["not_before"] >= before + 10


def test_stored_arguments_hold_ids_and_times_alone(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], sandbox: Sandbox
) -> None:
    deferred = task_runner.run(sensor(dag, generation, deferrable=True))
    assert set(deferred.trigger) == {
        "generation_id",
        "project_id",
        "diffio_conn_id",
        "started_at",
        "deadline",
        "not_before",
        "poll_interval",
        "max_poll_interval",
    }
    assert sandbox.api_key not in f"{deferred.trigger}{deferred.next_kwargs}"


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_generation_fails_the_task_for_good_and_in_diffios_words(
    task_runner: TaskRunner, dag: Any, recording: Any, sandbox: Sandbox, deferrable: bool
) -> None:
    sandbox.add_fault("fail-generation", error="Cannot decode.", errorDetails="header missing")
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id).to_value()
    with pytest.raises(Exception, match="failed"):
        wait_until_over(generation)
    outcome = task_runner.run(sensor(dag, generation, deferrable=deferrable))
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "Cannot decode: header missing" in str(outcome.error)
    assert generation["generation_id"] in str(outcome.error)


def test_an_event_is_not_trusted(task_runner: TaskRunner, dag: Any, generation: dict[str, Any]) -> None:
    wait = sensor(dag, generation, deferrable=True)
    deferred = task_runner.run(wait)
    event = {"status": "complete", **deferred.trigger}
    event.pop("not_before")
    again = task_runner.resume(wait, event, deferred)
    assert again.state == "deferred"
    assert again.trigger["deadline"] == deferred.trigger["deadline"]


@pytest.mark.parametrize("event", [None, {}, {"status": "ok"}, "complete", {"status": None}])
def test_an_unknown_event_fails_the_task(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], event: Any
) -> None:
    wait = sensor(dag, generation, deferrable=True)
    outcome = task_runner.resume(wait, event, task_runner.run(wait))
    assert outcome.state in ("failed", "up_for_retry")
    assert "event that is not known" in str(outcome.error)


def test_an_event_of_another_generation_fails_the_task(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    wait = sensor(dag, generation, deferrable=True)
    event = {"status": "complete", "generation_id": "another"}
    outcome = task_runner.resume(wait, event, task_runner.run(wait))
    assert "resumed for another one" in str(outcome.error)


def test_the_deadline_is_a_sensor_timeout(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], short_deferrals: None
) -> None:
    wait = sensor(dag, generation, deferrable=True, timeout=0.3)
    deferred = task_runner.run(wait)
    event = fire(deferred)
    assert event["status"] == "timeout"
    outcome = task_runner.resume(wait, event, deferred)
    assert type(outcome.error).__name__ == "AirflowSensorTimeout"
    assert "billed once" in str(outcome.error)


def test_soft_fail_skips_after_the_deadline(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], short_deferrals: None
) -> None:
    wait = sensor(dag, generation, deferrable=True, timeout=0.3, soft_fail=True)
    deferred = task_runner.run(wait)
    assert task_runner.resume(wait, fire(deferred), deferred).state == "skipped"


@pytest.mark.parametrize("generation", [None, "gen-1", {"generation_id": "gen-1"}, {}, {"api_project_id": 3}])
def test_a_value_that_is_no_generation_is_named(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, generation: Any
) -> None:
    outcome = task_runner.run(sensor(dag, generation, deferrable=True))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "generation must be a mapping" in str(outcome.error)
    assert sandbox.requests() == []


def test_poking_rides_out_an_outage(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], sandbox: Sandbox
) -> None:
    sandbox.add_fault("status", path="*get_generation_progress", status=503, nth=1, times=6)
    assert (
        task_runner.run(sensor(dag, generation, deferrable=False, timeout=30)).value["status"] == "complete"
    )


@pytest.mark.parametrize("deferrable", [False, True])
def test_soft_fail_skips_a_failed_generation(
    task_runner: TaskRunner, dag: Any, recording: Any, sandbox: Sandbox, deferrable: bool
) -> None:
    sandbox.add_fault("fail-generation", error="Cannot decode.")
    hook = DiffioHook()
    generation = hook.create_generation(hook.create_project(recording).api_project_id).to_value()
    with pytest.raises(Exception, match="failed"):
        wait_until_over(generation)
    wait = sensor(dag, generation, deferrable=deferrable, soft_fail=True)
    assert task_runner.run(wait).state == "skipped"


def test_soft_fail_skips_after_the_timeout_of_poking(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any]
) -> None:
    wait = sensor(dag, generation, deferrable=False, timeout=0.2, soft_fail=True)
    assert task_runner.run(wait).state == "skipped"


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("wrong", ["key", "argument", "connection"])
def test_soft_fail_hides_no_fault_of_the_dag(
    task_runner: TaskRunner,
    dag: Any,
    generation: dict[str, Any],
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
    wrong: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps({**connection, "password": "wrong"}))
    conn_ids = {"key": "wrong", "connection": "none_such", "argument": "diffio_default"}
    wait = sensor(
        dag,
        {"generation_id": 3} if wrong == "argument" else generation,
        deferrable=deferrable,
        soft_fail=True,
        diffio_conn_id=conn_ids[wrong],
    )
    outcome = task_runner.run(wait)
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"


def test_soft_fail_hides_no_wrong_key_after_a_deferral(
    task_runner: TaskRunner,
    dag: Any,
    generation: dict[str, Any],
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait = sensor(dag, generation, deferrable=True, soft_fail=True)
    deferred = task_runner.run(wait)
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "password": "wrong"}))
    event = {"status": "error", "generation_id": generation["generation_id"], "project_id": "x"}
    outcome = task_runner.resume(wait, event, deferred)
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"
