"""What each argument of each operator and of the sensor may be, and what a wrong one brings."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_diffio import operators, sensors
from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError, diffio_error
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
    DiffioUsageSummaryOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.steps.arguments import SETTINGS, TEMPLATED
from tests.task_runner import TaskRunner, fire

CLASSES = [getattr(room, name) for room in (operators, sensors) for name in room.__all__]
IDS = {"generation_id": "gen-1", "api_project_id": "proj-1"}
#: Values with which a task would do its work.
GOOD: dict[str, Any] = {
    "generation": IDS,
    "project": "proj-1",
    "path": "x.mp3",
    "source": "x.wav",
    "sources": "raw",
}


class Odd:
    """Nothing that any argument takes."""


def parameters_of(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments of our own, those of our base classes included."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("airflow_provider_diffio") and "__init__" in vars(base):
            found |= inspect.signature(base.__init__).parameters
    return {name: each for name, each in found.items() if name not in ("self", "kwargs")}


CASES = [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{type(value).__name__}")
    for cls in CLASSES
    for name, parameter in parameters_of(cls).items()
    for value in (None, 20231023.5, Odd(), "None")
    # Left out is not wrong, and neither is a number of seconds.
    if not (value is None and parameter.default is None)
    if not (
        isinstance(value, float)
        and name in ("min_age", "timeout", "ready_timeout", "poll_interval", "max_poll_interval")
    )
]


@pytest.mark.parametrize(("cls", "name", "value"), CASES)
def test_a_value_of_the_wrong_kind_is_named_and_final_and_nothing_is_sent(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, cls: Any, name: str, value: Any
) -> None:
    needed = {key: GOOD[key] for key, each in parameters_of(cls).items() if each.default is each.empty}
    operator = cls(task_id="task", **{**needed, name: "x" if name in TEMPLATED else value}, dag=dag)
    if name in TEMPLATED:
        # As native rendering leaves it, or an XCom.
        setattr(operator, name, value)
    outcome = task_runner.run(operator)
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert isinstance(diffio_error(outcome.error), DiffioInputError)
    assert name in str(outcome.error)
    assert sandbox.requests() == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_argument_has_its_kind(cls: Any) -> None:
    templated = set(cls.template_fields)
    assert templated <= TEMPLATED.keys()
    assert set(parameters_of(cls)) - templated <= SETTINGS.keys()


@pytest.mark.parametrize("make", [str, Path, lambda path: ObjectStoragePath(f"file://{path}")])
def test_paths_of_every_kind_work_and_are_stored_as_text(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    output: Path,
    slow: None,
    short_deferrals: None,
    make: Any,
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=make(recording),
        path=make(output / "talk.mp3"),
        deferrable=True,
        poll_interval=timedelta(seconds=0.1),
        dag=dag,
    )
    deferred = task_runner.run(restore)
    assert deferred.state == "deferred", deferred.error
    arguments = deferred.next_kwargs["deferral"]["arguments"]
    json.dumps(arguments)
    assert {type(arguments["source"]), type(arguments["path"])} == {str}
    done = task_runner.resume(restore, fire(deferred), deferred)
    assert done.value["path"] == str(output / "talk.mp3")


@pytest.mark.parametrize("make", [str, Path, lambda path: ObjectStoragePath(f"file://{path}")])
def test_the_hook_takes_paths_of_every_kind_too(
    connection: dict[str, Any], recording: Path, output: Path, make: Any
) -> None:
    file = DiffioHook().restore_audio(
        make(recording), make(output / "talk.mp3"), timeout=timedelta(seconds=30)
    )
    assert file.path == str(output / "talk.mp3")


@pytest.mark.parametrize("value", [None, 20231023, Odd()])
def test_the_hook_names_a_source_that_is_none(
    connection: dict[str, Any], sandbox: Sandbox, value: Any
) -> None:
    with pytest.raises(DiffioInputError, match="source"):
        DiffioHook().create_project(value)
    assert sandbox.requests() == []


def test_lengths_of_time_may_be_timedeltas(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, slow: None, short_deferrals: None
) -> None:
    pauses: dict[str, Any] = {
        "poll_interval": timedelta(seconds=0.1),
        "max_poll_interval": timedelta(seconds=0.2),
    }
    hook = DiffioHook()
    project = hook.create_project(recording)
    start = DiffioCreateGenerationOperator(
        task_id="start",
        project=project.api_project_id,
        wait_for_completion=True,
        deferrable=True,
        timeout=timedelta(minutes=5),
        execution_timeout=timedelta(minutes=9),
        dag=dag,
        **pauses,
    )
    deferred = task_runner.run(start)
    assert (deferred.trigger["poll_interval"], deferred.trigger["max_poll_interval"]) == (0.1, 0.2)
    assert 299 < deferred.trigger["deadline"] - deferred.trigger["started_at"] < 301
    generation = task_runner.resume(start, fire(deferred), deferred).value
    wait = DiffioGenerationSensor(
        task_id="wait",
        generation=generation,
        timeout=timedelta(minutes=1),
        poke_interval=timedelta(seconds=0.1),
        dag=dag,
        **pauses,
    )
    finished = task_runner.run(wait).value
    save = DiffioDownloadOperator(
        task_id="save", generation=finished, path="x.mp3", ready_timeout=timedelta(seconds=9), dag=dag
    )
    assert task_runner.run(save).value["path"] == str(output / "x.mp3")


def test_options_of_a_task_are_of_each_of_its_requests(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="x.mp3",
        request_options={"headers": {"X-Trace": "audio-team"}, "timeout": timedelta(seconds=7)},
        dag=dag,
    )
    assert task_runner.run(restore).state == "success"
    ours = [r for r in sandbox.requests() if r["method"] == "POST" and "/uploads/" not in r["path"]]
    assert ours
    assert all("X-Trace" in r["headers"] for r in ours)


def test_fewer_attempts_are_of_the_task(task_runner: TaskRunner, dag: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("status", path="*usage/summary", status=503, nth="every")
    ask = DiffioUsageSummaryOperator(task_id="ask", request_options={"max_attempts": 1}, dag=dag)
    assert task_runner.run(ask).error is not None
    assert len(sandbox.requests()) == 1


def test_options_of_a_task_take_no_key_and_show_none(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox
) -> None:
    options = {"api_key": "diffio_live_secret"}
    outcome = task_runner.run(DiffioUsageSummaryOperator(task_id="ask", request_options=options, dag=dag))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "takes no api_key" in str(outcome.error)
    assert "diffio_live_secret" not in str(outcome.error)
    assert sandbox.requests() == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_options_are_never_rendered_nor_stored(cls: Any) -> None:
    assert "request_options" in parameters_of(cls)
    assert "request_options" not in {*cls.template_fields, *getattr(cls, "deferred_arguments", ())}


def test_an_unknown_connection_is_final(task_runner: TaskRunner, dag: Any) -> None:
    ask = DiffioUsageSummaryOperator(task_id="ask", diffio_conn_id="no_such_connection", retries=2, dag=dag)
    outcome = task_runner.run(ask)
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "There is no connection 'no_such_connection'" in str(outcome.error)
    assert isinstance(diffio_error(outcome.error), DiffioConfigurationError)


def test_a_hooks_result_is_as_good_as_an_operators(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path
) -> None:
    hook = DiffioHook()
    project = hook.create_project(recording)
    start = DiffioCreateGenerationOperator(task_id="start", project="x", dag=dag)
    start.project = project
    generation = task_runner.run(start).value
    progress = hook.wait_for_generation(
        generation["generation_id"], project.api_project_id, poll_interval=0.1
    )
    save = DiffioDownloadOperator(task_id="save", generation=IDS, path="x.mp3", dag=dag)
    save.generation = progress
    assert task_runner.run(save).value["path"] == str(output / "x.mp3")
