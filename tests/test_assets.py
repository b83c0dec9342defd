"""The assets, and how a DAG reads their events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_diffio.assets import diffio_completed_asset, diffio_failed_asset, finished_generations
from tests.features import WATCHER, needs


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
