"""A delivery whose event the scheduler passed over starts a run all the same."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features import RUN_PER_EVENT, WEBHOOKS, needs
from tests.plugins.conftest import SECRET, ReceiverServer
from tests.plugins.signing import event, sign

pytestmark = [
    needs(WEBHOOKS),
    pytest.mark.skipif(RUN_PER_EVENT.here, reason="before 3.4, Airflow's scheduler passes events over"),
]

COMPLETED, FAILED = "generation.completed", "generation.failed"


def left_behind() -> list[str]:
    from airflow_provider_diffio.plugins.requeue import requeue_missed

    return requeue_missed("diffio_default", COMPLETED)


def queued() -> list[str]:
    from airflow.models.asset import AssetDagRunQueue
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return list(session.scalars(select(AssetDagRunQueue.target_dag_id)))


def run_dag(seconds_after_last_event: float) -> None:
    """Do what the scheduler does: make a run for a time, and delete the queue."""
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import delete, func, select

    with create_session() as session:
        last: dt.datetime = session.scalar(select(func.max(AssetEvent.timestamp)))
        after = last + dt.timedelta(seconds=seconds_after_last_event)
        session.add(
            DagRun(
                dag_id=COMPLETED,
                run_id=f"asset_triggered__{after:%H%M%S.%f}",
                run_after=after,
                run_type=DagRunType.ASSET_TRIGGERED,
            )
        )
        session.execute(delete(AssetDagRunQueue))


@pytest.fixture(autouse=True)
def runs(assets: dict[str, int]) -> Iterator[None]:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    yield
    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == COMPLETED))


@pytest.fixture
def delivered(server: ReceiverServer, recorded: Any) -> None:
    assert server.post(sign(event(), SECRET)).json() == {"status": "accepted"}


def test_what_is_queued_or_in_a_run_is_left_alone(delivered: None) -> None:
    assert left_behind() == []
    run_dag(0)
    assert left_behind() == []
    assert queued() == []


def test_an_event_later_than_the_run_that_took_the_queue_is_queued_again(delivered: None) -> None:
    run_dag(-0.001)
    assert queued() == []
    assert left_behind() == [COMPLETED]
    assert queued() == [COMPLETED]
    assert left_behind() == []


def test_a_dag_that_never_ran_is_queued_again(delivered: None) -> None:
    from airflow.models.asset import AssetDagRunQueue
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(AssetDagRunQueue))
    assert left_behind() == [COMPLETED]


def test_a_paused_dag_is_not_queued(delivered: None) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    def pause(paused: bool) -> None:
        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id == COMPLETED).values(is_paused=paused))

    run_dag(-0.001)
    pause(True)
    try:
        assert left_behind() == []
    finally:
        pause(False)


def test_nothing_is_left_behind_where_nothing_came(server: ReceiverServer, recorded: Any) -> None:
    assert left_behind() == []


def test_it_checks_once_after_each_burst(caplog: pytest.LogCaptureFixture) -> None:
    from airflow_provider_diffio.plugins.requeue import Requeue

    checks: list[tuple[str, str]] = []

    def check(conn_id: str, event_type: str) -> list[str]:
        checks.append((conn_id, event_type))
        if event_type == FAILED:
            raise RuntimeError("database is away")
        return ["a_dag"]

    async def burst() -> None:
        requeue = Requeue(delay=0.3, check=check)
        for _ in range(5):
            requeue.delivered("one", COMPLETED)
            await asyncio.sleep(0.1)
        requeue.delivered("two", FAILED)
        assert checks == []
        await asyncio.sleep(0.6)

    with caplog.at_level(logging.WARNING):
        asyncio.run(burst())
    assert sorted(checks) == [("one", COMPLETED), ("two", FAILED)]
    assert "passed over the last delivery on connection one. DAG a_dag is queued" in caplog.text
    assert "Could not check whether DAGs ran for the events of connection two" in caplog.text


def test_a_delivery_makes_it_check(
    server: ReceiverServer, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_diffio.plugins import requeue

    told: list[tuple[str, str]] = []

    def delivered(_: Any, conn_id: str, event_type: str) -> None:
        told.append((conn_id, event_type))

    monkeypatch.setattr(requeue.Requeue, "delivered", delivered)
    delivery = sign(event(), SECRET)
    for status in ("accepted", "duplicate"):
        assert server.post(delivery).json() == {"status": status}
    assert told == [("diffio_default", COMPLETED)]
