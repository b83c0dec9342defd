"""
A worker that dies at every single thing it does to the world, once and twice in a row.

In memory, in milliseconds: a dead worker sends nothing, records nothing and tidies nothing up. What real
processes and a real SIGKILL do instead is seen in ``tests/crash``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests.adapters

from airflow_provider_diffio.hooks.permissions import NO_GENERATION
from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.storage.local import LocalSink
from tests.features import STATE_STORE, needs
from tests.task_runner import make_task_runner

#: What one restoration does to the world, in this order: requests, records, and the file's name.
EVENTS = (
    "probe destination",
    "probe get_generation_download",
    "probe get_generation_progress",
    "POST /v1/create_project",
    "record upload begun",
    "POST /v1/uploads/start",
    "PUT /v1/uploads/parts/1",
    "POST /v1/uploads/complete",
    "POST /v1/complete_project_upload",
    "record uploaded",
    "record start intended",
    "POST /v1/diffio-4.6-flash-generation",
    "record started",
    "POST /v1/get_generation_progress",
    "POST /v1/get_generation_download",
    "GET /m/",
    "record download ready",
    "rename",
    "record downloaded",
)
#: The tasks that do one thing each do not know what comes after them.
OF_FOUR = tuple(event for event in EVENTS if not event.startswith("probe"))
REQUESTS = tuple(event for event in OF_FOUR if not event.startswith("record"))
WHEN = ("before", "after")


class Crash(BaseException):
    """The worker is dead: nothing handles that."""


class Worker:
    """Everything a worker does to the world passes here, and it can die right before or after."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.crashes = 0
        self._kill: tuple[str, str] | None = None
        self._kills_left = 0
        self._passes = 0
        self.dead = False

    def kill(self, when: str, event: str, times: int, *, passes: int = 0) -> None:
        """Let the worker die so many times, after the event has passed by so often without harm."""
        self._kill, self._kills_left, self._passes = (when, event), times, passes

    def start_again(self) -> None:
        self.dead = False
        self.seen.clear()

    def does(self, event: str, act: Callable[[], Any]) -> Any:
        self._live()
        self.seen.append(event)
        self._die_if(("before", event))
        result = act()
        self._die_if(("after", event))
        return result

    def records(self, record: dict[str, Any], act: Callable[[], Any]) -> Any:
        return self.does(f"record {_last_step(record)}", act)

    def _live(self) -> None:
        if self.dead:
            raise Crash

    def _die_if(self, moment: tuple[str, str]) -> None:
        if moment == self._kill and self._passes:
            self._passes -= 1
        elif moment == self._kill and self._kills_left:
            self._kills_left -= 1
            self.crashes += 1
            self.dead = True
        self._live()


def _last_step(record: dict[str, Any]) -> str:
    """Return the last thing that a record tells of."""
    if download := record.get("download"):
        return "downloaded" if "written" in download else "download ready"
    if starts := record.get("starts"):
        return "started" if "generation" in starts[-1] else "start intended"
    return "uploaded" if "project" in record["upload"] else "upload begun"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    watched = Worker()
    send, replace, discard = requests.adapters.HTTPAdapter.send, Path.replace, LocalSink.discard

    def sending(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        path = re.sub(r"^/m/.*", "/m/", urlsplit(request.url).path)
        if NO_GENERATION in str(request.body):
            return watched.does(
                f"probe {path.rpartition('/')[2]}", lambda: send(self, request, *args, **kwargs)
            )
        return watched.does(f"{request.method} {path}", lambda: send(self, request, *args, **kwargs))

    def renaming(self: Path, target: Path) -> Any:
        if not (self.name.startswith(".") and self.suffix == ".part"):
            return replace(self, target)
        event = "probe destination" if target.suffix == ".part" else "rename"
        return watched.does(event, lambda: replace(self, target))

    def discarding(self: LocalSink) -> None:
        if not watched.dead:
            discard(self)
        elif self._file is not None:
            self._file.close()  # as the kernel does

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", sending)
    monkeypatch.setattr(Path, "replace", renaming)
    monkeypatch.setattr(LocalSink, "discard", discarding)
    return watched


@pytest.fixture
def one(dag: Any, recording: Path, connection: dict[str, Any]) -> list[Any]:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out.wav", deferrable=False, poll_interval=0.1, dag=dag
    )
    return [restore]


@pytest.fixture
def four(dag: Any, recording: Path, connection: dict[str, Any]) -> list[Any]:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    buy = DiffioCreateGenerationOperator(task_id="buy", project=upload.output, dag=dag)
    wait = DiffioGenerationSensor(task_id="wait", generation=buy.output, poke_interval=0.1, dag=dag)
    save = DiffioDownloadOperator(task_id="save", generation=wait.output, path="out.wav", dag=dag)
    return [upload, buy, wait, save]


