"""``@task.diffio_restore``: what a function returns is restored with the operator's promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, task

from airflow_provider_diffio.sandbox import Sandbox
from tests.task_runner import AIRFLOW_3, TaskRunner, fire


def task_of(dag: Any, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the operator that ``@task.diffio_restore`` makes of a function."""
    with dag:
        return task.diffio_restore(**{"path": "out/", **options})(function)(*arguments).operator


def test_one_source_is_restored_as_by_the_operator(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, sandbox: Sandbox
) -> None:
    def find(day: str) -> str:
        assert day
        assert "{" not in day
        return str(recording)

    operator = task_of(dag, find, "{{ run_id }}", path="{{ run_id }}/", poll_interval=0.1)
    assert (operator.task_id, operator.custom_operator_name) == ("find", "@task.diffio_restore")
    outcome = task_runner.run(operator)
    assert outcome.error is None
    written = Path(outcome.value["path"])
    assert written.parent.parent == output
    assert written.read_bytes() == recording.read_bytes()
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_it_gets_the_context_and_a_path_object_will_do(
    task_runner: TaskRunner, dag: Any, recording: Path
) -> None:
    def find(ti: Any = None, **context: Any) -> Path:
        assert ti.task_id == context["task"].task_id == "find"
        return recording

    assert task_runner.run(task_of(dag, find, poll_interval=0.1)).error is None


def test_after_a_deferral_the_function_is_not_called_again(
    task_runner: TaskRunner, dag: Any, recording: Path, short_deferrals: None, slow: None, sandbox: Sandbox
) -> None:
    calls = []

    def find() -> str:
        calls.append(1)
        return str(recording)

    operator = task_of(dag, find, deferrable=True, poll_interval=0.1)
    deferred = task_runner.run(operator)
    assert deferred.state == "deferred"
    outcome = task_runner.resume(task_of(dag, find, deferrable=True), fire(deferred), deferred)
    assert outcome.error is None
    assert outcome.value["size_bytes"] == recording.stat().st_size
    assert len(calls) == 1
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_a_name_is_no_template(task_runner: TaskRunner, dag: Any, tmp_path: Path) -> None:
    strange = tmp_path / "{{ run_id }}.wav"
    strange.write_bytes(b"RIFF" * 100)

    def find() -> Path:
        return strange

    assert task_runner.run(task_of(dag, find, poll_interval=0.1)).value["size_bytes"] == 400


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (["a.wav", "b.wav"], "returned a list. @task.diffio_restore restores one recording"),
        (("a.wav",), "returned a tuple"),
        ([], "returned a list"),
        (None, "what the function of task 'find' returned must be a path"),
        (7, "what the function of task 'find' returned must be a path"),
        ({"source": "a.wav"}, "what the function of task 'find' returned must be a path"),
        (b"RIFF", "what the function of task 'find' returned must be a path"),
    ],
)
def test_anything_else_is_refused_by_a_sentence(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, returned: Any, said: str
) -> None:
    def find() -> Any:
        return returned

    outcome = task_runner.run(task_of(dag, find))
    assert isinstance(outcome.error, AirflowFailException)
    assert said in str(outcome.error)
    assert sandbox.requests() == []


def test_a_generator_is_no_single_source(task_runner: TaskRunner, dag: Any) -> None:
    def find() -> Any:
        yield "a.wav"

    assert "returned a generator" in str(task_runner.run(task_of(dag, find)).error)


def test_it_takes_no_source(dag: Any) -> None:
    with pytest.raises(TypeError, match="the decorated function returns it"):
        task_of(dag, lambda: "a.wav", source="b.wav", task_id="x")


@pytest.mark.skipif(
    not AIRFLOW_3, reason="the task runner has no mapped tasks here; docs/guides/restore.md has"
)
def test_it_is_mapped(task_runner: TaskRunner, dag: Any, tmp_path: Path, output: Path) -> None:
    with dag:

        @task.diffio_restore(path="{{ ti.map_index }}/", poll_interval=0.1)
        def find(name: str) -> Path:
            return tmp_path / name

        mapped = find.expand(name=["a.wav", "b.wav"]).operator
    (tmp_path / "b.wav").write_bytes(b"RIFF of b")
    outcome = task_runner.run(mapped.unmap({"op_kwargs": {"name": "b.wav"}}))
    assert outcome.error is None, outcome.error
    assert Path(outcome.value["path"]).read_bytes() == b"RIFF of b"


USERS_FILE = """
from pathlib import Path

from airflow_provider_diffio.decorators import diffio_restore_task


@diffio_restore_task
def plain(day: str) -> str:
    return f"{day}.wav"


@diffio_restore_task(path="restored/", deferrable=True)
def find(day: str) -> Path:
    return Path(day)


found = find("2026-01-01")
find.expand(day=["a", "b"])
find.override(task_id="other").partial(day="x")

find.no_such_method()
"""


def test_mypy_knows_its_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "users_dag.py"
    path.write_text(USERS_FILE)
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            str(tmp_path / "cache"),
            "--config-file",
            str(root / "pyproject.toml"),
            str(path),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in run.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, run.stdout
    assert 'has no attribute "no_such_method"' in errors[0]
