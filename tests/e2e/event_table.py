"""
The table of events in the documentation: what 100 deliveries within five seconds come to on each Airflow.

    make event-table AIRFLOW=3.4.0b2        # measures one version, and stores its row
    python -m tests.e2e.event_table --show  # prints the table of all

Four DAGs, on a real Airflow: on the asset of webhooks and on that of a watcher, each with the plain asset as
its schedule and with ``one_run_for_all``. Every DAG saves the file of each generation that it is told of.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.e2e.local_airflow import LocalAirflow
from tests.plugins.signing import event, sign

STORED = Path(__file__).with_name("event_table.json")
DELIVERIES = 100
WITHIN_SECONDS = 5.0
INTERVAL = 10.0
#: The DAGs, with what the table calls them.
KINDS: Mapping[str, str] = {
    "webhook_plain": "webhook, `schedule=[asset]`",
    "webhook_batched": "webhook, `one_run_for_all`",
    "watcher_plain": "watcher, `schedule=[asset]`",
    "watcher_batched": "watcher, `one_run_for_all`",
}
PATIENCE = 600.0

DAGS = f"""
import re

from airflow.sdk import DAG, task

from airflow_provider_diffio.assets import diffio_completed_asset, finished_generations, one_run_for_all
from airflow_provider_diffio.hooks import DiffioHook

webhook, watcher = diffio_completed_asset(), diffio_completed_asset(poll_interval={INTERVAL})
SCHEDULES = {{
    "webhook_plain": [webhook],
    "webhook_batched": one_run_for_all(webhook),
    "watcher_plain": [watcher],
    "watcher_batched": one_run_for_all(watcher),
}}

for dag_id, schedule in SCHEDULES.items():
    with DAG(dag_id, schedule=schedule, catchup=False):

        @task(retries=2)
        def save(triggering_asset_events=None, dag_run=None):
            hook, run = DiffioHook(), re.sub(r"\\W+", "_", dag_run.run_id)
            for generation in finished_generations(triggering_asset_events):
                file = f"{{dag_run.dag_id}}/{{generation['generation_id']}}/{{run}}.mp3"
                hook.download(generation["generation_id"], generation["api_project_id"], file)

        save()
