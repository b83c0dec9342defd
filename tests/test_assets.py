"""The assets, and how a DAG reads their events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_diffio.api.json_fields import JSONFields
from airflow_provider_diffio.api.models import WebhookEvent
from airflow_provider_diffio.assets import (
    diffio_completed_asset,
    diffio_failed_asset,
    event_extra,
    finished_generations,
    one_run_for_all,
    receives_webhooks,
)
from tests.features import RUN_PER_EVENT, WATCHER, needs


@dataclass(frozen=True)
class AssetEvent:
    extra: Any
    timestamp: int = 0


def generation(name: str) -> dict[str, Any]:
    return {"generation_id": name, "api_project_id": "p", "status": "complete"}


def names(found: list[dict[str, Any]]) -> list[str]:
    return [it["generation_id"] for it in found]


def test_each_connection_has_two_assets() -> None:
    uris = {
        diffio_completed_asset().uri,
        diffio_failed_asset().uri,
        diffio_completed_asset("other").uri,
        diffio_completed_asset("a/b#c").uri,
    }
    assert len(uris) == 4
    assert diffio_completed_asset().uri == "diffio://diffio_default/generation.completed"


def test_events_of_webhooks_and_watchers_are_read_alike() -> None:
    webhook = AssetEvent({**generation("a"), "message_id": "msg_1"}, 2)
    watcher = AssetEvent(
        {"from_trigger": True, "payload": {"generations": [generation("b"), generation("a")]}}, 1
    )
    assert names(finished_generations({"one": [webhook], "two": [watcher]})) == ["b", "a"]
    assert names(finished_generations([webhook, watcher])) == ["a", "b"]


@pytest.mark.parametrize("triggering", [None, {}, [], [AssetEvent(None)], [AssetEvent({})]])
def test_a_run_that_no_event_started_has_nothing_to_do(triggering: Any) -> None:
    assert finished_generations(triggering) == []


@pytest.mark.parametrize("conn_id", ["diffio_default", "a", "A-b_c.d.e", "0", "x" * 200])
def test_the_receiver_takes_plain_connection_ids(conn_id: str) -> None:
    assert receives_webhooks(conn_id)


@pytest.mark.parametrize(
    "conn_id",
    ["", "dïffio", "a..b", "diffio:eu", "a/b", "a b", "a\n", ".a", "-a", "x" * 201, "a%2e", "\ud83d", "\x00"],
)
def test_the_receiver_takes_no_other_connection_ids(conn_id: str) -> None:
    assert not receives_webhooks(conn_id)


def test_an_event_can_be_stored_whatever_diffio_sends() -> None:
    body = {
        "eventType": "generation.failed",
        "eventId": "evt_1",
        "createdAt": "2026-01-01T00:00:00Z",
        "apiKeyId": "key_1",
        "generationId": "gen_1",
        "apiProjectId": "proj\x00",
        "modelKey": "model\x1b[31m",
        "status": "error",
        "error": "half of an emoji \ud83d" + "x" * 1024 * 1024,
        "transcription": {"status": "avail\udc00able"},
    }
    extra = event_extra(WebhookEvent.read(JSONFields(body, "the webhook"), "msg_1"))
    stored = json.dumps(extra, ensure_ascii=False).encode()
    assert len(stored) < 10_000
    assert b"\x00" not in stored
    assert extra["error"].startswith("half of an emoji \ufffdxxx")
    assert extra["api_project_id"] == "proj\ufffd"


@needs(RUN_PER_EVENT)
def test_a_schedule_can_batch_events_on_every_airflow() -> None:
    import airflow.sdk

    asset = diffio_completed_asset() | diffio_failed_asset()
    timetable = one_run_for_all(asset)
    assert type(timetable) is getattr(airflow.sdk, "AssetTriggeredTimetable")  # noqa: B009 - not in all
    assert timetable.batch_asset_events
    assert timetable.asset_condition == asset


@pytest.mark.skipif(RUN_PER_EVENT.here, reason="about Airflow before 3.4, which batches events by itself")
def test_before_airflow_3_4_a_schedule_batches_events_anyway() -> None:
    asset = diffio_completed_asset()
    assert one_run_for_all(asset) is asset


@needs(WATCHER)
def test_an_interval_makes_an_asset_of_its_own_with_a_watcher() -> None:
    asset = diffio_completed_asset(poll_interval=60)
    assert asset.uri == "diffio://diffio_default/generation.completed/polled-every-60s"
    (watcher,) = asset.watchers
    assert watcher.trigger.serialize()[1]["status"] == "complete"
    (watcher,) = diffio_failed_asset(poll_interval=60).watchers
    assert watcher.trigger.serialize()[1]["status"] == "failed"


@pytest.mark.skipif(WATCHER.here, reason="about Airflow 2")
def test_on_airflow_2_a_watcher_is_refused_by_name() -> None:
    with pytest.raises(RuntimeError, match="needs Airflow 3"):
        diffio_completed_asset(poll_interval=60)
