"""Runs the crash laboratory: real Airflow processes, real SIGKILLs, and the sandbox's ledger as the judge."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.crash.points import DAG_ID, ROWS, WAITING_DAG_ID, Row
from tests.e2e.local_airflow import LocalAirflow, TaskInstance
from tests.features import RETRY_OF_THE_KILLED

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
#: Three blocks of the download, and two parts of the upload, each with a middle.
RECORDING_BYTES = 3 * MIB + 4321
PART_BYTES = 3 * MIB // 2 + 1000
DRIVEN = [row for row in ROWS if row.point.by_driver]
START_SECONDS = 150.0
RUN_SECONDS = 400.0
#: What makes Airflow notice dead components soon; the defaults are for large deployments.
QUICK_TO_NOTICE = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one row."""

    row: Row
    states: Sequence[str | None]
    killed: bool
    tries: int
    generations: int
    projects: int
    open_uploads: int
    whole: bool
    leftovers: Sequence[str]

    def problems(self) -> list[str]:
        """What is not as it must be; nothing, it is to be hoped."""
        wanted: dict[str, tuple[object, object]] = {
            "states of the tasks": (set(self.states), {"success"}),
            "killed": (self.killed, True),
            "tried again": (self.tries > 1 or self.row.point.by_driver, True),
            "billed generations": (self.generations, 1),
            "projects": (self.projects, self.row.projects),
            "open uploads": (self.open_uploads, self.row.point.open_uploads),
            "file whole": (self.whole, True),
            "left beside the file": (list(self.leftovers), []),
        }
        return [f"{what}: {is_!r}, not {must!r}" for what, (is_, must) in wanted.items() if is_ != must]


def run(folder: Path) -> list[Outcome]:
    """Kill at every point, wait for the end, and look at what there is."""
    raw, kills = folder / "raw", folder / "kills"
    raw.mkdir()
    kills.mkdir()
    for row in ROWS:
        make_recording(raw / f"{row.name}.wav", RECORDING_BYTES)
    with start_sandbox_process(
        engine="passthrough", processing_seconds=3, part_size=PART_BYTES, workers=len(ROWS)
    ) as sandbox:
        env = {**environment(folder, sandbox.connection), **QUICK_TO_NOTICE}
        with LocalAirflow(folder / "airflow", Path(__file__).parent / "dags", env=env) as airflow:
            # These must not be over before they are deferred and the triggerer is killed.
            sandbox.add_fault("processing-seconds", seconds=50, nth="every")
            waiting = airflow.trigger(WAITING_DAG_ID)
            _wait_for_triggers(airflow, waiting)
            sandbox.clear_faults()
            others = airflow.trigger(DAG_ID)
            _kill_triggerer(airflow, waiting, kills)
            _wait_for_the_end(airflow, DAG_ID, others)
            _wait_for_the_end(airflow, WAITING_DAG_ID, waiting)
            tasks = [
                *airflow.task_instances(DAG_ID, others),
                *airflow.task_instances(WAITING_DAG_ID, waiting),
            ]
        ledger = sandbox.ledger()
    outcomes = [_outcome(row, folder, tasks, ledger) for row in ROWS]
    shutil.rmtree(raw)
    shutil.rmtree(folder / "restored")
    return outcomes


def environment(folder: Path, connection: Mapping[str, Any]) -> dict[str, str]:
    """What every process of the laboratory's Airflow is told."""
    fields = {**connection, "extra": {"output_path": str(folder / "restored")}}
    return {
        "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(fields),
        "DIFFIO_LAB": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def make_recording(path: Path, size: int) -> None:
    """Write bytes that no other recording has, the same in every run."""
    path.write_bytes(b"RIFF" + random.Random(path.name).randbytes(size - 4))  # noqa: S311


def _wait_for_triggers(airflow: LocalAirflow, run_id: str) -> None:
    """Wait until all are deferred and the triggerer has asked for each of them."""
    rows = [row for row in ROWS if row.dag_id == WAITING_DAG_ID]
    for row in rows:
        airflow.wait_task(WAITING_DAG_ID, run_id, row.dying_task_id, "deferred", timeout=START_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    waiting = rows
    while waiting:
        assert time.monotonic() < deadline, f"no trigger looked for {waiting[0].name}"
        time.sleep(0.2)
        logs = {row: airflow.trigger_logs(WAITING_DAG_ID, run_id, row.dying_task_id) for row in waiting}
        waiting = [row for row in waiting if "Generation " not in logs[row]]


def _kill_triggerer(airflow: LocalAirflow, run_id: str, kills: Path) -> None:
    airflow.kill("triggerer", signal.SIGKILL)
    for row in DRIVEN:
        if airflow.task_instance(WAITING_DAG_ID, run_id, row.dying_task_id).state == "deferred":
            (kills / row.name).touch()
    airflow.restart("triggerer")


def _wait_for_the_end(airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
    """Wait until a run is over, and stand in for the retries that its Airflow does not make."""
    for _ in range(1 if RETRY_OF_THE_KILLED.here else 3):
        if airflow.wait_run(dag_id, run_id, timeout=RUN_SECONDS) == "success" or RETRY_OF_THE_KILLED.here:
            return
        airflow.clear_failed(dag_id, run_id)
    airflow.wait_run(dag_id, run_id, timeout=RUN_SECONDS)


def _outcome(row: Row, folder: Path, tasks: Sequence[TaskInstance], ledger: Mapping[str, Any]) -> Outcome:
    ours = [task for task in tasks if task.task_id.startswith(f"{row.name}-")]
    projects = [project for project in ledger["projects"] if project["fileName"] == f"{row.name}.wav"]
    ids = {project["apiProjectId"] for project in projects}
    target = folder / "restored" / row.name / "restored.wav"
    return Outcome(
        row=row,
        states=[task.state for task in ours],
        killed=(folder / "kills" / row.name).exists(),
        tries=max((task.try_number for task in ours if task.task_id == row.dying_task_id), default=0),
        generations=sum(generation["apiProjectId"] in ids for generation in ledger["generations"]),
        projects=len(projects),
        open_uploads=sum(project["openUploads"] for project in projects),
        whole=same_bytes(target, folder / "raw" / f"{row.name}.wav"),
        leftovers=[path.name for path in sorted(target.parent.glob("*")) if path != target],
    )


def same_bytes(path: Path, other: Path) -> bool:
    """Whether both are there and hold the same."""
    if not path.is_file():
        return False
    digests = {hashlib.sha256(each.read_bytes()).digest() for each in (path, other)}
    return len(digests) == 1


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, to be read by people."""
    head = ("killed", "tasks", "state", "tries", "billed", "projects", "open uploads", "file", "beside it")
    rows = [
        (
            outcome.row.point.title,
            "four" if outcome.row.kind == "steps" else "one",
            "/".join(sorted({str(state) for state in outcome.states})),
            str(outcome.tries),
            str(outcome.generations),
            str(outcome.projects),
            str(outcome.open_uploads),
            "whole" if outcome.whole else "NOT WHOLE",
            ", ".join(outcome.leftovers) or "nothing",
        )
        for outcome in outcomes
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
