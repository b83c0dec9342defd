"""The receiver takes good deliveries, each once."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_diffio.assets import finished_generations
from tests.features import RUN_PER_EVENT, WEBHOOKS, needs
from tests.plugins.conftest import FOREIGN, OLD_SECRET, SECRET, ReceiverServer
from tests.plugins.signing import event, sign
from tests.subprocess_code import lines_printed_by

pytestmark = needs(WEBHOOKS)


def test_a_completed_generation_becomes_an_event_with_its_value(
    server: ReceiverServer, recorded: Any
) -> None:
    delivery = sign(event(), SECRET)
    answer = server.post(delivery)
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    (extra,) = recorded()
    assert extra == {
        "generation_id": delivery.event["generationId"],
        "api_project_id": "proj_1",
        "model": "diffio-4.6-flash",
        "status": "complete",
        "has_video": False,
        "transcription": "available",
        "message_id": delivery.message_id,
    }


def test_a_failed_one_becomes_an_event_on_the_other_asset(
    server: ReceiverServer, recorded: Any, assets: dict[str, int]
) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    failed = event(eventType="generation.failed", status="error", error="No speech.", hasVideo=None)
    assert server.post(sign(failed, SECRET)).json() == {"status": "accepted"}
    with create_session() as session:
        (found,) = session.scalars(select(AssetEvent)).all()
        assert found.asset_id == assets["generation.failed"]
        assert (found.extra["status"], found.extra["error"]) == ("failed", "No speech.")


@pytest.mark.skipif(RUN_PER_EVENT.here, reason="about Airflow before 3.4")
def test_its_dag_is_queued_up_to_the_last_event(server: ReceiverServer, recorded: Any) -> None:
    """The scheduler takes events up to the time in the queue, which Airflow itself leaves at the first."""
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    for _ in range(3):
        assert server.post(sign(event(), SECRET)).json() == {"status": "accepted"}
    with create_session() as session:
        (queued,) = session.scalars(select(AssetDagRunQueue)).all()
        times = list(session.scalars(select(AssetEvent.timestamp)))
        assert queued.target_dag_id == "generation.completed"
        assert len(times) == 3
        assert max(times) <= queued.created_at <= dt.datetime.now(dt.UTC)


@needs(RUN_PER_EVENT)
def test_its_dag_is_queued_for_each_event(server: ReceiverServer, recorded: Any) -> None:
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    for _ in range(3):
        assert server.post(sign(event(), SECRET)).json() == {"status": "accepted"}
    with create_session() as session:
        queued = session.execute(
            select(AssetDagRunQueue.target_dag_id, AssetDagRunQueue.asset_event_id)
        ).all()
        ids = list(session.scalars(select(AssetEvent.id)))
    assert sorted(queued) == sorted(("generation.completed", event_id) for event_id in ids)
    assert len(ids) == 3


@needs(RUN_PER_EVENT)
def test_nothing_is_queued_again_where_each_event_is_queued(
    server: ReceiverServer, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_diffio.plugins import requeue

    checked: list[str] = []

    def check(conn_id: str, event_type: str) -> list[str]:
        checked.append(conn_id)
        return []

    async def deliver() -> None:
        again = requeue.Requeue(delay=0.05, check=check)
        again.delivered("diffio_default", "generation.completed")
        await asyncio.sleep(0.3)

    asyncio.run(deliver())
    assert checked == []


@pytest.mark.parametrize("kind", ["generation.queued", "generation.processing", "something.new"])
def test_other_events_are_taken_and_ignored(server: ReceiverServer, recorded: Any, kind: str) -> None:
    assert server.post(sign(event(eventType=kind), SECRET)).json() == {"status": "ignored"}
    assert recorded() == []


def test_an_asset_that_no_dag_uses_is_no_reason_to_send_again(server: ReceiverServer, recorded: Any) -> None:
    assert server.post(sign(event(), FOREIGN), conn_id="other").json() == {"status": "unused"}
    assert recorded() == []


def test_an_asset_of_the_same_uri_that_is_not_used_does_not_get_the_event(
    server: ReceiverServer, recorded: Any, assets: dict[str, int]
) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    from airflow_provider_diffio.assets import asset_uri

    uri = asset_uri("diffio_default", "generation.completed")
    with create_session() as session:
        session.add(AssetModel(id=0, name="a former name", uri=uri, group="asset"))
    assert server.post(sign(event(), SECRET)).json() == {"status": "accepted"}
    with create_session() as session:
        assert list(session.scalars(select(AssetEvent.asset_id))) == [assets["generation.completed"]]
        session.execute(delete(AssetModel).where(AssetModel.name == "a former name"))


def test_an_event_is_kept_while_the_file_that_uses_its_asset_is_broken(
    server: ReceiverServer, recorded: Any, assets: dict[str, int]
) -> None:
    """Airflow then marks the DAG as stale and the asset as inactive, until the file is repaired."""
    from airflow.models.asset import AssetActive, AssetDagRunQueue, AssetModel
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select, update

    from airflow_provider_diffio.assets import asset_uri

    uri = asset_uri("diffio_default", "generation.completed")

    def set_stale(stale: bool) -> None:
        with create_session() as session:
            where = DagModel.dag_id == "generation.completed"
            session.execute(update(DagModel).where(where).values(is_stale=stale))
            if stale:
                session.execute(delete(AssetActive).where(AssetActive.uri == uri))
            else:
                session.add(AssetActive.for_asset(session.get(AssetModel, assets["generation.completed"])))

    set_stale(True)
    try:
        with create_session() as session:
            # A newer asset of the same URI that no DAG is scheduled on does not take the event away.
            session.add(AssetModel(name="another name", uri=uri, group="asset"))
        assert server.post(sign(event(), SECRET)).json() == {"status": "accepted"}
        assert len(recorded()) == 1
        with create_session() as session:
            queued = session.scalars(select(AssetDagRunQueue.target_dag_id)).all()
        assert queued == ["generation.completed"]
    finally:
        set_stale(False)
        with create_session() as session:
            session.execute(delete(AssetModel).where(AssetModel.name == "another name"))


def test_both_secrets_fit_while_they_are_rotated(server: ReceiverServer, recorded: Any) -> None:
    for secret in (SECRET, OLD_SECRET):
        assert server.post(sign(event(), secret)).json() == {"status": "accepted"}
    assert len(recorded()) == 2


def test_a_second_copy_is_dropped_also_by_another_process(server: ReceiverServer, recorded: Any) -> None:
    delivery = sign(event(), SECRET)
    assert server.post(delivery).json() == {"status": "accepted"}
    assert server.post(delivery).json() == {"status": "duplicate"}
    # Signed anew, as every retry is, and taken by a process that knows nothing but the database.
    again = sign(delivery.event, SECRET, message_id=delivery.message_id, age=-3)
    restarted = ReceiverServer()
    assert restarted.post(again).json() == {"status": "duplicate"}
    restarted.stop()
    assert len(recorded()) == 1


def test_copies_at_once_to_two_servers_make_one_event(server: ReceiverServer, recorded: Any) -> None:
    second = ReceiverServer()
    deliveries = [sign(event(), SECRET) for _ in range(6)]
    copies = [(each, place) for each in deliveries for place in (server, second) * 4]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda copy: copy[1].post(copy[0]).json()["status"], copies))
    second.stop()
    assert sorted(answers) == ["accepted"] * 6 + ["duplicate"] * 42
    assert sorted(extra["message_id"] for extra in recorded()) == sorted(d.message_id for d in deliveries)


def test_an_id_that_is_part_of_another_is_another(server: ReceiverServer, recorded: Any) -> None:
    for message_id in ("msg_12", "msg_1", "msg__2"):
        assert server.post(sign(event(), SECRET, message_id=message_id)).json() == {"status": "accepted"}
    assert len(recorded()) == 3


def test_an_event_without_a_project_is_kept_and_left_out_of_downloads(
    server: ReceiverServer, recorded: Any
) -> None:
    assert server.post(sign(event(apiProjectId=None), SECRET)).json() == {"status": "accepted"}
    assert len(recorded()) == 1
    assert finished_generations([type("Event", (), {"extra": recorded()[0]})()]) == []


def test_an_event_is_stored_whatever_text_diffio_sends(server: ReceiverServer, recorded: Any) -> None:
    texts = ["half \ud83d", "\udc00", "NUL \x00", "red \x1b[31m", "x" * 30_000, "\u202e", "\x85"]
    for text in texts:
        delivery = sign(
            event(
                error=text,
                modelKey=text,
                apiProjectId=text[:200],
                generationId=text[:200],
                transcription={"status": text},
                eventType="generation.failed",
                status="error",
            ),
            SECRET,
        )
        assert server.post(delivery).json() == {"status": "accepted"}
    stored = recorded()
    assert len(stored) == len(texts)
    shown = json.dumps(stored, ensure_ascii=False)
    assert shown.encode().decode() == shown
    assert not set(shown) & set("\x00\x1b\u202e\x85")
    assert len(shown) < 50_000


def test_a_database_that_is_locked_asks_for_another_try(
    server: ReceiverServer,
    recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from airflow.assets.manager import asset_manager
    from sqlalchemy.exc import OperationalError

    register = asset_manager.register_asset_change

    def locked(**arguments: Any) -> Any:
        register(**arguments)
        raise OperationalError("INSERT", {"extra": "canary"}, Exception("database is locked"))

    delivery = sign(event(error="canary-in-the-body"), SECRET)
    monkeypatch.setattr(asset_manager, "register_asset_change", locked)
    answer = server.post(delivery)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "database is locked" in caplog.text
    assert "canary" not in caplog.text
    assert recorded() == []
    monkeypatch.setattr(asset_manager, "register_asset_change", register)
    assert server.post(delivery).json() == {"status": "accepted"}
    assert len(recorded()) == 1


def test_the_plugin_costs_other_processes_nothing() -> None:
    code = """
import sys
from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow import plugins_manager
before = set(sys.modules)
from airflow_provider_diffio.plugins.diffio import DiffioPlugin
plugin = DiffioPlugin()
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"fastapi", "starlette", "svix", "aiohttp", "requests", "anyio"}))
print(sorted(name for name in set(sys.modules) - before if "receiver" in name or "deliveries" in name))
"""
    assert lines_printed_by(code)[-2:] == ["[]", "[]"]


def test_airflow_finds_the_plugin() -> None:
    from importlib.metadata import entry_points

    (point,) = [point for point in entry_points(group="airflow.plugins") if point.name == "diffio"]
    (mount,) = point.load()().fastapi_apps
    assert mount["url_prefix"] == "/diffio"
    assert json.dumps([route.path for route in mount["app"].routes]) == '["/webhooks/{conn_id}"]'


def test_teams_are_said_to_be_unsupported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow_provider_diffio.plugins.receiver import make_app

    make_app()
    assert "multi_team" not in caplog.text
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    make_app()
    assert "does not support [core] multi_team" in caplog.text
