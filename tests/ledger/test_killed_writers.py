"""Two and eight processes at one ledger, which are killed at random: each recording is started once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_diffio.ledger.names import Chain
from airflow_provider_diffio.steps.ledger import Ledger
from airflow_provider_diffio.storage import resolve
from tests.ledger.killed_writers import REQUEST

JOBS = int(os.environ.get("DIFFIO_LEDGER_JOBS", "12"))
LEASE = 2.0


def run_writers(
    directory: str, sold: Path, writers: int, *, conn_id: str | None = None, seconds: float = 180
) -> int:
    """Keep so many processes at work until each of them has ended by itself once; return the kills."""
    kills, seed = 0, 0
    until = time.monotonic() + seconds
    running: dict[int, subprocess.Popen[bytes]] = {}
    finished: set[int] = set()
    more = [conn_id] if conn_id else []
    while len(finished) < writers:
        assert time.monotonic() < until, "the writers did not end in time"
        for slot in range(writers):
            process = running.get(slot)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                assert process.returncode in (0, -9), process.returncode
                kills += process.returncode == -9
                if process.returncode == 0:
                    finished.add(slot)
            if slot not in finished:
                seed += 1
                running[slot] = subprocess.Popen(
                    [
                        sys.executable, "-W", "ignore", "-m", "tests.ledger.killed_writers",
                        directory, str(sold), str(JOBS), str(seed), str(LEASE), *more,
                    ]
                )  # fmt: skip
        time.sleep(0.05)
    return kills


def check_started_once(ledger: Ledger, sold: Path) -> None:
    """Check that each recording was started once, and that its record knows as which generation."""
    started = (sold / "journal").read_text().split()
    by_job = Counter(line.rpartition("ledger-")[2] for line in started)
    assert len(started) == len(by_job) == JOBS
    for number in range(JOBS):
        record = ledger.record(Chain.of(f"{number:064x}", REQUEST))
        assert record is not None
        assert record.state == "started"
        assert record.generation_id in started


@pytest.mark.parametrize("writers", [2, 8])
def test_each_recording_is_started_once(tmp_path: Path, writers: int) -> None:
    sold = tmp_path / "sold"
    sold.mkdir()
    directory = f"{tmp_path}/ledger/"
    assert run_writers(directory, sold, writers) > 0
    with Ledger.open(resolve(directory)) as ledger:
        check_started_once(ledger, sold)
