"""The four steps and the one-task operator, on the task runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.task_runner import TaskRunner, fire


def test_one_value_flows_through_the_four_steps(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, short_deferrals: None, slow: None
) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    restore = DiffioCreateGenerationOperator(task_id="restore", project=upload.output, dag=dag)
    wait = DiffioGenerationSensor(
        task_id="wait", generation=restore.output, deferrable=True, poll_interval=0.1, dag=dag
    )
    save = DiffioDownloadOperator(task_id="save", generation=wait.output, path="{{ run_id }}/", dag=dag)

    project = task_runner.run(upload).value
    assert project == {
        "api_project_id": project["api_project_id"],
        "file_name": "talk.wav",
        "content_type": "audio/x-wav",
        "size_bytes": recording.stat().st_size,
        "status": "uploaded",
    }
    generation = task_runner.run(restore, upstream={"upload": project}).value
    assert generation["model"] == "diffio-4.6-flash"
    deferred = task_runner.run(wait, upstream={"restore": generation})
    assert deferred.state == "deferred"
    finished = task_runner.resume(wait, fire(deferred), deferred).value
    assert finished == {
        **generation,
        "status": "complete",
        "has_video": False,
        "transcription": "available",
    }
    asset = task_runner.run(save, upstream={"wait": finished}).value
    written = Path(asset["path"])
    assert written.parent.parent == output
    assert written.read_bytes() == recording.read_bytes()
    assert set(asset) == {
        "path",
        "size_bytes",
        "sha256",
        "mime_type",
        "file_name",
        "download_type",
        "generation_id",
        "api_project_id",
    }


def test_restore_does_it_in_one_task(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    short_deferrals: None,
    slow: None,
    sandbox: Sandbox,
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="one/talk.mp3",
        deferrable=True,
        poll_interval=0.1,
        dag=dag,
    )
    deferred = task_runner.run(restore)
    assert deferred.state == "deferred"
    asset = task_runner.resume(restore, fire(deferred), deferred).value
    assert asset["path"] == str(output / "one" / "talk.mp3")
    assert (output / "one" / "talk.mp3").read_bytes() == recording.read_bytes()
    assert len(sandbox.ledger()["generations"]) == 1
