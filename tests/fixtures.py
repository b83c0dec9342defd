"""A sandbox, a connection to it, and a task runner to run tasks on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.task_runner import TaskRunner, make_task_runner, new_id

MakeDag = Callable[..., Any]


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[Sandbox]:
    with Sandbox(processing_seconds=0.1, engine="passthrough") as server:
        yield server


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Iterator[Sandbox]:
    sandbox_server.clear()
    yield sandbox_server
    sandbox_server.clear()


@pytest.fixture
def slow(sandbox: Sandbox) -> None:
    """Let the test's generation run long enough to be waited for."""
    sandbox.add_fault("processing-seconds", seconds=1.0, nth="every")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The directory that the connection's ``output_path`` names."""
    directory = tmp_path / "restored"
    directory.mkdir()
    return directory


@pytest.fixture
def connection(sandbox: Sandbox, output: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The connection ``diffio_default``, which leads to the sandbox."""
    fields = {**sandbox.connection, "extra": {"output_path": str(output), "max_attempts": 2, "timeout": 10}}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))
    return fields


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF" + bytes(range(256)) * 400)
    return path


@pytest.fixture
def task_runner(connection: dict[str, Any]) -> TaskRunner:
    return make_task_runner()


@pytest.fixture
def dag() -> Any:
    """A DAG to put operators into."""
    import pendulum
    from airflow.providers.common.compat.sdk import DAG

    return DAG(dag_id=new_id("dag"), start_date=pendulum.datetime(2026, 1, 1), schedule=None)


@pytest.fixture
def short_deferrals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers fire at once; no scheduler is there to race with."""
    monkeypatch.setattr("airflow_provider_diffio.steps.wait.MIN_DEFERRAL", 0.0)
