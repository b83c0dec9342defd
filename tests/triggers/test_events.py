"""The watcher on Airflow's own shared streams, against the sandbox, with restarts at bad moments."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers import DiffioGenerationEventTrigger
from airflow_provider_diffio.triggers import events as module
from tests.features import DURABLE_WATCHER, WATCHER, WATCHER_QUEUE, needs
from tests.fixtures import recording, sandbox, sandbox_server

__all__ = ["recording", "sandbox", "sandbox_server"]

pytestmark = needs(WATCHER)


class Store:
    """What Airflow keeps for an asset; outlives the triggerers."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.broken = False
        self._by_name = {"the asset": self}
        self._by_uri: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(json.dumps(self.values.get(key, default)))

    async def aset(self, key: str, value: Any) -> None:
        if self.broken:
            raise ConnectionError("the API server is away")
        self.values[key] = json.loads(json.dumps(value))


class Triggerer:
    """As much of a triggerer as a watcher needs: Airflow's shared streams, and a record of the events."""

    def __init__(
        self, *triggers: DiffioGenerationEventTrigger, confirm: bool = True, patience: float = 300.0
    ) -> None:
        import structlog
        from airflow.triggers.shared_stream import SharedStreamManager

        self._triggers = triggers
        self._confirm = confirm
        self.events: list[dict[str, Any]] = []
        self._streams = SharedStreamManager(log=structlog.get_logger(), ack_timeout=patience)

    @property
    def reported(self) -> list[str]:
        return [made["generation_id"] for event in self.events for made in event["generations"]]

    @property
    def failed(self) -> bool:
        return any(task.done() for task in self._tasks)

    async def __aenter__(self) -> Triggerer:
        self._tasks = [
            asyncio.create_task(self._run(number, trigger)) for number, trigger in enumerate(self._triggers)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._streams.stop_all()

    async def _run(self, number: int, trigger: DiffioGenerationEventTrigger) -> None:
        key = trigger.shared_stream_key()
        assert key is not None
        stream = self._streams.subscribe(trigger_id=number, trigger=trigger, key=key)
        async for event in trigger.filter_shared_stream(stream):
            self.events.append(event.payload)
            sequence = self._streams.bind_pending_event(trigger_id=number, key=key)
            if self._confirm and sequence is not None:
                self._streams.confirm_persisted([sequence])


@pytest.fixture
def hook(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> DiffioHook:
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(sandbox.connection))
    monkeypatch.setattr(module, "MIN_INTERVAL", 0.0)
    return DiffioHook()


@pytest.fixture
def create(hook: DiffioHook, recording: Path) -> Callable[[], Awaitable[str]]:
    def created() -> str:
        project = hook.create_project(recording)
        made = hook.create_generation(project.api_project_id)
        return made.generation_id

    async def create_one() -> str:
        return await asyncio.to_thread(created)

    return create_one


def watcher(store: Store, **arguments: Any) -> DiffioGenerationEventTrigger:
    trigger = DiffioGenerationEventTrigger(poll_interval=0.2, **arguments)
    trigger.asset_state_store = store
    return trigger


async def until(done: Callable[[], bool], what: Callable[[], object]) -> None:
    for _ in range(150):
        if done():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(what())


@needs(DURABLE_WATCHER)
def test_each_generation_is_reported_once_over_restarts(create: Any, hook: DiffioHook) -> None:
    async def go() -> None:
        store = Store()
        old = await create()
        await asyncio.to_thread(hook.wait_for_generation, old, poll_interval=0.1)
        async with Triggerer(watcher(store)) as first:
            await until(lambda: bool(store.values), lambda: store.values)
            one = await create()
            await until(lambda: first.reported == [one], lambda: first.reported)
            await until(lambda: one_is_stored(store), lambda: store.values)
        two = await create()
        await asyncio.to_thread(hook.wait_for_generation, two, poll_interval=0.1)
        async with Triggerer(watcher(store)) as second:
            await until(lambda: bool(second.reported), lambda: second.reported)
            await asyncio.sleep(0.6)
        assert second.reported == [two]
        value = second.events[0]["generations"][0]
        assert set(value) == {
            "generation_id",
            "api_project_id",
            "model",
            "status",
            "has_video",
            "transcription",
        }
        assert (value["status"], value["transcription"]) == ("complete", "available")

    def one_is_stored(store: Store) -> bool:
        return any(state["reported"] or state["horizon"] for state in store.values.values())

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_what_airflow_did_not_store_is_reported_again(create: Any) -> None:
    """The triggerer dies after the event left the trigger and before it is in the database."""

    async def go() -> None:
        store = Store()
        async with Triggerer(watcher(store), confirm=False) as first:
            await until(lambda: bool(store.values), lambda: store.values)
            one = await create()
            await until(lambda: first.reported == [one], lambda: first.reported)
            await asyncio.sleep(0.5)
        async with Triggerer(watcher(store)) as second:
            await until(lambda: second.reported == [one], lambda: second.reported)

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_what_airflow_could_not_store_is_not_noted_as_reported(create: Any) -> None:
    """The database refuses the event; the triggerer gives up on it and starts the trigger anew."""

    async def go() -> None:
        store = Store()
        async with Triggerer(watcher(store), confirm=False, patience=0.5) as first:
            await until(lambda: bool(store.values), lambda: store.values)
            before = json.dumps(store.values)
            await create()
            await until(lambda: first.failed, lambda: first.reported)
            await asyncio.sleep(0.5)
            assert json.dumps(store.values) == before

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_a_store_that_is_away_for_a_while_does_not_double(create: Any) -> None:
    async def go() -> None:
        store = Store()
        async with Triggerer(watcher(store)) as first:
            await until(lambda: bool(store.values), lambda: store.values)
            before = json.dumps(store.values)
            store.broken = True
            one = await create()
            await until(lambda: first.reported == [one], lambda: first.reported)
            await asyncio.sleep(0.5)
            store.broken = False
            await until(lambda: json.dumps(store.values) != before, lambda: store.values)
            assert first.reported == [one]
        async with Triggerer(watcher(store)) as second:
            await asyncio.sleep(0.6)
        assert second.reported == []

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_an_outage_and_a_missing_connection_are_ridden_out(
    create: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        store = Store()
        async with Triggerer(watcher(store)) as triggerer:
            await until(lambda: bool(store.values), lambda: store.values)
            sandbox.add_fault("status", path="*list_project*", status=400, times=3)
            sandbox.add_fault("status", path="*get_generation_progress", status=400, times=2)
            one = await create()
            with monkeypatch.context() as patch:
                patch.delenv("AIRFLOW_CONN_DIFFIO_DEFAULT")
                await asyncio.sleep(0.5)
            await until(lambda: triggerer.reported == [one], lambda: triggerer.reported)

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_watchers_share_a_poll_and_each_gets_its_own(create: Any, sandbox: Sandbox) -> None:
    async def go() -> None:
        complete, failed = Store(), Store()
        async with Triggerer(watcher(complete), watcher(failed, status="failed")) as triggerer:
            await until(lambda: bool(complete.values and failed.values), lambda: None)
            sandbox.add_fault("fail-generation", error="No speech.")
            bad = await create()
            good = await create()
            await until(lambda: len(triggerer.reported) == 2, lambda: triggerer.events)
            moments = [r["number"] for r in sandbox.requests() if r["path"].endswith("list_projects")]
        ends = {made["generation_id"]: made for event in triggerer.events for made in event["generations"]}
        assert (ends[bad]["status"], ends[bad]["error"]) == ("failed", "No speech.")
        assert ends[good]["status"] == "complete"
        assert moments

    asyncio.run(go())


@needs(DURABLE_WATCHER)
def test_no_text_of_diffio_can_end_a_triggerer(
    create: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a surrogate pair in an event or a line of the log is what no triggerer survives."""

    async def go() -> None:
        store = Store()
        async with Triggerer(watcher(store, status="failed")) as triggerer:
            await until(lambda: bool(store.values), lambda: store.values)
            body = {"error": {"message": "no \ud83d\x00"}}
            sandbox.add_fault("status", path="*list_projects", status=500, body=body, times=2)
            sandbox.add_fault("fail-generation", error="half of an emoji \ud83d, NUL \x00, red \x1b[31m")
            failed = await create()
            await until(lambda: triggerer.reported == [failed], lambda: triggerer.events)
        (generation,) = triggerer.events[0]["generations"]
        text = json.dumps(generation, ensure_ascii=False)
        assert text.encode().decode() == text
        assert "\x00" not in generation["error"]
        assert "\x1b" not in generation["error"]
        assert "half of an emoji" in generation["error"]

    asyncio.run(go())
    assert caplog.text.encode().decode() == caplog.text


def test_an_exception_that_no_log_takes_is_replaced_by_one_that_it_takes() -> None:
    async def broken() -> AsyncIterator[Any]:
        for text in ("half \ud83d",):
            raise ValueError(text) from KeyError("\x00")
        yield

    async def go() -> None:
        trigger = DiffioGenerationEventTrigger()
        with pytest.raises(RuntimeError, match="ValueError: half \ufffd") as raised:
            await anext(aiter(trigger.filter_shared_stream(broken())))
        "".join(traceback.format_exception(raised.value)).encode()

    asyncio.run(go())


def test_another_exception_is_left_as_it_is() -> None:
    async def broken() -> AsyncIterator[Any]:
        for text in ("plain",):
            raise ValueError(text)
        yield

    async def go() -> None:
        with pytest.raises(ValueError, match="plain"):
            await anext(aiter(DiffioGenerationEventTrigger().filter_shared_stream(broken())))

    asyncio.run(go())


@needs(WATCHER_QUEUE)
def test_a_queue_is_airflows_to_know() -> None:
    trigger = DiffioGenerationEventTrigger(queue="eu")
    assert trigger.queue == "eu"
    assert "queue" not in trigger.serialize()[1]


def test_alone_it_reports_too(create: Any, hook: DiffioHook) -> None:
    """As before Airflow 3.3: no shared streams, nothing stored."""

    async def go() -> None:
        one = await create()
        await asyncio.to_thread(hook.wait_for_generation, one, poll_interval=0.1)
        trigger = DiffioGenerationEventTrigger(poll_interval=0.2, lookback=60)
        event = await asyncio.wait_for(anext(aiter(trigger.run())), 20)
        assert [made["generation_id"] for made in event.payload["generations"]] == [one]

    asyncio.run(go())


def test_it_comes_back_from_its_stored_arguments() -> None:
    path, arguments = DiffioGenerationEventTrigger(status="failed", poll_interval=30).serialize()
    assert path == "airflow_provider_diffio.triggers.events.DiffioGenerationEventTrigger"
    assert DiffioGenerationEventTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"status": "done"}, {"poll_interval": 9.9}, {"poll_interval": float("nan")}, {"lookback": -1.0}],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        DiffioGenerationEventTrigger(**arguments)
