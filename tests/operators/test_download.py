"""Writing results to the path that a connection configures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateProjectOperator, DiffioDownloadOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.s3 import s3_server
from tests.task_runner import TaskRunner


@pytest.fixture
def generation(task_runner: TaskRunner, recording: Path) -> dict[str, Any]:
    """A generation that is complete."""
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id)
    hook.wait_for_generation(generation.generation_id, project.api_project_id, poll_interval=0.1)
    return generation.to_value()


def save(dag: Any, generation: Any, path: str, **options: Any) -> DiffioDownloadOperator:
    return DiffioDownloadOperator(task_id="save", generation=generation, path=path, dag=dag, **options)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A bucket on a real S3 server, reached through the connection ``aws_test``."""
    import boto3

    with s3_server() as endpoint:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="archive")
        extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        fields = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        os.environ["AIRFLOW_CONN_AWS_TEST"] = json.dumps(fields)
        yield client
        del os.environ["AIRFLOW_CONN_AWS_TEST"]


def test_a_relative_path_is_below_the_connections_output_path(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], output: Path, recording: Path
) -> None:
    asset = task_runner.run(save(dag, generation, "a/b.mp3")).value
    assert asset["path"] == str(output / "a" / "b.mp3")
    assert asset["sha256"] == hashlib.sha256(recording.read_bytes()).hexdigest()
    assert asset["size_bytes"] == recording.stat().st_size
    assert list((output / "a").iterdir()) == [output / "a" / "b.mp3"]


def test_an_fs_connection_is_a_root_of_its_own(
    task_runner: TaskRunner,
    dag: Any,
    generation: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {"conn_type": "fs", "extra": {"path": str(tmp_path / "elsewhere")}}
    monkeypatch.setenv("AIRFLOW_CONN_RESULTS", json.dumps(fields))
    asset = task_runner.run(save(dag, generation, "x.mp3", output_conn_id="results")).value
    assert asset["path"] == str(tmp_path / "elsewhere" / "x.mp3")


def test_a_result_goes_to_s3_and_its_path_holds_no_credential(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], recording: Path, s3: Any
) -> None:
    asset = task_runner.run(save(dag, generation, "s3://aws_test@archive/{{ run_id }}/talk.mp3")).value
    assert asset["path"].startswith("s3://archive/")
    key = asset["path"].removeprefix("s3://archive/")
    assert s3.get_object(Bucket="archive", Key=key)["Body"].read() == recording.read_bytes()


def test_a_recording_comes_from_s3(task_runner: TaskRunner, dag: Any, recording: Path, s3: Any) -> None:
    s3.put_object(Bucket="archive", Key="raw/talk.wav", Body=recording.read_bytes())
    upload = DiffioCreateProjectOperator(
        task_id="upload", source="s3://aws_test@archive/raw/talk.wav", dag=dag
    )
    project = task_runner.run(upload).value
    assert (project["file_name"], project["size_bytes"]) == ("talk.wav", recording.stat().st_size)


@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_download_that_breaks_for_good_leaves_nothing(
    task_runner: TaskRunner,
    dag: Any,
    generation: dict[str, Any],
    output: Path,
    sandbox: Sandbox,
    s3: Any,
    store: str,
) -> None:
    sandbox.add_fault("truncate", path="/m/*", nth="every", bytes=1000)
    path = "s3://aws_test@archive/broken/x.mp3" if store == "s3" else "x.mp3"
    outcome = task_runner.run(save(dag, generation, path))
    assert outcome.error is not None
    assert list(output.iterdir()) == []
    assert s3.list_objects_v2(Bucket="archive", Prefix="broken/").get("KeyCount") == 0
    assert not s3.list_multipart_uploads(Bucket="archive").get("Uploads")


def test_a_broken_download_leaves_the_old_file_alone(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], output: Path, sandbox: Sandbox
) -> None:
    (output / "x.mp3").write_bytes(b"old")
    sandbox.add_fault("status", path="/m/*", nth="every", status=500)
    assert task_runner.run(save(dag, generation, "x.mp3")).error is not None
    assert (output / "x.mp3").read_bytes() == b"old"


def test_overwrite_error_keeps_what_is_there_and_asks_for_nothing(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], output: Path, sandbox: Sandbox
) -> None:
    (output / "x.mp3").write_bytes(b"old")
    before = len(sandbox.requests())
    outcome = task_runner.run(save(dag, generation, "x.mp3", overwrite="error"))
    assert "exists already" in str(outcome.error)
    assert (output / "x.mp3").read_bytes() == b"old"
    assert len(sandbox.requests()) == before


def test_a_transcript_is_json(task_runner: TaskRunner, dag: Any, generation: dict[str, Any]) -> None:
    asset = task_runner.run(save(dag, generation, "t/", download_type="transcript")).value
    assert asset["mime_type"] == "application/json"
    assert "segments" in json.loads(Path(asset["path"]).read_text())


def test_mp3_is_another_word_for_audio(task_runner: TaskRunner, dag: Any, generation: dict[str, Any]) -> None:
    assert task_runner.run(save(dag, generation, "x/", download_type="mp3")).value["download_type"] == "audio"


def test_a_missing_transcript_is_final(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("transcript-unavailable")
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id)
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1)
    outcome = task_runner.run(save(dag, generation.to_value(), "t.json", download_type="transcript"))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "restored audio can still be downloaded" in str(outcome.error)


@pytest.mark.parametrize("path", ["../x.mp3", "a/../../x.mp3", "a\\..\\x.mp3", "", "a\x00b"])
def test_a_path_does_not_leave_its_root(
    task_runner: TaskRunner, dag: Any, generation: dict[str, Any], path: str, output: Path
) -> None:
    outcome = task_runner.run(save(dag, generation, path))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert list(output.parent.glob("*.mp3")) == []
