"""Metrics reach a StatsD server, from a task and from a trigger."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioConnectionError
from airflow_provider_diffio.hooks import metrics
from airflow_provider_diffio.sandbox import Sandbox

#: A task's work, a failed one, a trigger's wait, and a look at the usage; in a process of its own, since
#: Airflow reads once where metrics go.
PROGRAM = """
import asyncio, sys, time
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.triggers import DiffioGenerationTrigger

hook = DiffioHook()
hook.restore_audio(sys.argv[1], sys.argv[2], poll_interval=0.1)
hook.get_usage_summary()
project = hook.create_project(sys.argv[1])
generation = hook.create_generation(project.api_project_id, idempotency_key="again")
hook.create_generation(project.api_project_id, idempotency_key="again")
now = time.time()

async def wait():
    trigger = DiffioGenerationTrigger(
        generation_id=generation.generation_id, started_at=now, deadline=now + 30, poll_interval=0.1
    )
    async for event in trigger.run():
        return event

assert asyncio.run(wait()) is not None
try:
    hook.wait_for_generation(generation.generation_id)
except DiffioError:
    pass
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(1.0)
        yield server


def received(server: socket.socket) -> dict[str, list[str]]:
    """Return what arrived, by name: values with their kind."""
    found: dict[str, list[str]] = {}
    while True:
        try:
            packet = server.recv(65536).decode()
        except TimeoutError:
            return found
        for line in packet.splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name, []).append(value)


def test_what_a_task_and_a_trigger_do_arrives(
    listener: socket.socket, sandbox: Sandbox, connection: dict[str, Any], recording: Path, output: Path
) -> None:
    pytest.importorskip("statsd")
    sandbox.add_fault("fail-generation", error="Too noisy.", nth=2)
    environment = {
        **os.environ,
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(listener.getsockname()[1]),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True",
        "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection),
    }
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(recording), str(output / "talk.mp3")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = {name: values for name, values in received(listener).items() if "diffio" in name}
    size = recording.stat().st_size
    model = "model=diffio-4.6-flash"
    conn = "conn_id=diffio_default"

    def values(name: str, *tags: str) -> list[str]:
        return [
            value
            for key, values in found.items()
            for value in values
            if key.split(",")[0] == f"airflow.diffio.{name}" and set(tags) <= set(key.split(",")[1:])
        ]

    # The second start is a replay, and none.
    assert values("generations.started", model, conn) == ["1|c", "1|c"], found
    assert values("generations.completed", conn) == ["1|c"]
    assert values("generations.failed", conn) == ["1|c"]
    assert values("waits", conn) == ["1|c", "1|c"]
    assert values("bytes.uploaded", conn) == [f"{size}|c", f"{size}|c"]
    assert values("bytes.downloaded", conn) == [f"{size}|c"]
    assert len(values("polls", "by=task")) >= 2
    assert len(values("polls", "by=triggerer", conn)) >= 1
    times = values("wait_time", conn)
    assert len(times) == 2
    # In milliseconds: a wait for 0.1 s of work.
    assert 1 <= float(times[0].partition("|")[0]) < 60_000
    assert values("billed_seconds", model)[0].endswith("|g")


def test_a_metric_that_cannot_be_sent_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Broken:
        def incr(self, *arguments: Any, **options: Any) -> None:
            sent.append((arguments, options))
            raise OSError("no route")

    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", Broken(), raising=False)
    metrics.count(metrics.POLLS, by="task", conn_id="a,b=c d", model=None)
    assert sent == [((metrics.POLLS, 1), {"tags": {"by": "task", "conn_id": "a_b_c_d"}})]


def test_a_wait_that_trouble_ends_is_neither_failed_nor_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(metrics, "_send", lambda *sending: sent.append(sending[1]))
    metrics.wait_over(DiffioConnectionError("away"), 1.0, conn_id="c")
    assert sent == [metrics.WAIT_TIME]


def test_every_name_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "metrics.md").read_text()
    names = [
        value for name, value in vars(metrics).items() if name.isupper() and str(value).startswith("diffio.")
    ]
    assert len(names) == 10
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_one_is_cheap() -> None:
    metrics.count(metrics.POLLS)
    began = time.perf_counter()
    for _ in range(1000):
        metrics.count(metrics.POLLS, by="triggerer", conn_id="diffio_default")
    assert time.perf_counter() - began < 1.0
