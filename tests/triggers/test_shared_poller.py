"""What the triggers of one event loop share, against the sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio import _compat
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.connection import DiffioConnection
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers import DiffioGenerationTrigger, _shared_poller
from tests.triggers import waits
from tests.triggers.waits import generation

__all__ = ["generation"]


def trigger(generation: dict[str, Any], **options: Any) -> DiffioGenerationTrigger:
    return waits.trigger(generation, **{"max_poll_interval": 0.2, **options})


async def status(waiting: DiffioGenerationTrigger) -> str:
    return str((await anext(waiting.run())).payload["status"])


async def all_of(*waits: Awaitable[str]) -> list[str]:
    return await asyncio.gather(*waits)


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every look-up of an Airflow connection."""
    made: list[str] = []
    found = _compat.find_connection

    async def counted(conn_id: str) -> Any:
        made.append(conn_id)
        return await found(conn_id)

    monkeypatch.setattr(_shared_poller, "find_connection", counted)
    return made


def test_all_triggers_of_a_connection_share_one_client(
    generation: dict[str, Any], look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_diffio.api import async_client

    made = []
    original = async_client.DiffioAsyncClient.__aenter__

    async def counted(client: Any) -> Any:
        made.append(client)
        return await original(client)

    monkeypatch.setattr(async_client.DiffioAsyncClient, "__aenter__", counted)
    statuses = asyncio.run(all_of(*(status(trigger(generation)) for _ in range(20))))
    assert statuses == ["complete"] * 20
    assert len(made) == 1
    assert made[0]._session is None, "the last one closes it"
    assert look_ups == ["diffio_default"]
    assert not any(_shared_poller._shared_pollers.values())


def test_two_connections_share_nothing(
    generation: dict[str, Any],
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    look_ups: list[str],
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({**connection, "password": "wrong"}))
    other = trigger(generation, diffio_conn_id="other")
    assert asyncio.run(all_of(status(trigger(generation)), status(other))) == ["complete", "error"]
    assert sorted(look_ups) == ["diffio_default", "other", "other"], "the refused one was read again"


def test_two_loops_share_nothing(generation: dict[str, Any], look_ups: list[str]) -> None:
    assert asyncio.run(status(trigger(generation))) == "complete"
    assert asyncio.run(status(trigger(generation))) == "complete"
    assert len(look_ups) == 2


@pytest.mark.parametrize("refusal", [401, 403])
def test_another_key_is_picked_up(
    refusal: int,
    connection: dict[str, Any],
    sandbox: Sandbox,
    recording: Path,
    slow: None,
    look_ups: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = DiffioHook()
    scopes = ["projects:write", "generations:write", "generations:read"]
    key = admin.create_api_key("rotated meanwhile", scopes)

    def use(plaintext: str | None) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "password": plaintext}))

    async def change_the_key() -> list[str]:
        waits = [asyncio.ensure_future(status(trigger(created))) for _ in range(3)]
        await asyncio.sleep(0.5)
        # The triggers are on this thread: none of them runs before both are done.
        use(admin.rotate_api_key(key.key_id).key)
        if refusal == 403:
            sandbox.add_fault("status", path="*get_generation_progress", status=403, times=1)
        return await asyncio.gather(*waits)

    use(key.key)
    hook = DiffioHook()
    project = hook.create_project(recording)
    created = hook.create_generation(project.api_project_id).to_value()
    assert asyncio.run(change_the_key()) == ["complete"] * 3
    assert look_ups == ["diffio_default"] * 2
    assert refusal in {r["status"] for r in sandbox.requests()}


def test_a_connection_is_read_again_after_a_while(
    generation: dict[str, Any], look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_poller, "REFRESH_SECONDS", 0.2)
    assert asyncio.run(status(trigger(generation))) == "complete"
    assert len(look_ups) >= 2


def test_a_connection_that_cannot_be_read_again_is_used_on(
    generation: dict[str, Any], look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_poller, "REFRESH_SECONDS", 0.2)

    async def lost() -> str:
        waiting = asyncio.ensure_future(status(trigger(generation)))
        await asyncio.sleep(0.4)
        monkeypatch.delenv("AIRFLOW_CONN_DIFFIO_DEFAULT")
        return await waiting

    assert asyncio.run(lost()) == "complete"
    assert len(look_ups) >= 2


def test_trouble_with_the_first_reading_is_ridden_out_by_all(
    generation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tries = _compat.find_connection, []

    async def at_last(conn_id: str) -> Any:
        tries.append(conn_id)
        if len(tries) < 3:
            raise OSError("the database is down")
        return await found(conn_id)

    monkeypatch.setattr(_shared_poller, "find_connection", at_last)
    statuses = asyncio.run(all_of(*(status(trigger(generation)) for _ in range(5))))
    assert statuses == ["complete"] * 5
    assert len(tries) < 10


def test_a_refusal_slows_everybody_down(generation: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.add_fault(
        "status", path="*get_generation_progress", status=429, headers={"Retry-After": "2"}, nth=1, times=1
    )
    waits = (status(trigger(generation)) for _ in range(10))
    assert asyncio.run(all_of(*waits)) == ["complete"] * 10
    polls = [r for r in sandbox.requests() if r["path"].endswith("get_generation_progress")]
    # The generation was over long before anybody asked again.
    assert len(polls) <= 21


def test_a_refusal_does_not_move_the_deadline(generation: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.add_fault(
        "status", path="*get_generation_progress", status=429, headers={"Retry-After": "100"}, nth="every"
    )
    began = time.time()
    assert asyncio.run(status(trigger(generation, deadline=began + 1))) == "timeout"
    assert time.time() < began + 50


def test_a_cancelled_trigger_leaves_the_others_alone(generation: dict[str, Any]) -> None:
    async def one_is_cancelled() -> str:
        first = asyncio.ensure_future(status(trigger(generation)))
        second = asyncio.ensure_future(status(trigger(generation)))
        await asyncio.sleep(0.3)
        first.cancel()
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
        return await second

    assert asyncio.run(one_is_cancelled()) == "complete"
    assert not any(_shared_poller._shared_pollers.values())


def test_secrets_of_the_connection_are_masked_here_too(
    connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    extra = {"headers": {"X-Tenant": "hidden-in-a-header"}}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "extra": extra}))
    mask = mocker.spy(DiffioConnection, "mask_secrets")
    asyncio.run(_shared_poller.read_settings("diffio_default"))
    [call] = mask.call_args_list
    assert {"hidden-in-a-header", connection["password"]} <= set(call.args[0].secrets())
