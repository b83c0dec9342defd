"""No deadline of a wait is missed because somebody answers slowly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioGenerationTimeoutError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.triggers.generation import DiffioGenerationTrigger
from tests.api.scripted import Connection, Scripted, Step, answer, hang, scripted
from tests.task_runner import make_task_runner

IDS = {"generation_id": "gen-1", "api_project_id": "proj-1"}
STARTED = {
    "generationId": "gen-1",
    "apiProjectId": "proj-1",
    "modelKey": "diffio-4.6-flash",
    "status": "queued",
}
#: Seconds of a wait, and after which it must be over: its last poll may take two, and machines are slow.
TIMEOUT, OVER = 1.0, 6.0


def drip(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
    while not connection.closing.wait(0.1):
        connection.send(b" ")


def creep(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 ")
    while not connection.closing.wait(0.1):
        connection.send(b"2")


@pytest.fixture(params=[drip, creep, hang], ids=["body", "status line", "nothing"])
def slow_server(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with scripted() as server:
        server.play(request.param)
        fields = {"conn_type": "diffio", "host": server.url, "password": "key", "extra": {"timeout": 60}}
        monkeypatch.setenv("AIRFLOW_CONN_SLOW", json.dumps(fields))
        yield server


def seconds_of(act: Callable[[], Any]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_the_hooks_wait_ends_in_time(slow_server: Scripted) -> None:
    def wait() -> None:
        with pytest.raises(DiffioGenerationTimeoutError) as caught:
            DiffioHook("slow").wait_for_generation("gen-1", "proj-1", timeout=TIMEOUT, poll_interval=0.1)
        assert caught.value.may_be_billed

    assert seconds_of(wait) < OVER


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sensor_ends_in_time(slow_server: Scripted, dag: Any, deferrable: bool) -> None:
    sensor = DiffioGenerationSensor(
        task_id="wait",
        generation=IDS,
        timeout=TIMEOUT,
        poke_interval=0.1,
        deferrable=deferrable,
        diffio_conn_id="slow",
        dag=dag,
    )
    outcomes: list[Any] = []
    assert seconds_of(lambda: outcomes.append(make_task_runner().run(sensor))) < OVER
    assert type(outcomes[0].error).__name__ == "AirflowSensorTimeout"


def test_an_operator_that_holds_its_worker_ends_in_time(slow_server: Scripted, dag: Any) -> None:
    slow: Step = slow_server.steps[0]
    slow_server.play(answer(STARTED), slow)
    start = DiffioCreateGenerationOperator(
        task_id="start",
        project="proj-1",
        wait_for_completion=True,
        deferrable=False,
        timeout=TIMEOUT,
        poll_interval=0.1,
        diffio_conn_id="slow",
        dag=dag,
    )
    outcomes: list[Any] = []
    assert seconds_of(lambda: outcomes.append(make_task_runner().run(start))) < OVER
    assert isinstance(outcomes[0].error, DiffioGenerationTimeoutError)


def test_triggers_end_in_time(slow_server: Scripted) -> None:
    async def wait_for_many() -> list[Any]:
        now = time.time()
        triggers = [
            DiffioGenerationTrigger(
                generation_id=f"gen-{number}",
                project_id="proj-1",
                started_at=now,
                deadline=now + TIMEOUT,
                poll_interval=0.1,
                max_poll_interval=0.2,
                diffio_conn_id="slow",
                not_before=0.0,
            )
            for number in range(120)
        ]
        return list(await asyncio.gather(*(anext(trigger.run()) for trigger in triggers)))

    events: list[Any] = []
    assert seconds_of(lambda: events.extend(asyncio.run(wait_for_many()))) < 2 * OVER
    assert {event.payload["status"] for event in events} == {"timeout"}