"""


class Measurement:
    """One Airflow, and the files that its DAGs have saved."""

    def __init__(self, airflow: LocalAirflow, sandbox: SandboxProcess, output: Path, recording: Path) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.output = output
        self.recording = recording

    def run(self) -> dict[str, Any]:
        """Deliver, wait until nothing is missing any more or the patience ends, and count."""
        for kind in KINDS:
            self.airflow.wait_dag(kind)
        self._until(lambda: self._polls() >= 2, "the watcher does not poll")
        generations = self._finish(DELIVERIES)
        seconds = self._deliver(generations)
        # Up to Airflow 3.3 a watcher's last event may wait for the next one: then there is a next one.
        further: list[tuple[str, str]] = []
        for _ in range(4):
            if self._wait(set(generations) | set(further)):
                break
            further += self._finish(1)
        time.sleep(2 * INTERVAL)
        return {
            "seconds": round(seconds, 1),
            "further": len(further),
            "kinds": {kind: self._count(kind, [name for name, _ in generations]) for kind in KINDS},
        }

    def _finish(self, count: int) -> list[tuple[str, str]]:
        hook = DiffioHook()

        def one(_: int) -> tuple[str, str]:
            project_id = hook.create_project(self.recording).api_project_id
            return hook.create_generation(project_id).generation_id, project_id

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(one, range(count)))
            list(pool.map(lambda ids: hook.wait_for_generation(ids[0], poll_interval=0.5), made))
        return made

    def _deliver(self, generations: list[tuple[str, str]]) -> float:
        url = f"{self.airflow.url}/diffio/webhooks/diffio_default"

        def send(ids: tuple[str, str]) -> None:
            body = event(generationId=ids[0], apiProjectId=ids[1])
            delivery = sign(body, self.sandbox.webhook_secret)
            while True:  # as Svix does
                with contextlib.suppress(requests.RequestException):
                    answer = requests.post(url, data=delivery.body, headers=delivery.headers, timeout=30)
                    if answer.ok:
                        return
                time.sleep(0.2)

        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(send, generations))
        return time.monotonic() - began

    def _wait(self, generations: set[tuple[str, str]]) -> bool:
        """Whether everything is saved; False when something is missing and nothing changes any more."""
        delivered = {name for name, _ in generations}
        deadline, quiet, before = time.monotonic() + PATIENCE, time.monotonic() + 60, -1
        while time.monotonic() < min(deadline, quiet):
            saved = [self._files(kind) for kind in KINDS]
            # What came later was not delivered by a webhook.
            if all(len(set(each) & delivered) >= DELIVERIES for each in saved):
                return True
            count = sum(map(len, saved))
            if count != before:
                quiet, before = time.monotonic() + 60, count
            time.sleep(1)
        return False

    def _count(self, kind: str, generations: list[str]) -> dict[str, int]:
        files = self._files(kind)
        runs = self.airflow.rest("GET", f"/dags/{kind}/dagRuns?limit=1")["total_entries"]
        return {
            "runs": runs,
            "files": sum(bool(files.get(each)) for each in generations),
            "lost": sum(not files.get(each) for each in generations),
            "doubled": sum(len(files.get(each, ())) > 1 for each in generations),
        }

    def _files(self, kind: str) -> dict[str, list[str]]:
        folder = self.output / kind
        if not folder.exists():
            return {}
        found = {each.name: [file.name for file in each.glob("[!.]*.mp3")] for each in folder.iterdir()}
        return {name: files for name, files in found.items() if files}

    def _polls(self) -> int:
        return sum(request["path"].endswith("list_projects") for request in self.sandbox.requests())

    def _until(self, done: Any, problem: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{problem}\n{self.airflow.logs_text()[-10_000:]}")
            time.sleep(0.5)


def measure(folder: Path) -> dict[str, Any]:
    """Measure the Airflow that is installed."""
    dags = folder / "dags"
    dags.mkdir()
    (dags / "events.py").write_text(DAGS)
    recording = folder / "talk.wav"
    recording.write_bytes(b"RIFF" + bytes(range(256)) * 40)
    with start_sandbox_process(processing_seconds=0, engine="passthrough", workers=4) as sandbox:
        extra = {"output_path": str(folder / "out"), "webhook_secret": sandbox.webhook_secret}
        connection = json.dumps({**sandbox.connection, "extra": extra})
        os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = connection
        env = {"AIRFLOW_CONN_DIFFIO_DEFAULT": connection}
        with LocalAirflow(folder / "airflow", dags, env=env) as airflow:
            return Measurement(airflow, sandbox, folder / "out", recording).run()


def stored() -> dict[str, Any]:
    """Return what was measured, by version."""
    return dict(json.loads(STORED.read_text()))


def render(rows: Mapping[str, Any]) -> str:
    """Return the table as Markdown: runs of each kind of DAG."""
    lines = [f"| Airflow | {' | '.join(KINDS.values())} | files of each | lost | doubled |"]
    lines.append("|---" * (len(KINDS) + 4) + "|")
    for airflow, row in rows.items():
        kinds = row["kinds"].values()
        runs = [_runs(row["kinds"][kind]["runs"]) for kind in KINDS]
        files = "/".join(str(each) for each in sorted({kind["files"] for kind in kinds}))
        lost, doubled = (sum(kind[name] for kind in kinds) for name in ("lost", "doubled"))
        lines.append(f"| {airflow} | {' | '.join(runs)} | {files} | {lost} | {doubled} |")
    return "\n".join(lines) + "\n"


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def main() -> None:
    """Measure, unless the table is only shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--show", action="store_true", help="print the table of all versions, measure nothing"
    )
    if not parser.parse_args().show:
        with tempfile.TemporaryDirectory(prefix="diffio-events-") as folder:
            row = measure(Path(folder))
        print(json.dumps(row, indent=2))
        rows = {**(stored() if STORED.exists() else {}), version("apache-airflow"): row}
        STORED.write_text(json.dumps(dict(sorted(rows.items())), indent=2) + "\n")
    print(render(stored()))


if __name__ == "__main__":
    main()
