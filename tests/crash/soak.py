"""
``make soak``: kills task processes, triggerers and schedulers at random moments of one mapped run.

It ends with exit code 0 when every file is whole and was billed once. Projects may be more than files: an
upload that is killed starts again in a new one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.crash.crash_tests import (
    PART_BYTES,
    QUICK_TO_NOTICE,
    RECORDING_BYTES,
    environment,
    make_recording,
    same_bytes,
)
from tests.e2e.local_airflow import LocalAirflow, TaskInstance

DAG_ID = "crash_soak"
RECORDINGS = 20
#: 24 kills in all.
KILLS = ("task",) * 16 + ("triggerer",) * 4 + ("scheduler",) * 4
PATIENCE_SECONDS = 1800.0
SETTINGS = {
    **QUICK_TO_NOTICE,
    # A task whose scheduler died with it is missed soon.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").strip())
    parser.add_argument("--seed", type=int, default=1, help="chooses whom to kill, and when")
    parser.add_argument("--folder", type=Path, help="a new folder to keep everything in, logs included")
    options = parser.parse_args(arguments)
    if options.folder:
        options.folder.mkdir(parents=True)
        return Soak(options.folder.resolve(), options.seed).run()
    with tempfile.TemporaryDirectory(prefix="diffio-soak-") as folder:
        return Soak(Path(folder), options.seed).run()


class Soak:
    """One mapped run, 24 kills, and the count of what is left."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311
        self._started = time.monotonic()
        self._done: Counter[str] = Counter()
        self._run_id = ""

    def run(self) -> int:
        """Kill, wait for the end, and judge; the exit code."""
        (self._folder / "raw").mkdir()
        for number in range(RECORDINGS):
            make_recording(self._raw(number), RECORDING_BYTES)
        self._say(f"seed {self._seed}: {RECORDINGS} recordings, {len(KILLS)} kills")
        with start_sandbox_process(
            engine="passthrough", processing_seconds=20, part_size=PART_BYTES, workers=RECORDINGS
        ) as sandbox:
            # Slow answers, so that kills come in the middle of something, and before all is over.
            sandbox.add_fault("delay", seconds=1.5, nth="every")
            env = {**environment(self._folder, sandbox.connection), **SETTINGS}
            dags = Path(__file__).parent / "soak_dags"
            with LocalAirflow(self._folder / "airflow", dags, env=env) as airflow:
                self._run_id = airflow.trigger(DAG_ID)
                for victim in self._random.sample(KILLS, len(KILLS)):
                    time.sleep(self._random.uniform(0.5, 3))
                    self._kill(airflow, victim)
                sandbox.clear_faults()
                state = airflow.wait_run(DAG_ID, self._run_id, timeout=PATIENCE_SECONDS)
                tries = sum(task.try_number for task in airflow.task_instances(DAG_ID, self._run_id))
            return self._judge(state, tries, sandbox)

    def _kill(self, airflow: LocalAirflow, victim: str) -> None:
        if victim == "task":
            self._kill_task(airflow)
        else:
            airflow.kill(victim, signal.SIGKILL)
            self._count(victim, f"the {victim}")
            airflow.restart(victim)

    def _kill_task(self, airflow: LocalAirflow) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            tasks = airflow.task_instances(DAG_ID, self._run_id)
            if tasks and all(task.state in {"success", "failed"} for task in tasks):
                raise SystemExit(f"everything was over after {self._done.total()} kills")
            living = set(airflow.processes())
            running = [task for task in tasks if task.state == "running" and task.pid in living]
            if running:
                self._kill_one(self._random.choice(running))
                return
            time.sleep(0.2)
        raise SystemExit("no task ran any more")

    def _kill_one(self, task: TaskInstance) -> None:
        assert task.pid is not None
        os.kill(task.pid, signal.SIGKILL)
        self._count("task", f"{task.label}, try {task.try_number}")

    def _judge(self, state: str, tries: int, sandbox: SandboxProcess) -> int:
        ledger = sandbox.ledger()
        whole = sum(same_bytes(self._restored / self._raw(n).name, self._raw(n)) for n in range(RECORDINGS))
        names = {self._raw(number).name for number in range(RECORDINGS)}
        leftovers = sorted(path.name for path in self._restored.glob("*") if path.name not in names)
        bought_for = Counter(_file_names(ledger))
        self._say(f"run: {state}, {tries} tries, kills: {dict(self._done)}")
        self._say(f"whole files: {whole} of {RECORDINGS}; left beside them: {leftovers or 'nothing'}")
        self._say(f"billed generations: {bought_for.total()}, for {len(bought_for)} recordings")
        self._say(f"projects: {len(ledger['projects'])}; open uploads: {ledger['totals']['openUploads']}")
        good = (
            state == "success"
            and self._done.total() == len(KILLS)
            and whole == RECORDINGS
            and not leftovers
            and bought_for == Counter(names)
        )
        self._say("PAID ONCE, LOST NOTHING" if good else "NOT AS PROMISED")
        return 0 if good else 1

    @property
    def _restored(self) -> Path:
        return self._folder / "restored"

    def _raw(self, number: int) -> Path:
        return self._folder / "raw" / f"recording-{number:02}.wav"

    def _count(self, victim: str, label: str) -> None:
        self._done[victim] += 1
        self._say(f"kill {self._done.total():2}: {label}")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)


def _file_names(ledger: dict[str, Any]) -> list[str]:
    """The recording that each billed generation is of."""
    names = {project["apiProjectId"]: project["fileName"] for project in ledger["projects"]}
    return [names[generation["apiProjectId"]] for generation in ledger["generations"]]


if __name__ == "__main__":
    sys.exit(main())
