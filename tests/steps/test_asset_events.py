"""The events of a task's outlets say which file was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioDownloadOperator, DiffioRestoreOperator
from tests.features import INSTALLED
from tests.task_runner import AIRFLOW_3, TaskRunner, fire, new_id


class Events:
    """The asset events that a task left behind, as (URI, extra)."""

    def __init__(self, task_runner: Any) -> None:
        self._sent: list[dict[str, Any]] = []
        if AIRFLOW_3:
            self._answer = task_runner._answer
            task_runner._answer = self._listen

    def _listen(self, request: Any) -> Any:
        if request.method == "PATCH" and request.url.path.endswith("/state"):
            self._sent += json.loads(request.content).get("outlet_events") or []
        return self._answer(request)

    def all(self) -> list[tuple[str, dict[str, Any]]]:
        if AIRFLOW_3:
            return [(event["dest_asset_key"]["uri"], event["extra"]) for event in self._sent]
        from airflow.models.dataset import DatasetEvent, DatasetModel
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.query(DatasetEvent, DatasetModel.uri).join(
                DatasetModel, DatasetModel.id == DatasetEvent.dataset_id
            )
            return [(uri, event.extra) for event, uri in found.order_by(DatasetEvent.id)]

    def of(self, uri: str) -> list[dict[str, Any]]:
        return [extra for found, extra in self.all() if found == uri]


@pytest.fixture
def events(task_runner: TaskRunner) -> Events:
    return Events(task_runner)


def test_an_asset_learns_what_was_written(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    events: Events,
    slow: None,
    short_deferrals: None,
) -> None:
    uri = f"s3://restored/{new_id('talk')}.mp3"
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="talk.mp3",
        deferrable=True,
        poll_interval=0.1,
        outlets=[Asset(uri=uri)],
        dag=dag,
    )
    deferred = task_runner.run(restore)
    assert events.of(uri) == []
    value = task_runner.resume(restore, fire(deferred), deferred).value
    assert events.of(uri) == [value]
    assert value["path"] == str(output / "talk.mp3")


def test_an_alias_gets_the_asset_that_the_file_is(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, events: Events
) -> None:
    name = new_id("Größe #")
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id)
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1)
    save = DiffioDownloadOperator(
        task_id="save",
        generation=generation.to_value(),
        path=f"{name}/",
        outlets=[AssetAlias(new_id("restored"))],
        dag=dag,
    )
    value = task_runner.run(save).value
    directory = name.replace("#", "%23")
    if INSTALLED < (3, 1):  # which takes ASCII alone
        directory = directory.replace("öß", "%C3%B6%C3%9F")
    assert events.of(f"file://{output}/{directory}/{value['file_name']}") == [value]


def test_outlets_that_can_not_be_told_do_not_undo_the_download(
    task_runner: TaskRunner, dag: Any, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def fail(task: Any, context: Any, location: Any, value: Any) -> None:
        told.append(location.uri)
        raise ValueError("no such outlet")

    monkeypatch.setattr("airflow_provider_diffio.steps.asset_events._fill_outlets", fail)
    restore = DiffioRestoreOperator(task_id="restore", source=str(recording), path="x.mp3", dag=dag)
    outcome = task_runner.run(restore)
    assert (outcome.state, told) == ("success", [outcome.value["path"]])
