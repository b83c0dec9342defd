"""A wait that is held on the worker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator
from tests.task_runner import TaskRunner


def test_a_held_wait_polls_once_at_its_beginning(
    task_runner: TaskRunner, dag: Any, recording: Any, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    ask, connect = DiffioHook.get_generation_progress, DiffioHook.get_conn

    def asking(hook: DiffioHook, *args: Any, **kwargs: Any) -> Any:
        done.append("poll")
        return ask(hook, *args, **kwargs)

    def connecting(hook: DiffioHook) -> Any:
        client = connect(hook)

        def sleeping(seconds: float) -> None:
            done.append("sleep")
            time.sleep(seconds)

        client.sleep = sleeping
        return client

    monkeypatch.setattr(DiffioHook, "get_generation_progress", asking)
    monkeypatch.setattr(DiffioHook, "get_conn", connecting)
    operator = DiffioCreateGenerationOperator(
        task_id="start",
        project=DiffioHook().create_project(recording).to_value(),
        wait_for_completion=True,
        deferrable=False,
        poll_interval=0.3,
        dag=dag,
    )
    assert task_runner.run(operator).state == "success"
    assert done[:3] == ["poll", "sleep", "poll"]
