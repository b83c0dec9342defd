"""Whatever goes wrong after a generation was started says so, in every place where it can."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_diffio
from airflow_provider_diffio.api.errors import DiffioError, diffio_error
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioDownloadOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.features import STATE_STORE, needs
from tests.task_runner import TaskRunner

ROOT = Path(airflow_provider_diffio.__file__).parent
IDS = {"generation_id": "gen-1", "api_project_id": "proj-1"}

#: What the places after a start respond with. None stands for a web page.
STATUSES = [400, 401, 402, 403, 404, 409, 410, 413, 429, 500, None]
AFTER_A_START = ["*get_generation_progress", "*get_generation_download", "/m/*"]


def break_after_start(sandbox: Sandbox, path: str, status: int | None) -> None:
    """Let a place respond like this after the probe of the permissions, which comes before the start."""
    fault: dict[str, Any] = {"path": path, "nth": 2 if path.startswith("*") else 1, "times": 1000}
    if status is None:
        page = "<html>Blocked.</html>"
        sandbox.add_fault("status", status=403, body=page, **fault)
    else:
        sandbox.add_fault("status", status=status, **fault)


def says_so(error: BaseException | None) -> bool:
    ours = diffio_error(error)
    return ours is not None and ours.may_be_billed and "billed" in str(error)


@pytest.mark.parametrize("path", AFTER_A_START)
@pytest.mark.parametrize("status", STATUSES)
def test_by_the_hook(
    connection: dict[str, Any], recording: Path, sandbox: Sandbox, path: str, status: int | None
) -> None:
    break_after_start(sandbox, path, status)
    with pytest.raises(DiffioError) as caught:
        DiffioHook().restore_audio(
            recording, "x.mp3", timeout=0.3, poll_interval=0.1, request_options={"max_attempts": 1}
        )
    assert says_so(caught.value), caught.value
    assert "Calling restore_audio again starts another one" in str(caught.value)


@pytest.mark.parametrize("path", AFTER_A_START)
@pytest.mark.parametrize("status", [400, 403, 404, 500, None])
def test_by_the_operator(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    sandbox: Sandbox,
    path: str,
    status: int | None,
) -> None:
    break_after_start(sandbox, path, status)
    operator = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="x.mp3",
        timeout=0.3,
        poll_interval=0.1,
        deferrable=False,
        request_options={"max_attempts": 1},
        dag=dag,
    )
    outcome = task_runner.run(operator)
    assert says_so(outcome.error), outcome.error
    if not STATE_STORE.here:
        assert "starts another one" in str(outcome.error)


@pytest.mark.parametrize("wrong", [{"path": 7}, {"overwrite": "sometimes"}, {"download_type": "flac"}])
def test_a_wrong_argument_of_a_download(task_runner: TaskRunner, dag: Any, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"path": "x.mp3", **wrong}
    operator = DiffioDownloadOperator(
        task_id="save", generation=IDS, dag=dag, **{**arguments, "path": "x.mp3"}
    )
    for name, value in arguments.items():
        setattr(operator, name, value)
    assert says_so(task_runner.run(operator).error)


def test_a_wrong_argument_of_a_wait(task_runner: TaskRunner, dag: Any) -> None:
    sensor = DiffioGenerationSensor(task_id="wait", generation=IDS, deferrable=True, dag=dag)
    sensor.poll_interval = "often"
    assert says_so(task_runner.run(sensor).error)


@pytest.mark.parametrize("how", [{"timeout": -1}, {"poll_interval": 0}])
def test_a_wrong_argument_of_the_hooks_wait(connection: dict[str, Any], how: dict[str, Any]) -> None:
    with pytest.raises(DiffioError) as caught:
        DiffioHook().wait_for_generation("gen-1", "proj-1", **how)
    assert says_so(caught.value)


def test_a_wrong_argument_of_the_hooks_download(connection: dict[str, Any], output: Path) -> None:
    (output / "dir").mkdir()
    hook = DiffioHook()
    for arguments in (("", None), ("x.mp3", "flac"), ("../../x.mp3", None)):
        with pytest.raises(DiffioError) as caught:
            hook.download("gen-1", "proj-1", *arguments)
        assert says_so(caught.value)


def test_a_connection_that_is_gone_by_now(task_runner: TaskRunner, dag: Any) -> None:
    operator = DiffioDownloadOperator(
        task_id="save", generation=IDS, path="x.mp3", diffio_conn_id="no_such_connection", dag=dag
    )
    assert says_so(task_runner.run(operator).error)
    sensor = DiffioGenerationSensor(
        task_id="wait", generation=IDS, diffio_conn_id="no_such_connection", deferrable=True, dag=dag
    )
    assert says_so(task_runner.run(sensor).error)


@needs(STATE_STORE)
@pytest.mark.parametrize(
    "then",
    [
        {"download_type": "flac"},
        {"path": 7},
        {"source": "/no/such/file.wav"},
        {"max_poll_interval": -1},
        {"diffio_conn_id": "no_such_connection"},
        {"sampling": [1]},
    ],
)
def test_a_retry_that_fails_before_it_sends_anything(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox, then: dict[str, Any]
) -> None:
    operator = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="x.mp3", deferrable=False, dag=dag
    )
    first = task_runner.run(operator).value
    for name, value in then.items():
        setattr(operator, name, value)
    operator.__dict__.pop("hook", None)
    outcome = task_runner.run(operator, try_number=2)
    assert says_so(outcome.error), outcome.error
    assert first["generation_id"] in str(outcome.error)


def test_a_first_try_that_fails_before_it_starts_anything_says_nothing_of_the_kind(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    operator = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="x.mp3", deferrable=False, dag=dag
    )
    operator.download_type = "flac"
    error = task_runner.run(operator).error
    assert error is not None
    assert not says_so(error)
    assert "billed" not in str(error)


# --- by construction --------------------------------------------------------------------------------------


def calls_of_errors() -> Iterator[tuple[str, ast.Call]]:
    for path in ROOT.rglob("*.py"):
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and any(each.arg == "may_be_billed" for each in node.keywords):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_error_that_is_made_as_billed_says_what_became_of_the_money() -> None:
    found = list(calls_of_errors())
    assert len(found) > 5
    for place, call in found:
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        # An error without advice of its own gets the general sentence.
        assert (
            "money" in given
            or "advice" not in given
            or "billed" in given["advice"]
            or "paid" in given["advice"]
        ), place


def test_one_module_decides_whether_an_error_may_be_billed() -> None:
    deciding = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [each for target in targets for each in ast.walk(target)]
            if any(isinstance(each, ast.Attribute) and each.attr == "may_be_billed" for each in names):
                deciding.add(str(path.relative_to(ROOT)))
    # The first holds the attribute, the second reads it from what a call is about.
    assert deciding == {"api/errors.py", "api/money.py", "api/responses.py"}
