"""A ledger on a disk, and a Diffio of a few lines that counts what it starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.models import DownloadedFile, Generation, GenerationSummary, Project
from airflow_provider_diffio.steps.create_generation import TaskIdentity
from airflow_provider_diffio.steps.ledger import Held, Ledger, LedgerRequest, Place, Record, Target
from airflow_provider_diffio.storage import resolve

REQUEST = LedgerRequest(base_url="https://api.diffio.example/v1", model="diffio-4.6-flash")
CONTENT = "c" * 64
SIZE = 1000

OpenLedger = Callable[..., Ledger]


@dataclass
class Seller:
    """Starts generations, one for each project and key."""

    started: dict[tuple[str, str], Generation] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)
    #: Called before, and after, a generation is started.
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def send(self, project_id: str, key: str) -> Generation:
        self.before()
        with self.lock:
            replay = (project_id, key) in self.started
            number = len(self.started) + 1
            generation = self.started.setdefault(
                (project_id, key), Generation(f"gen-{number}", project_id, REQUEST.model, "queued")
            )
        self.after()
        return Generation(**{**vars(generation), "idempotent_replay": replay})

    def existing(self, project_id: str) -> list[GenerationSummary]:
        self.asked.append(project_id)
        return [
            GenerationSummary(each.generation_id, "processing", each.model)
            for (project, _), each in self.started.items()
            if project == project_id
        ]


@pytest.fixture
def seller() -> Seller:
    return Seller()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def open_ledger(directory: Path) -> Iterator[OpenLedger]:
    opened = []

    def make(**options: Any) -> Ledger:
        ledger = Ledger.open(resolve(f"{directory}/"), **options)
        opened.append(ledger)
        return ledger

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    recording = tmp_path / "talk.wav"
    recording.write_bytes(bytes(SIZE))
    return Place.of(resolve(str(recording)))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target.of(str(tmp_path / "talk.mp3"), "audio")


def project(number: int = 1) -> Project:
    return Project(f"project-{number}", "talk.wav", "audio/wav", SIZE, "uploaded")


def identity(map_index: int = -1, try_number: int = 1) -> TaskIdentity:
    return TaskIdentity("dag", "restore", "run", map_index, try_number)


def start(ledger: Ledger, seller: Seller, place: Place | None = None, **options: Any) -> Record | Held:
    given: dict[str, Any] = {
        "project": project(),
        "place": place,
        "send": seller.send,
        "existing": seller.existing,
        **options,
    }
    return ledger.start(CONTENT, SIZE, given.pop("request", REQUEST), **given)


def restored_file(target: Target, record: Record) -> DownloadedFile:
    return DownloadedFile(
        path=target.files[0][0],
        size_bytes=10,
        sha256="0" * 64,
        mime_type="audio/mpeg",
        file_name="talk.mp3",
        download_type="audio",
        generation_id=record.generation_id or "",
        api_project_id="project-1",
    )
