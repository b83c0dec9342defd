"""
Everything that a restoration touches, in one process, on one clock, by one plan.

A try of a task runs to its end before anything else happens, but each thing that it does to the world (a
request, a record, a file's name) is an *effect*, and a plan can make any effect the one at which the worker
dies, the network fails, or another task has its whole try. So whatever can happen in between is played
without threads, and played the same again by the same plan.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import requests.adapters
import requests.exceptions

from tests.simulation.diffio import PAGE, ScriptedDiffio, to_response

#: The modules of the package that tell the time, or wait.
_TIMED = (
    "api.client", "api.media_stream", "api.polling", "api.read_bounds", "api.responses", "api.retry",
    "hooks.diffio", "ledger.restoring", "steps.wait",
)  # fmt: skip


class Crash(BaseException):
    """The worker is dead: nothing handles that."""


class Clock(ModuleType):
    """The module ``time`` of a world in which sleeping takes no time."""

    def __init__(self) -> None:
        super().__init__("time")
        self.start = time.time()
        self.passed = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.start + self.passed

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return self.passed

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self.passed += seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


#: What the network does to one request: nothing of it arrives, its response is lost, another answers in
#: Diffio's place, or the body of the response breaks off.
TROUBLES = ("unsent", "lost", "cut", "429", "500", "503", "page 400", "page 403", "page 404")


@dataclass
class Plan:
    """
    What happens during one try.

    :ivar dies_at: the number of the effect at which the worker dies, from 0; None if it lives.
    :ivar dies_before: whether before that effect, or after it.
    :ivar troubles: what the network does, by the number of the effect.
    :ivar meanwhile: what others do right before an effect, by its number.
    """

    dies_at: int | None = None
    dies_before: bool = True
    troubles: Mapping[int, str] = field(default_factory=dict)
    meanwhile: dict[int, Callable[[], None]] = field(default_factory=dict)


class Worker:
    """The process of one try."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.effects = 0
        self.dead = False

    def does(self, act: Callable[[], Any]) -> Any:
        """Have an effect, or die."""
        if self.dead:
            raise Crash
        number = self.effects
        self.effects += 1
        if other := self.plan.meanwhile.pop(number, None):
            other()
        if number == self.plan.dies_at and self.plan.dies_before:
            self._die()
        result = act()
        if number == self.plan.dies_at:
            self._die()
        return result

    def trouble(self) -> str | None:
        """What the network does to the request that is sent now."""
        return self.plan.troubles.get(self.effects - 1)

    def _die(self) -> None:
        self.dead = True
        raise Crash


class World:
    """
    Diffio, the clock, and the workers.

    :param patch: puts them in place.
    :param folder: where files are.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.clock = Clock()
        self.diffio = ScriptedDiffio(self.clock.time)
        self.folder = folder
        self._workers: list[Worker] = []
        self._patch(patch)

    @property
    def worker(self) -> Worker | None:
        """The one who acts now."""
        return self._workers[-1] if self._workers else None

    @contextmanager
    def working(self, plan: Plan, who: str) -> Iterator[Worker]:
        """Let a worker act, by a plan, on somebody's behalf."""
        before = self.diffio.asked_by
        worker = Worker(plan)
        self._workers.append(worker)
        self.diffio.asked_by = who
        try:
            yield worker
        finally:
            self._workers.pop()
            self.diffio.asked_by = before

    def does(self, act: Callable[[], Any]) -> Any:
        """Have an effect by whoever acts now."""
        return self.worker.does(act) if self.worker else act()

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        from airflow_provider_diffio.api.client import DiffioClient
        from airflow_provider_diffio.ledger.heartbeat import Heartbeat, Watch
        from airflow_provider_diffio.storage.local import LocalSink
        from airflow_provider_diffio.storage.objects import LocalObjects

        for name in _TIMED:
            patch.setattr(f"airflow_provider_diffio.{name}.time", self.clock)
        patch.setitem(DiffioClient.__init__.__kwdefaults__ or {}, "sleep", self.clock.sleep)
        for timed in (Heartbeat, Watch):
            patch.setattr(timed.__init__, "__defaults__", (self.clock.monotonic,))
        for name in ("_create", "_write", "_delete"):
            patch.setattr(LocalObjects, name, self._effect(getattr(LocalObjects, name)))
        replace, discard = Path.replace, LocalSink.discard

        def renaming(path: Path, target: Any) -> Any:
            if not (path.name.startswith(".") and path.suffix == ".part"):
                return replace(path, target)
            return self.does(lambda: replace(path, target))

        def discarding(sink: LocalSink) -> None:
            if self.worker is None or not self.worker.dead:
                discard(sink)
            elif sink._file is not None:
                sink._file.close()  # as the kernel does

        patch.setattr(requests.adapters.HTTPAdapter, "send", lambda _, request, **__: self._send(request))
        patch.setattr(Path, "replace", renaming)
        patch.setattr(LocalSink, "discard", discarding)

    def _effect(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Let a change of the ledger be an effect; the thread of its heartbeat is out of the play."""

        def acting(*args: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return None
            return self.does(lambda: act(*args))

        return acting

    def _send(self, request: requests.PreparedRequest) -> Any:
        return self.does(lambda: self._transmit(request))

    def _transmit(self, request: requests.PreparedRequest) -> Any:
        self.clock.passed += 0.05
        trouble = self.worker.trouble() if self.worker else None
        if trouble == "unsent":
            raise requests.exceptions.ConnectTimeout("nobody is there", request=request)
        if trouble is not None and (status := re.search(r"\d+", trouble)):
            page = {"content-type": "text/html", "content-length": str(len(PAGE))}
            return to_response(request, (int(status[0]), page, PAGE))
        answer = self.diffio.answer(request)
        if trouble == "lost":
            raise requests.exceptions.ReadTimeout("no response", request=request)
        media = urlsplit(str(request.url)).path.startswith("/m/")
        return to_response(request, answer, cut=len(answer[2]) // 2 if trouble == "cut" and media else None)
