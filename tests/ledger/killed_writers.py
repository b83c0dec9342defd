"""
Processes that start generations through one ledger and kill themselves at random moments.

Run as ``python -m tests.ledger.killed_writers DIRECTORY SOLD JOBS SEED LEASE [CONN_ID]``: restores the jobs
in an order of its own until all of them have a generation. ``SOLD`` stands for Diffio: a directory in which
the start of a generation creates one file for each project and key, and writes a line into a journal if there
was none.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from airflow_provider_diffio.api.models import Generation, GenerationSummary, Project
from airflow_provider_diffio.ledger.errors import DiffioLedgerError
from airflow_provider_diffio.steps.ledger import Held, Ledger, LedgerRequest
from airflow_provider_diffio.storage import resolve
from airflow_provider_diffio.storage.object_directory import ObjectDirectory

REQUEST = LedgerRequest(base_url="https://api.diffio.example/v1", model="m")
#: One in so many changes and requests ends the process.
RARITY = 25


class Seller:
    """Diffio, as all processes see it."""

    def __init__(self, sold: Path, chance: random.Random) -> None:
        self._sold = sold
        self._chance = chance

    def send(self, project_id: str, key: str) -> Generation:
        perhaps_die(self._chance)
        path = self._sold / f"{project_id}@{key}"
        with (self._sold / "journal").open("a") as journal:
            try:
                path.touch(exist_ok=False)
                journal.write(f"{project_id}@{key}\n")
            except FileExistsError:
                pass
        perhaps_die(self._chance)
        return Generation(path.name, project_id, "m", "queued")

    def existing(self, project_id: str) -> list[GenerationSummary]:
        return [
            GenerationSummary(path.name, "processing", "m") for path in self._sold.glob(f"{project_id}@*")
        ]


def perhaps_die(chance: random.Random) -> None:
    if chance.randrange(RARITY) == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def die_at_changes(chance: random.Random) -> None:
    create = ObjectDirectory.create

    def creating(self: Any, name: str, data: bytes) -> bool:
        perhaps_die(chance)
        created = create(self, name, data)
        perhaps_die(chance)
        return created

    ObjectDirectory.create = creating  # type: ignore[method-assign]


def work(directory: str, sold: Path, jobs: int, seed: int, lease: float, conn_id: str | None) -> None:
    chance = random.Random(seed)  # noqa: S311 -- not for secrets
    die_at_changes(chance)
    ledger = Ledger.open(resolve(directory, conn_id=conn_id), lease=lease)
    seller = Seller(sold, chance)
    left = [f"{number:064x}" for number in range(jobs)]
    chance.shuffle(left)
    while left:
        content = left.pop()
        project = Project(f"project-{seed}-{content[-4:]}", "a.wav", "audio/wav", 10, "uploaded")
        try:
            outcome = ledger.start(
                content,
                10,
                REQUEST,
                project=project,
                place=None,
                send=seller.send,
                existing=seller.existing,
            )
        except DiffioLedgerError:  # a store that is slower than the lease: as Airflow does, try again
            outcome = None
        if outcome is None or isinstance(outcome, Held):
            left.insert(0, content)
            time.sleep(0.02)


if __name__ == "__main__":
    place, journal, count, number, seconds, *conn_ids = sys.argv[1:]
    work(place, Path(journal), int(count), int(number), float(seconds), conn_ids[0] if conn_ids else None)
