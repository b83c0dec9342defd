"""Many triggers at once, ours and others', each kind in a process of its own against a server of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.environment import REPOSITORY
from benchmarks.waiters import Task

NAMES = {
    "session": "bare aiohttp session",
    "diffio": "this provider",
    "databricks": "Databricks",
    "dbt": "dbt Cloud",
}
#: Seconds between polls that the peers' operators wait by default.
DEFAULT_INTERVALS = {"databricks": 30.0, "dbt": 60.0}
TEN_MINUTES = 600.0


def measure(python: Path, ten_minutes: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """
    Run every kind, those that are compared closely twice, and ours with many more triggers.

    The order is the same from both ends, so that a machine that gets slower or faster favours none of them.

    :param python: the interpreter that has the peers' packages.
    :param ten_minutes: polls and delay of ours for ten-minute jobs, as simulated.
    """
    count, interval, polls = (200, 1.0, 10) if quick else (1000, 4.0, 10)
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in NAMES}
    for kind in ("session", "diffio", "databricks", "dbt", "databricks", "diffio", "session"):
        runs[kind].append(run(python, kind, count, interval, polls))
    rows = {kind: _median(found) for kind, found in runs.items()}
    # Longer than an idle connection is kept: what the peers' polls cost at their own intervals.
    pause, some, few = (2.0, 50, 3) if quick else (16.0, 300, 3)
    at_rest = {kind: run(python, kind, some, pause, few) for kind in DEFAULT_INTERVALS}
    many = run(python, "diffio", 1000, 3.0, 3) if quick else run(python, "diffio", 10_000, 30.0, 2)
    return {
        "triggers": count,
        "rows": rows,
        "runs": runs,
        "many": {"triggers": 1000 if quick else 10_000, **many},
        "generations": {
            name: _per_generation(rows, at_rest, simulated) for name, simulated in ten_minutes.items()
        },
    }


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _per_generation(
    rows: dict[str, Any], at_rest: dict[str, Any], simulated: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return CPU milliseconds and mean delay of each kind for one ten-minute job."""
    found = {
        "diffio": {
            "cpu_ms": simulated["polls"] * rows["diffio"]["cpu_ms_per_poll"],
            "polls": simulated["polls"],
            "delay": simulated["mean_delay"],
        }
    }
    for kind, interval in DEFAULT_INTERVALS.items():
        polls = TEN_MINUTES / interval
        cost = at_rest[kind]["cpu_ms_per_poll"]
        found[kind] = {"cpu_ms": polls * cost, "polls": polls, "delay": interval / 2}
    return found


def run(python: Path, kind: str, count: int, interval: float, polls: int) -> dict[str, Any]:
    """Run one kind and return what it cost."""
    print(f"  {NAMES[kind]}: {count} triggers, {polls} polls each, every {interval:g} s", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="diffio-bench-") as folder,
        _server(python, folder, polls) as port,
    ):
        ca = str(Path(folder) / "ca.pem")
        task = Task(kind, count, interval, polls, port, ca)
        environment = {
            **os.environ,
            "AIRFLOW_HOME": folder,
            "SSL_CERT_FILE": ca,
        }
        done = subprocess.run(
            [str(python), "-W", "ignore", "-m", "benchmarks.waiters", json.dumps(asdict(task))],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "cpu_ms_per_poll": 1000 * result["cpu_seconds"] / result["polls"]}


@contextmanager
def _server(python: Path, folder: str, polls: int) -> Iterator[int]:
    command = [str(python), "-m", "benchmarks.poll_server", folder, str(polls)]
    server = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        ready = Path(folder) / "port"
        deadline = time.monotonic() + 60
        while not ready.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the poll server did not start")
            time.sleep(0.05)
        yield int(ready.read_text())
    finally:
        server.kill()
        server.wait()
