"""What the demo says: a line for each thing that happens, and the verdict. Pure, so that it can be tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.demo.measure import Figures
from tests.e2e.local_airflow import HistoryEntry, TaskChange

LEAST_FLOOR_DROP_DB = 12.0
LEAST_SNR_GAIN_DB = 4.0

WORK = {
    "upload": "uploading the recording",
    "restore": "ordering the restoration, the one call that costs money",
    "wait": "looking whether it is done",
    "save": "downloading the restored recording",
    "save_transcript": "downloading the transcript",
}
FINISHED = {
    "success": "done",
    "failed": "FAILED",
    "up_for_retry": "failed, will be tried again",
    "upstream_failed": "not run, an earlier task failed",
    "skipped": "skipped",
}


class DemoFailedError(Exception):
    """The demo did not show what it promises."""


@dataclass(frozen=True)
class Wait:
    """A time that a task spent without a worker."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.ended - self.began).total_seconds()


def line(elapsed: float, who: str, what: str) -> str:
    """One line of progress."""
    return f"{elapsed:6.1f} s  {who:<15}  {what}"


def describe(change: TaskChange, working: Sequence[str] = ()) -> str | None:
    """What a change of state means, or None if it means nothing to a reader.

    ``working`` are the tasks that occupy a worker at that moment.
    """
    task, state = change.task, change.task.state
    if state == "deferred":
        workers = f"tasks on workers: {', '.join(working)}" if working else "no worker slot in use"
        return f"deferred: waits on the triggerer, {workers}"
    if state == "running":
        # Back from the triggerer, a task may go through a queue first.
        return WORK.get(task.task_id, "working")
    if state in FINISHED:
        return FINISHED[state]
    return None


def deferrals(history: Iterable[HistoryEntry], task_id: str) -> list[Wait]:
    """The times between a task's deferral and what happened to it next."""
    waits: list[Wait] = []
    began: datetime | None = None
    for entry in history:
        if entry.task_id != task_id:
            continue
        if entry.event == "deferred":
            began = entry.when
        elif began is not None:
            waits.append(Wait(began, entry.when))
            began = None
    return waits


def describe_deferrals(waits: Sequence[Wait], triggerer_log: str) -> str:
    """The proof that the wait took no worker; raises if it did."""
    if not waits or not triggerer_log.strip():
        raise DemoFailedError("the wait was not deferred: it held a worker slot all the time")
    seconds = sum(wait.seconds for wait in waits)
    return f"{seconds:.1f} s on the triggerer, without a worker slot"


def check(figures: Figures) -> None:
    """Raise unless the recording became better by both measures."""
    floor, snr = figures.floor_drop_db, figures.snr_gain_db
    problems = []
    if floor < LEAST_FLOOR_DROP_DB:
        problems.append(f"the noise floor fell by {floor:.1f} dB, not {LEAST_FLOOR_DROP_DB:.0f}")
    if snr < LEAST_SNR_GAIN_DB:
        problems.append(f"the speech rose by {snr:.1f} dB above the noise, not {LEAST_SNR_GAIN_DB:.0f}")
    if problems:
        raise DemoFailedError("the recording did not get better: " + "; ".join(problems))


def measured(figures: Figures) -> list[str]:
    """The figures as a small table."""
    return [
        f"{'':<28}{'before':>12}{'after':>12}{'change':>12}",
        _row("noise floor in the pauses", figures.noisy_floor_db, figures.restored_floor_db, "dBFS"),
        _row("speech above the noise", figures.noisy_snr_db, figures.restored_snr_db, "dB"),
    ]


def _row(name: str, before: float, after: float, unit: str) -> str:
    cells = (f"{before:.1f} {unit}", f"{after:.1f} {unit}", f"{after - before:+.1f} dB")
    return f"{name:<28}" + "".join(f"{cell:>12}" for cell in cells)


def shown(path: Path, folder: Path) -> str:
    """A path as the reader can open it from where the demo was started."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
