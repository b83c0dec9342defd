"""
A worker that dies right before and right after every change of the ledger, once and twice in a row.

In memory, as ``test_crash_schedules`` does: a dead worker sends nothing, writes nothing and tidies nothing
up. Its heartbeat stays. The next try is the same task instance's, or another's that waits for a lease.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.ledger import heartbeat
from airflow_provider_diffio.operators import DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.storage.objects import LocalObjects
from tests.steps.test_crash_schedules import Worker, worker
from tests.task_runner import make_task_runner

__all__ = ["worker"]

#: What a restoration with a ledger does to the world, in this order.
EVENTS = (
    "create ledger.json",
    "POST /v1/create_project",
    "POST /v1/uploads/start",
    "PUT /v1/uploads/parts/1",
    "POST /v1/uploads/complete",
    "POST /v1/complete_project_upload",
    "create open",
    "write owners",
    "create record claimed",
    "POST /v1/diffio-4.6-flash-generation",
    "create record started",
    "POST /v1/get_generation_progress",
    "POST /v1/get_generation_download",
    "GET /m/",
    "rename",
    "create record done",
    "create done",
    "delete open",
)


@pytest.fixture
def watched(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    create, delete = (getattr(LocalObjects, f"_{name}") for name in ("create", "delete"))

    def write(self: Any, name: str, data: bytes) -> None:
        """Without a rename, which is told of as that of the restored file."""
        (self._path / name).parent.mkdir(exist_ok=True)
        (self._path / name).write_bytes(data)

    def name_of(name: str, data: bytes = b"") -> str:
        place = re.split("[/-]", name)[0]
        return f"record {json.loads(data)['state']}" if place == "records" else place

    def creating(self: Any, name: str, data: bytes) -> Any:
        if name.startswith(".diffio-exclusive"):
            return create(self, name, data)
        return worker.does(f"create {name_of(name, data)}", lambda: create(self, name, data))

    def writing(self: Any, name: str, data: bytes) -> Any:
        return worker.does(f"write {name_of(name)}", lambda: write(self, name, data))

    def deleting(self: Any, name: str) -> Any:
        if worker.dead or name.startswith(("owners", ".diffio")):
            return None if worker.dead else delete(self, name)
        return worker.does(f"delete {name_of(name)}", lambda: delete(self, name))

    monkeypatch.setattr(LocalObjects, "_create", creating)
    monkeypatch.setattr(LocalObjects, "_write", writing)
    monkeypatch.setattr(LocalObjects, "_delete", deleting)
    # Whether the key may download, and the disk be written, is asked for free.
    monkeypatch.setattr("airflow_provider_diffio.hooks.DiffioHook.check_permissions", lambda *_, **__: None)
    monkeypatch.setattr("airflow_provider_diffio.storage.location.Location.check_writable", lambda _: None)
    monkeypatch.setattr("airflow_provider_diffio.ledger.restoring._PAUSE", 0.05)
    return worker


@pytest.fixture
def make(dag: Any, recording: Path, tmp_path: Path, connection: dict[str, Any]) -> Callable[[], Any]:
    numbers = iter(range(100))

    def making(**options: Any) -> Any:
        return DiffioRestoreOperator(
            task_id=f"restore_{next(numbers)}",
            source=str(recording),
            path="out.wav",
            ledger=str(tmp_path / "ledger"),
            deferrable=False,
            poll_interval=0.1,
            dag=dag,
            **options,
        )

    return making


def test_these_are_all_events_there_are(watched: Worker, make: Callable[[], Any]) -> None:
    make_task_runner().run(make())
    assert tuple(dict.fromkeys(watched.seen)) == EVENTS


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 1), ("after", 2)])
def test_a_crash_at_any_event_is_paid_once(
    watched: Worker,
    make: Callable[[], Any],
    sandbox: Sandbox,
    recording: Path,
    output: Path,
    tmp_path: Path,
    when: str,
    event: str,
    times: int,
) -> None:
    """On every Airflow, whether a task has a state store or not."""
    watched.kill(when, event, times)
    operator, runner = make(), make_task_runner()
    for try_number in range(1, 6):
        watched.start_again()
        outcome = runner.run(operator, try_number=try_number)
        if outcome.state == "success":
            break
        assert watched.dead, outcome.error
    assert outcome.state == "success"
    assert watched.crashes >= 1
    assert (output / "out.wav").read_bytes() == recording.read_bytes()
    assert sandbox.ledger()["totals"]["generations"] == 1
    # Another task instance finds it finished.
    watched.start_again()
    before = len(sandbox.requests())
    assert make_task_runner().run(make()).value["generation_id"] == outcome.value["generation_id"]
    assert len(sandbox.requests()) == before


@pytest.mark.parametrize(
    ("when", "event"),
    [
        ("after", "create record claimed"),
        ("before", "POST /v1/diffio-4.6-flash-generation"),
        ("after", "POST /v1/diffio-4.6-flash-generation"),
        ("before", "create record started"),
    ],
)
def test_another_task_takes_over_after_a_lease(
    watched: Worker,
    make: Callable[[], Any],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    event: str,
) -> None:
    watched.kill(when, event, 1)
    make_task_runner().run(make())
    watched.start_again()
    original = heartbeat.Watch.__init__

    def short(self: Any, objects: Any, lease: float, **_: Any) -> None:
        original(self, objects, 0.3)

    monkeypatch.setattr(heartbeat.Watch, "__init__", short)
    assert make_task_runner().run(make()).state == "success"
    assert sandbox.ledger()["totals"]["generations"] == 1


@pytest.mark.parametrize("bound", [1, 2, 3])
@pytest.mark.parametrize("event", EVENTS[EVENTS.index("create open") : EVENTS.index("GET /m/")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_crash_spends_more_than_the_bound(
    watched: Worker, make: Callable[..., Any], sandbox: Sandbox, when: str, event: str, bound: int
) -> None:
    sandbox.add_fault("fail-generation", nth="every")
    watched.kill(when, event, times=2)
    operator, runner = make(max_generations_per_recording=bound, max_generations=9), make_task_runner()
    for try_number in range(1, bound + 7):
        watched.start_again()
        outcome = runner.run(operator, try_number=try_number)
        # What Airflow calls a failed try that may be retried differs between versions.
        if "max_generations_per_recording" in str(outcome.error):
            break
    assert "max_generations_per_recording" in str(outcome.error)
    assert sandbox.ledger()["totals"]["generations"] == bound


@pytest.mark.parametrize("event", [event for event in EVENTS if event.startswith(("create", "write"))])
def test_a_full_store_at_any_change_bills_once(
    watched: Worker,
    make: Callable[[], Any],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
) -> None:
    """An intent that cannot be written starts nothing; a result that cannot be is found again."""
    does = watched.does

    def full(name: str, act: Callable[[], Any]) -> Any:
        if name == event:
            raise OSError(28, "No space left on device")
        return does(name, act)

    operator, runner = make(), make_task_runner()
    with monkeypatch.context() as patch:
        patch.setattr(watched, "does", full)
        first = runner.run(operator)
    after_money = EVENTS.index(event) > EVENTS.index("POST /v1/diffio-4.6-flash-generation")
    assert (first.state == "success") == after_money
    assert sandbox.ledger()["totals"]["generations"] == int(after_money)
    watched.start_again()
    assert runner.run(operator, try_number=2).state == "success"
    assert sandbox.ledger()["totals"]["generations"] == 1
