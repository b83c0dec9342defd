"""The trigger on an event loop, against the sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers import DiffioGenerationTrigger
from tests.triggers.waits import generation, trigger

__all__ = ["generation"]


def first_event(waiting: DiffioGenerationTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return (await anext(waiting.run())).payload

    payload: dict[str, Any] = asyncio.run(first())
    return payload


def test_it_fires_when_the_generation_is_complete(generation: dict[str, Any]) -> None:
    assert first_event(trigger(generation))["status"] == "complete"


def test_it_says_failed_and_leaves_the_reason_to_the_task(
    connection: dict[str, Any], sandbox: Sandbox, recording: Path
) -> None:
    sandbox.add_fault("fail-generation", error="secret-ish text")
    hook = DiffioHook()
    project = hook.create_project(recording)
    event = first_event(trigger(hook.create_generation(project.api_project_id).to_value()))
    assert event["status"] == "failed"
    assert "secret-ish" not in str(event)


def test_an_outage_is_ridden_out(generation: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.add_fault("reset-before", path="*get_generation_progress", nth=1, times=3)
    sandbox.add_fault("status", path="*get_generation_progress", status=502, nth=4, times=3)
    sandbox.add_fault(
        "body", path="*get_generation_progress", body="<html>", contentType="text/html", nth=7, times=2
    )
    assert first_event(trigger(generation))["status"] == "complete"
    assert len([r for r in sandbox.requests() if r["fault"] is not None]) >= 7


def test_the_deadline_is_absolute(generation: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.add_fault("status", path="*get_generation_progress", status=503, nth="every")
    started = time.time()
    event = first_event(trigger(generation, started_at=started - 100, deadline=started + 0.5))
    assert event["status"] == "timeout"


def test_a_wrong_key_ends_the_waiting_at_once(
    generation: dict[str, Any], connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "password": "wrong"}))
    assert first_event(trigger(generation))["status"] == "error"
    assert len([r for r in sandbox.requests() if r["status"] == 401]) == 1


def test_a_missing_connection_ends_the_waiting(generation: dict[str, Any]) -> None:
    assert first_event(trigger(generation, diffio_conn_id="no_such_connection"))["status"] == "error"


def test_no_event_comes_before_its_time(generation: dict[str, Any]) -> None:
    not_before = time.time() + 2.5
    first_event(trigger(generation, not_before=not_before))
    assert time.time() >= not_before


def test_it_comes_back_from_its_stored_arguments(generation: dict[str, Any], sandbox: Sandbox) -> None:
    path, arguments = trigger(generation).serialize()
    assert path == "airflow_provider_diffio.triggers.generation.DiffioGenerationTrigger"
    stored = json.dumps(arguments)
    assert sandbox.api_key not in stored
    assert DiffioGenerationTrigger(**json.loads(stored)).serialize() == (path, arguments)


def test_the_loop_goes_on_while_it_waits(generation: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.add_fault("delay", path="*get_generation_progress", seconds=0.5, nth="every")

    async def first() -> Any:
        return await anext(trigger(generation).run())

    async def longest_stop() -> float:
        waiting = asyncio.ensure_future(first())
        longest, last = 0.0, time.perf_counter()
        while not waiting.done():
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await waiting
        return longest

    # A blocking call would stand still for each delayed answer: half a second.
    assert asyncio.run(longest_stop()) < 0.45
