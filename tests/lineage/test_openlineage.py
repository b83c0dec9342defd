"""What OpenLineage is told, by its own listener in Airflow's own task runner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.task_runner import TaskRunner, fire

pytest.importorskip("airflow.providers.openlineage")


class Emitted:
    """The events that the listener has emitted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def last(self, kind: str) -> dict[str, Any]:
        return [event for event in self.all() if event["eventType"] == kind][-1]


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def told(event: dict[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return names(event["inputs"]), names(event["outputs"])


def diffio(event: dict[str, Any]) -> dict[str, Any]:
    """The run facet ``diffio``, without what every facet has."""
    facet = event["run"]["facets"]["diffio"]
    return {name: value for name, value in facet.items() if not name.startswith("_")}


@pytest.fixture
def emitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emitted]:
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # before Airflow 3.2
        from airflow.listeners.listener import get_listener_manager

    # Before OpenLineage is switched on: with it on, its plugin brings a listener of its own for all tests.
    manager = get_listener_manager()
    path = tmp_path / "openlineage.jsonl"
    path.touch()
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__DISABLED", "False")
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    # In a process of their own, the emissions would each copy all that pytest has in memory.
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD", "True")
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT", "60")
    from airflow.providers.openlineage.plugins.listener import OpenLineageListener

    listener = OpenLineageListener()
    manager.add_listener(listener)
    yield Emitted(path)
    manager.pm.unregister(listener)


def test_a_restoration_leads_from_recording_to_result(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    emitted: Emitted,
    slow: None,
    short_deferrals: None,
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="{{ task_instance.task_id }}.mp3",
        deferrable=True,
        poll_interval=0.1,
        dag=dag,
    )
    deferred = task_runner.run(restore)
    value = task_runner.resume(restore, fire(deferred), deferred).value

    source, result = ("file", str(recording)), ("file", str(output / "restore.mp3"))
    kinds = [event["eventType"] for event in emitted.all()]
    assert kinds == ["START", "START", "COMPLETE"]
    assert told(emitted.all()[0]) == ([source], [result])
    completed = emitted.last("COMPLETE")
    assert told(completed) == ([source], [result])
    facets = completed["outputs"][0]
    assert facets["facets"]["version"]["datasetVersion"] == value["sha256"]
    statistics = facets["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (value["size_bytes"], 1)
    assert diffio(completed) == {
        "diffio_conn_id": "diffio_default",
        "api_project_id": value["api_project_id"],
        "generation_id": value["generation_id"],
        "model": "diffio-4.6-flash",
        "download_type": "audio",
    }


def test_four_tasks_lead_there_by_project_and_generation(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, emitted: Emitted
) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    buy = DiffioCreateGenerationOperator(task_id="restore", project=upload.output, dag=dag)
    wait = DiffioGenerationSensor(task_id="wait", generation=buy.output, poke_interval=0.1, dag=dag)
    save = DiffioDownloadOperator(task_id="save", generation=wait.output, path="saved/", dag=dag)

    project = task_runner.run(upload).value
    uploaded = emitted.last("COMPLETE")
    generation = task_runner.run(buy, upstream={"upload": project}).value
    bought = emitted.last("COMPLETE")
    finished = task_runner.run(wait, upstream={"restore": generation}).value
    waited = emitted.last("COMPLETE")
    asset = task_runner.run(save, upstream={"wait": finished}).value
    saved = emitted.last("COMPLETE")

    source, result = ("file", str(recording)), ("file", asset["path"])
    made = ("diffio", f"projects/{project['api_project_id']}")
    restored = ("diffio", f"{made[1]}/generations/{generation['generation_id']}")
    assert told(uploaded) == ([source], [made])
    assert told(bought) == ([made], [restored])
    assert told(waited) == ([restored], [])
    assert told(saved) == ([restored], [result])
    # Before it is there, nobody knows what a file will be called in a directory.
    assert told(emitted.last("START")) == ([restored], [])

    size = uploaded["inputs"][0]["inputFacets"]["inputStatistics"]["size"]
    assert size == recording.stat().st_size
    ids = {name: generation[name] for name in ("api_project_id", "generation_id", "model")}
    assert diffio(bought) == {"diffio_conn_id": "diffio_default", **ids, "status": generation["status"]}
    assert diffio(waited) == {"diffio_conn_id": "diffio_default", **ids, "status": "complete"}
    assert diffio(saved) == {**diffio(waited), "download_type": "audio"}


def test_a_failure_names_the_generation_that_goes_on(
    task_runner: TaskRunner, dag: Any, recording: Path, emitted: Emitted, slow: None
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="x.mp3", timeout=0.2, poll_interval=0.1, dag=dag
    )
    assert task_runner.run(restore).state != "success"
    failed = emitted.last("FAIL")
    assert told(failed) == ([("file", str(recording))], [])
    assert diffio(failed)["generation_id"] in failed["run"]["facets"]["errorMessage"]["message"]


def test_a_bad_argument_is_no_concern_of_lineage(
    task_runner: TaskRunner,
    dag: Any,
    emitted: Emitted,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    restore = DiffioRestoreOperator(task_id="restore", source="../talk.wav", path="x.mp3", dag=dag)
    assert task_runner.run(restore).state == "failed"
    assert told(emitted.last("FAIL")) == ([], [])
    assert "failed to extract" not in caplog.text + capsys.readouterr().out


def test_a_value_that_is_not_pushed_is_told_all_the_same(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, emitted: Emitted
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="here/", do_xcom_push=False, dag=dag
    )
    assert task_runner.run(restore).state == "success"
    (result,) = (output / "here").iterdir()
    assert told(emitted.last("COMPLETE"))[1] == [("file", str(result))]


def test_no_secret_is_told(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    emitted: Emitted,
    connection: dict[str, Any],
    tmp_path: Path,
) -> None:
    restore = DiffioRestoreOperator(task_id="restore", source=str(recording), path="x.mp3", dag=dag)
    assert task_runner.run(restore).state == "success"
    text = json.dumps(emitted.all())
    assert connection["password"] not in text
    assert "download=" not in text


def test_what_a_hook_reports_reaches_openlineage_under_the_same_names(emitted: Emitted) -> None:
    from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
    from airflow.providers.common.compat.sdk import Asset

    from airflow_provider_diffio.hooks.lineage import generation_uri

    dataset = translate_airflow_asset(Asset(uri=generation_uri("p", "g")), None)
    assert (dataset.namespace, dataset.name) == ("diffio", "projects/p/generations/g")