def run(tasks: Sequence[Any], worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the tasks one after the other, each as often as it needs; what the tries without a crash did."""
    upstream: dict[str, Any] = {}
    done: list[str] = []
    for task in tasks:
        task_runner = make_task_runner()
        _watch_records(task_runner, worker, monkeypatch)
        for try_number in range(1, 5):
            worker.start_again()
            outcome = task_runner.run(task, try_number=try_number, upstream=upstream)
            if outcome.state == "success":
                break
            assert worker.dead, outcome.error
        assert outcome.state == "success"
        upstream[task.task_id] = outcome.value
        done += worker.seen
    return done


def _watch_records(task_runner: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    if not STATE_STORE.here:
        return
    store = task_runner._store

    def watching(method: str, key: str, body: Any) -> Any:
        if method != "PUT":
            return store(method, key, body)
        return worker.records(body["value"], lambda: store(method, key, body))

    monkeypatch.setattr(task_runner, "_store", watching)


def check(sandbox: Sandbox, recording: Path, output: Path, *, projects: int, open_uploads: int) -> None:
    assert (output / "out.wav").read_bytes() == recording.read_bytes()
    assert [path.name for path in output.iterdir()] == ["out.wav"]
    totals = sandbox.ledger()["totals"]
    assert totals["generations"] == 1
    assert (totals["projects"], totals["openUploads"]) == (projects, open_uploads)


def is_between(when: str, event: str, first: str, last: str) -> bool:
    """Whether a crash came when the first event had happened and the last had not."""
    moments = [(moment, each) for each in EVENTS for moment in WHEN]
    return moments.index(("after", first)) <= moments.index((when, event)) <= moments.index(("before", last))


@needs(STATE_STORE)
class TestOneTask:
    def test_these_are_all_events_there_are(
        self, worker: Worker, one: list[Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert tuple(dict.fromkeys(run(one, worker, monkeypatch))) == EVENTS

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 1), ("after", 2)])
    def test_a_crash_at_any_event_is_paid_once(
        self,
        worker: Worker,
        one: list[Any],
        sandbox: Sandbox,
        recording: Path,
        output: Path,
        monkeypatch: pytest.MonkeyPatch,
        when: str,
        event: str,
        times: int,
    ) -> None:
        worker.kill(when, event, times)
        run(one, worker, monkeypatch)
        assert worker.crashes >= 1
        # The token of an upload dies with its worker; only what was uploaded whole can be gone on with.
        lost = is_between(when, event, "POST /v1/create_project", "POST /v1/uploads/complete")
        opened = is_between(when, event, "POST /v1/uploads/start", "POST /v1/uploads/complete")
        check(
            sandbox,
            recording,
            output,
            projects=1 + lost * worker.crashes,
            open_uploads=opened * worker.crashes,
        )


class TestFourTasks:
    @pytest.mark.parametrize("event", OF_FOUR if STATE_STORE.here else REQUESTS)
    @pytest.mark.parametrize("when", WHEN)
    def test_a_crash_at_any_event_is_paid_once(
        self,
        worker: Worker,
        four: list[Any],
        sandbox: Sandbox,
        recording: Path,
        output: Path,
        monkeypatch: pytest.MonkeyPatch,
        when: str,
        event: str,
    ) -> None:
        worker.kill(when, event, 1)
        run(four, worker, monkeypatch)
        assert worker.crashes == 1
        # Without a store, a project is known when the uploading task has ended, and not before.
        known = "POST /v1/uploads/complete" if STATE_STORE.here else "record start intended"
        lost = is_between(when, event, "POST /v1/create_project", known)
        opened = is_between(when, event, "POST /v1/uploads/start", "POST /v1/uploads/complete")
        check(sandbox, recording, output, projects=1 + lost, open_uploads=int(opened))


@needs(STATE_STORE)
@pytest.mark.parametrize("bound", [1, 2, 3])
@pytest.mark.parametrize("event", EVENTS[: EVENTS.index("GET /m/")])
@pytest.mark.parametrize("when", WHEN)
def test_no_crash_spends_more_than_the_bound(
    worker: Worker,
    dag: Any,
    recording: Path,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    connection: dict[str, Any],
    when: str,
    event: str,
    bound: int,
) -> None:
    """Every generation fails, the worker dies at each thing that it does, and Airflow tries again."""
    sandbox.add_fault("fail-generation", nth="every")
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="out.wav",
        deferrable=False,
        poll_interval=0.1,
        max_generations=bound,
        dag=dag,
    )
    worker.kill(when, event, times=2)
    task_runner = make_task_runner()
    _watch_records(task_runner, worker, monkeypatch)
    for try_number in range(1, bound + 6):
        worker.start_again()
        outcome = task_runner.run(restore, try_number=try_number)
        if outcome.state == "failed":
            break
    assert "max_generations" in str(outcome.error)
    assert sandbox.ledger()["totals"]["generations"] == bound
