"""What a version of this package stored is read, and gone on with, by this one."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.models import Generation, Project
from airflow_provider_diffio.assets import finished_generations
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.sources import content_digest
from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.steps.create_generation import GenerationOptions, TaskIdentity
from airflow_provider_diffio.steps.create_project import Recording
from airflow_provider_diffio.steps.download import Destination
from airflow_provider_diffio.steps.restoration import (
    SCHEMA,
    Restoration,
    UnreadableRecordError,
    fingerprint,
)
from airflow_provider_diffio.storage import resolve
from airflow_provider_diffio.triggers._watermark import ReportBook
from tests.features import STATE_STORE, needs
from tests.task_runner import Outcome, TaskRunner, fire
from tests.upgrade.frozen import NEWEST, VERSIONS, frozen, shape

each_version = pytest.mark.parametrize("version", VERSIONS)


def made_again(stored: dict[str, Any]) -> Any:
    module, _, name = stored["classpath"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**stored["kwargs"])


@pytest.fixture
def started(connection: dict[str, Any], recording: Path) -> dict[str, str]:
    """A generation of the sandbox, in the place of the one that was stored."""
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id)
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1, timeout=30)
    return {"generation_id": generation.generation_id, "project_id": project.api_project_id}


# --- triggers -------------------------------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("name", ["trigger_generation", "trigger_events"])
def test_a_stored_trigger_is_made_again(version: str, name: str) -> None:
    stored = frozen(version, name)
    classpath, arguments = made_again(stored).serialize()
    newest = frozen(NEWEST, name)
    assert (classpath, shape(arguments)) == (newest["classpath"], shape(newest["kwargs"]))
    assert {name: arguments[name] for name in stored["kwargs"]} == stored["kwargs"]


@each_version
def test_a_stored_trigger_sends_the_event_that_a_deferred_task_knows(
    version: str, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was stored long ago is polled at a random time within the next minutes: here, at their beginning.
    monkeypatch.setattr("airflow_provider_diffio.api.polling.random.uniform", lambda low, _: low)
    trigger = made_again(frozen(version, "trigger_generation", started))

    async def first_event() -> Any:
        return (await anext(trigger.run())).payload

    event = asyncio.run(first_event())
    assert event["status"] == "complete"
    assert shape(event) == shape(frozen(NEWEST, "event_generation"))


# --- deferred tasks -------------------------------------------------------------------------------------


def resumed(task_runner: TaskRunner, operator: Any, version: str, name: str, filled: dict[str, str]) -> Any:
    """Go on with a task as it was stored when it deferred, after another one took its place in the runner."""
    stored = frozen(version, name, filled)
    deferred = Outcome("deferred", next_method=stored["method"], next_kwargs=stored["kwargs"])
    assert callable(getattr(operator, stored["method"]))
    return task_runner.resume(operator, frozen(version, "event_generation", filled), deferred)


@each_version
def test_a_deferred_sensor_goes_on(
    task_runner: TaskRunner, dag: Any, started: dict[str, str], version: str
) -> None:
    # What its argument is rendered to by now does not count any more.
    sensor = DiffioGenerationSensor(
        task_id="wait", generation={"generation_id": "another", "api_project_id": "one"}, dag=dag
    )
    value = resumed(task_runner, sensor, version, "deferral_sensor", started).value
    assert value == frozen(version, "values", started)["finished_generation"]


@each_version
def test_a_deferred_create_generation_goes_on(
    task_runner: TaskRunner, dag: Any, started: dict[str, str], version: str
) -> None:
    operator = DiffioCreateGenerationOperator(
        task_id="start", project="another", wait_for_completion=True, deferrable=True, dag=dag
    )
    value = resumed(task_runner, operator, version, "deferral_create_generation", started).value
    assert value == frozen(version, "values", started)["finished_generation"]


@each_version
def test_a_deferred_restore_goes_on(
    task_runner: TaskRunner,
    dag: Any,
    started: dict[str, str],
    recording: Path,
    output: Path,
    sandbox: Sandbox,
    version: str,
) -> None:
    operator = DiffioRestoreOperator(
        task_id="restore", source="/gone.wav", path="second/", deferrable=True, dag=dag
    )
    filled = {**started, "source": str(recording)}
    value = resumed(task_runner, operator, version, "deferral_restore", filled).value
    assert Path(value["path"]).parent == output / "first"
    assert value["generation_id"] == started["generation_id"]
    assert sandbox.ledger()["totals"]["generations"] == 1


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("deferral_sensor", lambda **options: DiffioGenerationSensor(**options)),
        ("deferral_restore", lambda **options: DiffioRestoreOperator(**options)),
    ],
)
def test_what_is_stored_with_a_deferral_is_frozen(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    connection: dict[str, Any],
    slow: None,
    short_deferrals: None,
    name: str,
    make: Any,
) -> None:
    options: dict[str, Any] = {"source": str(recording), "path": "first/"}
    if name == "deferral_sensor":
        hook = DiffioHook()
        started = hook.create_generation(hook.create_project(recording).api_project_id)
        options = {"generation": started.to_value()}
    deferred = task_runner.run(make(task_id="task", deferrable=True, dag=dag, **options))
    newest = frozen(NEWEST, name)
    assert (deferred.next_method, shape(deferred.next_kwargs)) == (newest["method"], shape(newest["kwargs"]))
    assert shape(fire(deferred)) == shape(frozen(NEWEST, "event_generation"))


# --- records of task instances --------------------------------------------------------------------------

DIGESTS = {name: {"source": "0" * 32, "later": "1" * 32} for name in ("upload", "request", "download")}


@each_version
@pytest.mark.parametrize("name", ["task_state", "task_state_begun"])
def test_a_record_is_read_and_written_again_as_it_was(version: str, name: str) -> None:
    record = frozen(version, name, DIGESTS)["diffio_restoration"]
    again = Restoration.from_record(record).to_record()
    assert again == record if record["schema"] == SCHEMA else again["schema"] == SCHEMA


@pytest.mark.parametrize(
    "place", [(), ("upload",), ("upload", "project"), ("starts", 0), ("download",), ("download", "file")]
)
def test_a_field_that_is_not_known_is_passed_over(place: tuple[Any, ...]) -> None:
    record = frozen(NEWEST, "task_state", DIGESTS)["diffio_restoration"]
    known = Restoration.from_record(record)
    inside = record
    for step in place:
        inside = inside[step]
    inside["of_a_later_version"] = 1
    assert Restoration.from_record(record) == known


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        "text",
        {"schema": SCHEMA + 1},
        {"schema": "1"},
        {"schema": 1, "upload": {}},
        {"schema": 1, "upload": "x"},
        {"schema": 1, "upload": {"given": "x", "version": "1"}},
        {"schema": 1, "starts": [{}]},
        {"schema": 1, "starts": [{"request": {}, "counter": 0, "generation": {"status": "queued"}}]},
        {"schema": 1, "download": {"given": {}}},
        {"schema": 1, "download": {"given": {}, "file": {}}},
    ],
)
def test_what_is_no_record_is_never_taken_for_nothing(record: Any) -> None:
    with pytest.raises(UnreadableRecordError):
        Restoration.from_record(record)


def filled_in(recording: Path, output: Path, started: dict[str, str]) -> dict[str, Any]:
    """Return what stands in the record of this very task instance."""
    hook = DiffioHook()
    location = hook.locate(str(recording))
    return {
        **started,
        "upload": Recording(str(recording)).fingerprint(uri=location.uri, conn_id="diffio_default"),
        "version": location.fingerprint(),
        "content": content_digest(location),
        "request": GenerationOptions("diffio-4.6-flash").fingerprint(started["project_id"]),
        "download": Destination("out.mp3").fingerprint(started["generation_id"], str(output / "out.mp3")),
        "path": str(output / "out.mp3"),
        "sha256": "0" * 64,
    }


@needs(STATE_STORE)
@each_version
@pytest.mark.parametrize("touched", [False, True])
def test_a_retry_over_an_upgrade_starts_nothing_twice(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    sandbox: Sandbox,
    started: dict[str, str],
    version: str,
    touched: bool,
) -> None:
    task_runner.state_store.update(frozen(version, "task_state", filled_in(recording, output, started)))
    if touched:
        os.utime(recording, (1, 1))
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out.mp3", poll_interval=0.1, dag=dag
    )
    value = task_runner.run(restore, try_number=3).value
    assert value["generation_id"] == started["generation_id"]
    assert sandbox.ledger()["totals"]["generations"] == 1
    newest = frozen(NEWEST, "task_state", DIGESTS)["diffio_restoration"]
    written = task_runner.state_store["diffio_restoration"]
    assert written.keys() == newest.keys()
    assert [each.keys() for each in written["starts"]] == [each.keys() for each in newest["starts"]]
    for part in ("upload", "download"):
        assert written[part].keys() == newest[part].keys()


# --- digests --------------------------------------------------------------------------------------------


def test_digests_are_what_they_were(tmp_path: Path) -> None:
    """A digest that changes with the code makes a retry over an upgrade start a second generation."""
    recording = Recording("s3://raw/talk.wav", params={"show": "morning"}, source_conn_id="aws")
    options = GenerationOptions("diffio-4.6-flash", sampling={"seed": 7}, params={"b": 2, "a": 1})
    task = TaskIdentity("dag", "task", "manual__2026-01-01", -1, try_number=2)
    file = tmp_path / "talk.wav"
    file.write_bytes(bytes(range(256)) * 10_000)
    digests = {
        "upload": recording.fingerprint(uri="s3://raw/talk.wav", conn_id="diffio"),
        "bare_upload": Recording("a.wav").fingerprint(uri="/a.wav", conn_id="diffio"),
        "content": content_digest(resolve(str(file))),
        "request": options.fingerprint("proj_1"),
        "bare_request": GenerationOptions("diffio-4.6-flash").fingerprint("proj_1"),
        "first_key": options.key_for(task, "proj_1", 0),
        "second_key": options.key_for(task, "proj_1", 1),
        "own_key": options._replace(idempotency_key="mine").key_for(task, "proj_1", 1),
        "download": Destination("out/", "audio").fingerprint("gen_1", "s3://restored/out/"),
        "bare_download": Destination("out/").fingerprint("gen_1", "/restored/out/"),
    }
    assert digests == frozen(NEWEST, "digests")


def test_a_field_that_is_not_set_changes_no_digest() -> None:
    assert fingerprint(a=1, later=None) == fingerprint(a=1)
    assert fingerprint(a=1) != fingerprint(a=2)


# --- values and events ----------------------------------------------------------------------------------


@each_version
def test_values_of_an_earlier_task_are_taken(
    task_runner: TaskRunner, dag: Any, started: dict[str, str], output: Path, version: str
) -> None:
    values = frozen(version, "values", {**started, "path": "/x", "sha256": "0" * 64})
    start = DiffioCreateGenerationOperator(task_id="start", project=values["project"], dag=dag)
    assert task_runner.run(start).state == "success"
    for generation in (values["generation"], values["finished_generation"]):
        sensor = DiffioGenerationSensor(
            task_id=f"wait_{generation['status']}", generation=generation, dag=dag
        )
        assert task_runner.run(sensor).state == "success"
    save = DiffioDownloadOperator(
        task_id="save", generation=values["finished_generation"], path="o/", dag=dag
    )
    assert shape(task_runner.run(save).value) == shape(frozen(NEWEST, "values")["file"])


def test_the_values_are_frozen(started: dict[str, str], recording: Path) -> None:
    values = frozen(NEWEST, "values", started)
    project, generation = values["project"], values["generation"]
    assert Project(**project).to_value() == project
    assert Generation(**generation).to_value() == generation


@each_version
def test_asset_events_of_a_waiting_run_are_read(version: str) -> None:
    class Event:
        def __init__(self, extra: dict[str, Any]) -> None:
            self.extra = extra

    events = frozen(version, "asset_events")
    found = finished_generations([Event(extra) for extra in events.values()])
    assert [generation["generation_id"] for generation in found] == ["gen_1", "gen_2", "gen_3"]
    assert found[1]["error"] == "The recording has no audio."


@each_version
def test_a_watcher_goes_on_from_its_book(version: str) -> None:
    stored = frozen(version, "watcher_book")
    book = ReportBook.restore("complete", stored["state"])
    assert book is not None
    assert book.state() == stored["state"]
    assert json.dumps(book.state())
