"""Lineage leads from the recording to the restored file, in one task or over several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.lineage import dataset_name, is_named_by_connection
from airflow_provider_diffio.operators import DiffioCreateProjectOperator, DiffioRestoreOperator
from airflow_provider_diffio.storage import resolve
from airflow_provider_diffio.storage.filesystems import FixedStore
from tests.features import INSTALLED
from tests.task_runner import TaskRunner, fire


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Airflow's own collector, as it is where a lineage tool is installed."""
    try:
        from airflow.sdk.lineage import HookLineageCollector
    except ImportError:
        from airflow.lineage.hook import HookLineageCollector

    found = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_diffio.hooks.lineage._collector", lambda: _AssetNames(found))
    return found


class _AssetNames:
    """The collector under its newer names, which Airflow 2 reaches through common-compat."""

    def __init__(self, found: Any) -> None:
        self.add_input_asset = getattr(found, "add_input_asset", None) or found.add_input_dataset
        self.add_output_asset = getattr(found, "add_output_asset", None) or found.add_output_dataset


def seen(collector: Any) -> tuple[list[str], list[str]]:
    lineage = getattr(collector, "collected_assets", None) or collector.collected_datasets
    uris = [
        [getattr(entry, "asset", None) or entry.dataset for entry in side]
        for side in (lineage.inputs, lineage.outputs)
    ]
    return [a.uri for a in uris[0]], [a.uri for a in uris[1]]


def test_a_restoration_leads_from_source_to_result(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    collector: Any,
    slow: None,
    short_deferrals: None,
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="x.mp3",
        deferrable=True,
        poll_interval=0.1,
        dag=dag,
    )
    deferred = task_runner.run(restore)
    # The phase that a lineage tool looks at is the one that ends the task.
    collector._inputs.clear()
    collector._outputs.clear()
    asset = task_runner.resume(restore, fire(deferred), deferred).value
    inputs, outputs = seen(collector)
    project = f"diffio://projects/{asset['api_project_id']}"
    generation = f"{project}/generations/{asset['generation_id']}"
    assert inputs == [recording.as_uri(), project, generation]
    assert outputs == [project, generation, (output / "x.mp3").as_uri()]


def test_an_upload_and_a_download_meet_at_the_project(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, collector: Any
) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    project = f"diffio://projects/{task_runner.run(upload).value['api_project_id']}"
    assert seen(collector) == ([recording.as_uri()], [project])

    hook = DiffioHook()
    generation = hook.create_generation(project.rpartition("/")[2])
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1)
    hook.download(generation.generation_id, generation.api_project_id, "y.mp3")
    bought = f"{project}/generations/{generation.generation_id}"
    assert seen(collector) == (
        [recording.as_uri(), project, bought],
        [project, bought, (output / "y.mp3").as_uri()],
    )


def test_names_that_a_uri_can_not_hold_are_quoted(
    task_runner: TaskRunner, dag: Any, tmp_path: Path, collector: Any
) -> None:
    recording = tmp_path / "Größe? #1 100%.wav"
    recording.write_bytes(b"RIFF" + bytes(400))
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert task_runner.run(upload).state == "success"
    name = "Größe%3F %231 100%.wav" if INSTALLED >= (3, 1) else "Gr%C3%B6%C3%9Fe%3F %231 100%.wav"
    assert seen(collector)[0] == [f"file://{tmp_path}/{name}"]


def test_a_lineage_tool_that_fails_fails_no_task(
    task_runner: TaskRunner, dag: Any, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def fail() -> Any:
        called.append("collector")
        raise RuntimeError("out of order")

    monkeypatch.setattr("airflow_provider_diffio.hooks.lineage._collector", fail)
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert task_runner.run(upload).state == "success"
    assert called == ["collector"]


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/Größe #1.wav", "file", "/data/Größe #1.wav"),
        ("file:///data/a.wav", "file", "/data/a.wav"),
        ("s3://minio@raw/2026/a b.wav", "s3://raw", "2026/a b.wav"),
        ("s3a://raw/a.wav", "s3://raw", "a.wav"),
        ("gcs://raw/a.wav", "gs://raw", "a.wav"),
        ("abfs://azure@raw/a.wav", "abfs://raw", "a.wav"),
        ("sftp://host/data/a.wav", "file://host", "/data/a.wav"),
        ("sftp:///data/a.wav", "sftp", "/data/a.wav"),
        ("hdfs://host:9000/data/a.wav", "hdfs://host:9000", "/data/a.wav"),
    ],
)
def test_files_have_the_names_that_openlineage_gives_them(path: str, namespace: str, name: str) -> None:
    # None of these connections exists: only the name is asked for.
    assert dataset_name(resolve(path, connect=False)) == (namespace, name)


def test_a_container_is_named_with_its_account_once_that_is_known() -> None:
    location = resolve("abfs://raw/a.wav", connect=False)
    assert is_named_by_connection(location)
    connected = replace(location, store=FixedStore(SimpleNamespace(account_name="studio")))  # type: ignore[call-arg]
    assert dataset_name(connected) == ("abfss://raw@studio.dfs.core.windows.net", "a.wav")


def test_without_a_lineage_tool_nothing_is_collected(
    task_runner: TaskRunner, dag: Any, recording: Path
) -> None:
    from airflow_provider_diffio.hooks.lineage import _collector

    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert task_runner.run(upload).state == "success"
    lineage = _collector().collected_assets
    assert (list(lineage.inputs), list(lineage.outputs)) == ([], [])
