"""After a deferral the stored values count, and never what the templates give by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.task_runner import TaskRunner, fire

pytestmark = pytest.mark.usefixtures("slower", "short_deferrals")
PAUSES: dict[str, Any] = {"poll_interval": 0.1, "max_poll_interval": 0.2, "deferrable": True}


@pytest.fixture
def slower(sandbox: Sandbox) -> None:
    """Let a generation run until its task has surely deferred, on a busy machine, too."""
    sandbox.add_fault("processing-seconds", seconds=3.0, nth="every")


@pytest.mark.parametrize("then", [{"generation_id": "gen-2", "api_project_id": "proj-2"}, None])
def test_the_sensor_returns_what_it_waited_for(
    task_runner: TaskRunner, dag: Any, recording: Path, then: dict[str, str] | None
) -> None:
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id, idempotency_key="first")
    sensor = DiffioGenerationSensor(task_id="wait", generation=generation.to_value(), dag=dag, **PAUSES)
    deferred = task_runner.run(sensor)
    assert deferred.state == "deferred", deferred.error
    sensor.generation = then
    done = task_runner.resume(sensor, fire(deferred), deferred)
    assert done.state == "success", done.error
    assert (done.value["generation_id"], done.value["api_project_id"]) == (
        generation.generation_id,
        project.api_project_id,
    )


def test_a_restoration_goes_where_it_was_told(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, sandbox: Sandbox
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="first.mp3", dag=dag, **PAUSES
    )
    deferred = task_runner.run(restore)
    assert deferred.state == "deferred", deferred.error
    restore.source, restore.path = "/no/such/file.wav", "second.mp3"
    restore.download_type, restore.model = "transcript", "no-such-model"
    done = task_runner.resume(restore, fire(deferred), deferred)
    assert done.state == "success", done.error
    assert done.value["path"] == str(output / "first.mp3")
    assert done.value["download_type"] == "audio"
    assert [path.name for path in output.iterdir()] == ["first.mp3"]
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_a_start_returns_what_it_started(task_runner: TaskRunner, dag: Any, recording: Path) -> None:
    project = DiffioHook().create_project(recording)
    start = DiffioCreateGenerationOperator(
        task_id="start", project=project.api_project_id, wait_for_completion=True, dag=dag, **PAUSES
    )
    deferred = task_runner.run(start)
    assert deferred.state == "deferred", deferred.error
    start.project = None
    done = task_runner.resume(start, fire(deferred), deferred)
    assert done.state == "success", done.error
    assert done.value["api_project_id"] == project.api_project_id
