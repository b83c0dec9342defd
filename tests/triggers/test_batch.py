"""The trigger of a batch on an event loop, against the sandbox."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers import batch
from airflow_provider_diffio.triggers.batch import (
    MOST_STORED_BYTES,
    DiffioBatchTrigger,
    OpenGeneration,
    decode,
    encode,
    fitting,
    read_over,
    stored_bytes,
)


def started(sandbox: Sandbox, recording: Path, *seconds: float) -> list[OpenGeneration]:
    """Start a generation for each of the processing times."""
    hook = DiffioHook()
    project = hook.create_project(recording)
    found = []
    for number, each in enumerate(seconds):
        sandbox.add_fault("processing-seconds", seconds=each, nth=number + 1)
    for number in range(len(seconds)):
        generation = hook.create_generation(project.api_project_id, idempotency_key=f"key-{number}")
        found.append(OpenGeneration(generation.generation_id, project.api_project_id, time.time()))
    return found


def trigger(generations: list[OpenGeneration], **options: Any) -> DiffioBatchTrigger:
    now = time.time()
    arguments = {"deferred_at": now, "deadline": now + 30, "poll_interval": 0.1, **options}
    return DiffioBatchTrigger(generations=encode(generations), **arguments)


def first_event(waiting: DiffioBatchTrigger) -> tuple[str, set[int]]:
    async def first() -> Any:
        run = waiting.run()
        try:
            return (await anext(run)).payload
        finally:
            await run.aclose()  # type: ignore[attr-defined]

    event = asyncio.run(first())
    assert event["version"] == 1
    assert len(json.dumps(event)) < 1_000
    return event["status"], read_over(event, len(waiting.generations))


def test_it_fires_when_all_are_over(connection: dict[str, Any], sandbox: Sandbox, recording: Path) -> None:
    generations = started(sandbox, recording, 0.2, 1.0, 0.1)
    assert first_event(trigger(generations)) == ("over", {0, 1, 2})


def test_it_fires_when_enough_are_over_for_the_task_to_go_on(
    connection: dict[str, Any], sandbox: Sandbox, recording: Path
) -> None:
    generations = started(sandbox, recording, 20, 0.1, 20, 0.2)
    status, over = first_event(trigger(generations, wake_at=2))
    assert (status, over) == ("some", {1, 3})


def test_it_fires_after_a_while_with_any_that_is_over(
    connection: dict[str, Any], sandbox: Sandbox, recording: Path
) -> None:
    generations = started(sandbox, recording, 20, 0.1, 20)
    since = time.time() - batch.PATIENCE + 1.5
    began = time.time()
    assert first_event(trigger(generations, deferred_at=since)) == ("some", {1})
    assert time.time() - began >= 1.4


def test_it_fires_at_the_deadline(connection: dict[str, Any], sandbox: Sandbox, recording: Path) -> None:
    generations = started(sandbox, recording, 20, 0.1)
    assert first_event(trigger(generations, deadline=time.time() + 1.5)) == ("timeout", {1})


def test_a_failed_one_is_over(connection: dict[str, Any], sandbox: Sandbox, recording: Path) -> None:
    sandbox.add_fault("fail-generation", error="no voice", nth=1)
    generations = started(sandbox, recording, 0.1, 0.1)
    assert first_event(trigger(generations)) == ("over", {0, 1})


def test_no_event_comes_before_its_time(
    connection: dict[str, Any], sandbox: Sandbox, recording: Path
) -> None:
    not_before = time.time() + 1.5
    first_event(trigger(started(sandbox, recording, 0.1), not_before=not_before))
    assert time.time() >= not_before


def test_a_wrong_key_resumes_the_task(
    connection: dict[str, Any], sandbox: Sandbox, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = started(sandbox, recording, 20, 20)
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "password": "wrong"}))
    assert first_event(trigger(generations)) == ("over", {0, 1})


def test_a_missing_connection_ends_the_waiting(connection: dict[str, Any]) -> None:
    waiting = trigger([OpenGeneration("g", "p", 0)], diffio_conn_id="no_such_connection")
    assert first_event(waiting) == ("error", set())


def test_a_newer_version_ends_the_waiting(connection: dict[str, Any]) -> None:
    assert first_event(trigger([OpenGeneration("g", "p", 0)], version=2)) == ("error", set())


def test_it_comes_back_from_its_stored_arguments(connection: dict[str, Any], sandbox: Sandbox) -> None:
    path, arguments = trigger([OpenGeneration("g 1,ä", "p", 7.9)], wake_at=3).serialize()
    assert path == "airflow_provider_diffio.triggers.batch.DiffioBatchTrigger"
    stored = json.dumps(arguments)
    assert sandbox.api_key not in stored
    again = DiffioBatchTrigger(**json.loads(stored))
    assert again.serialize() == (path, arguments)
    assert again.generations == [OpenGeneration("g 1,ä", "p", 7.0)]


@pytest.mark.parametrize("length", [20, 36, 255, 4_000])
def test_what_fits_is_stored_in_every_database(length: int) -> None:
    """Airflow 2 encrypts the arguments, and MySQL keeps 65,535 bytes."""
    many = [OpenGeneration("g" * length, uuid.uuid4().hex, time.time()) for _ in range(2_000)]
    count = fitting(many)
    full = trigger(many[:count], diffio_conn_id="ä" * 250, total=10_000, done=9_999, began=time.time())
    sizes = {stored_bytes(full), len(_encrypted(full.serialize()[1]))}
    assert max(sizes) <= MOST_STORED_BYTES
    assert stored_bytes(trigger(many[: count * 2])) > MOST_STORED_BYTES
    if length == 36:
        assert count >= 500


def _encrypted(arguments: dict[str, Any]) -> str:
    from airflow.models.trigger import Trigger

    encrypt = getattr(Trigger, "encrypt_kwargs", None) or Trigger._encrypt_kwargs
    return str(encrypt(arguments))


def test_events_of_others_are_refused() -> None:
    for event in ({"version": 1, "over": "f"}, {"version": 2, "over": "1"}, {"version": 1, "over": "-1"}):
        with pytest.raises(ValueError, match="event"):
            read_over(event, 3)
    assert decode("") == []


def test_the_log_says_how_far_it_is(
    connection: dict[str, Any],
    sandbox: Sandbox,
    recording: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generations = started(sandbox, recording, 0.1)
    with caplog.at_level(logging.INFO):
        first_event(trigger(generations, total=1_000, done=412, failed=3))
    text = capsys.readouterr().out + caplog.text
    lines = [line for line in text.splitlines() if "of 1,000" in line]
    assert "412 of 1,000 restored, 1 at Diffio, 3 failed" in lines[0]
    assert len(lines) == 1, "at most one in half a minute"


def test_a_kill_says_what_goes_on(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(trigger([OpenGeneration("g", "p", 0)] * 3).on_kill())
    assert "its 3 generations go on" in capsys.readouterr().out + caplog.text
