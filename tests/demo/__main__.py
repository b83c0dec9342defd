"""``make demo``: a noisy recording, a real Airflow, the sandbox in Diffio's place, and what came of it.

Everything is made in ``.demo/`` and every process is ended, whatever happens. Exit code 1 when the recording
did not get clearly better, when the wait was not deferred, or when more than one restoration was paid.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from tests.demo import measure, picture, report
from tests.demo.report import DemoFailedError
from tests.e2e.command import alone, end_like_ctrl_c
from tests.e2e.local_airflow import HistoryEntry, LocalAirflow, TaskChange
from tests.e2e.processes import ProcessTree, end_all, inherited_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_dags"
NOISY = EXAMPLES / "recordings" / "noisy_speech.wav"
CLEAN = EXAMPLES / "recordings" / "clean_speech.flac"
FOLDER = ROOT / ".demo"

DAG_ID = "diffio_restore_one"
PROCESSING_SECONDS = 15
RUN_SECONDS = 120


@dataclass(frozen=True)
class Results:
    """What the run left behind."""

    restored: Path
    transcript: Path
    deferral: str


class Demo:
    """The demo's steps, in order."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._restored = FOLDER / "restored"

    def run(self) -> None:
        """Show it all, or raise."""
        self.say("demo", f"restoring {report.shown(NOISY, Path.cwd())} with Airflow")
        with sandbox(FOLDER / "sandbox") as ready:
            self.say("sandbox", f"stands for Diffio, with a page for your browser: {ready['api_url']}/")
            with LocalAirflow(
                FOLDER / "airflow", EXAMPLES, env=self._environment(ready), paused_at_creation=True
            ) as airflow:
                self.say("airflow", f"{airflow.version} is up: {', '.join(airflow.components)}")
                results = self._restore(airflow)
            billed = billed_generations(ready)
        self._conclude(results, billed)

    def say(self, who: str, what: str) -> None:
        """Print one line of progress at once."""
        print(report.line(time.monotonic() - self._started, who, what), flush=True)

    def _environment(self, ready: dict[str, Any]) -> dict[str, str]:
        connection = {
            "conn_type": "diffio",
            "host": ready["api_url"],
            "password": ready["api_key"],
            "extra": {"output_path": str(self._restored)},
        }
        return {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection),
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        }

    def _restore(self, airflow: LocalAirflow) -> Results:
        """Run the DAG and collect what it made."""
        run_id = airflow.trigger(DAG_ID, conf={"source": str(NOISY)})
        self.say("airflow", f"runs {DAG_ID}")

        seen: list[HistoryEntry] = []

        def tell(change: TaskChange) -> None:
            task = change.task
            seen.append(
                HistoryEntry(
                    datetime.now(UTC), task.task_id, task.map_index, task.try_number, str(task.state)
                )
            )
            tasks = airflow.task_instances(DAG_ID, run_id)
            if what := report.describe(change, [each.label for each in tasks if each.state == "running"]):
                self.say(task.label, what)

        if airflow.wait_run(DAG_ID, run_id, timeout=RUN_SECONDS, on_change=tell) != "success":
            raise DemoFailedError(f"the run failed.\n{failure_logs(airflow, run_id)}")
        # Airflow 3.2 and later keep a record of deferrals; before that, what was seen has to do.
        record = (airflow.history(DAG_ID, run_id) if airflow.is_airflow_3 else []) or seen
        waits = report.deferrals(record, "wait")
        return Results(
            restored=self._saved(airflow.xcom(DAG_ID, run_id, "save")),
            transcript=self._saved(airflow.xcom(DAG_ID, run_id, "save_transcript")),
            deferral=report.describe_deferrals(waits, airflow.trigger_logs(DAG_ID, run_id, "wait")),
        )

    def _saved(self, asset: Any) -> Path:
        """Where a downloaded file lies; it must be there, whole, and where the connection points."""
        path = Path(str(asset["path"]).removeprefix("file://"))
        if not path.is_relative_to(self._restored):
            raise DemoFailedError(f"{path} is not below the connection's output_path")
        if not path.is_file() or path.stat().st_size != asset["size_bytes"]:
            raise DemoFailedError(f"{path} is not the file of {asset['size_bytes']} bytes that was reported")
        return path

    def _conclude(self, results: Results, billed: int) -> None:
        """Measure, draw and print the outcome."""
        comparison = measure.compare(measure.load(NOISY), measure.load(CLEAN), measure.load(results.restored))
        drawing = FOLDER / "before_after.png"
        picture.draw(comparison, drawing)
        print()
        for row in report.measured(comparison.figures):
            print(row)
        print()
        for name, value in {
            "waiting": results.deferral,
            "billed": f"{billed} generation",
            "restored": report.shown(results.restored, Path.cwd()),
            "transcript": report.shown(results.transcript, Path.cwd()),
            "picture": report.shown(drawing, Path.cwd()),
        }.items():
            print(f"{name:<12}{value}")
        report.check(comparison.figures)
        if billed != 1:
            raise DemoFailedError(f"one recording was paid for {billed} times")
        print(f"\nDone after {time.monotonic() - self._started:.0f} s.")


@contextlib.contextmanager
def sandbox(folder: Path) -> Iterator[dict[str, Any]]:
    """The sandbox as a process of its own: its addresses and key."""
    folder.mkdir(parents=True)
    ready_file = folder / "ready.json"
    command = [
        *(sys.executable, "-m", "airflow_provider_diffio.sandbox"),
        *("--port", "0", "--ready-file", str(ready_file), "--data-dir", str(folder / "data")),
        *("--processing-seconds", str(PROCESSING_SECONDS)),
    ]
    process = ProcessTree("sandbox", command, inherited_environment(()), folder / "sandbox.log")
    try:
        process.start()
        deadline = time.monotonic() + 60
        while not ready_file.exists():
            process.check()
            if time.monotonic() > deadline:
                raise DemoFailedError(f"the sandbox did not start:\n{process.tail()}")
            time.sleep(0.1)
        yield json.loads(ready_file.read_text())
    finally:
        end_all([process])


def billed_generations(ready: dict[str, Any]) -> int:
    """How many restorations Diffio would have billed."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{ready['api_url']}/sandbox/ledger", timeout=10)
        answer.raise_for_status()
        return int(answer.json()["totals"]["generations"])


def failure_logs(airflow: LocalAirflow, run_id: str) -> str:
    """The logs of the tasks that failed."""
    failed = [task for task in airflow.task_instances(DAG_ID, run_id) if task.state == "failed"]
    return "\n".join(airflow.task_logs(DAG_ID, run_id, task.task_id) for task in failed)


def main() -> int:
    """Run the demo; the exit code."""
    end_like_ctrl_c()
    try:
        with alone(FOLDER):
            Demo().run()
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"\nTHE DEMO FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
