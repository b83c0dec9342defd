"""
A worker of a batch that dies right before and right after everything that it does to the world.

In memory, as ``test_ledger_crashes`` does. The batch waits on the triggerer, so that what it stores while it
waits is among its effects. Then Airflow tries again, from the beginning of the task.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.manifest import read_manifest
from airflow_provider_diffio.operators import DiffioRestoreBatchOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.operators.test_batch import billed, counts, fire
from tests.steps.test_crash_schedules import Worker, worker
from tests.steps.test_ledger_crashes import watched
from tests.task_runner import Outcome, make_task_runner, new_id

__all__ = ["watched", "worker"]

#: What a batch does to the world for each recording, in the order of the first one. The slot of
#: ``max_generations`` is created below ``runs``, and so is the checkpoint written and deleted.
EVENTS = (
    "create ledger.json",
    "POST /v1/create_project",
    "POST /v1/uploads/start",
    "PUT /v1/uploads/parts/1",
    "POST /v1/uploads/complete",
    "POST /v1/complete_project_upload",
    "create open",
    "create runs",
    "write owners",
    "create record claimed",
    "POST /v1/diffio-4.6-flash-generation",
    "create record started",
    "POST /v1/get_generation_progress",
    "write runs",
    "POST /v1/get_generation_download",
    "GET /m/",
    "rename",
    "create record done",
    "create done",
    "delete open",
    "delete runs",
)
#: Those that happen once, however many recordings there are.
ONCE = {"create ledger.json", "write owners", "write runs", "delete runs"}
NAMES = ("a.wav", "b.wav")
#: It dies before an event for the first recording, and after that for the second one.
MOMENTS = [("before", event, 0) for event in EVENTS] + [
    ("after", event, int(event not in ONCE)) for event in EVENTS
]


class Nights:
    """Batches over one directory on one ledger, each of them the only task of a DAG."""

    def __init__(self, raw: Path, output: Path) -> None:
        self.raw, self.output = raw, output

    def another(self, **options: Any) -> Callable[[], Any]:
        """Return what makes the operator of one task anew, as each process of a worker does."""
        import pendulum
        from airflow.providers.common.compat.sdk import DAG

        dag_id = new_id("dag")
        given = {
            "sources": str(self.raw), "path": str(self.output), "transfers": 1, "max_in_flight": 2,
            "max_generations": 2, "poll_interval": 0.1, "max_poll_interval": 0.1, "deferrable": True,
            **options,
        }  # fmt: skip

        def make() -> Any:
            dag = DAG(dag_id=dag_id, start_date=pendulum.datetime(2026, 1, 1), schedule=None)
            return DiffioRestoreBatchOperator(task_id="night", dag=dag, **given)

        return make


def one_try(runner: Any, make: Callable[[], Any], try_number: int) -> Outcome:
    """Run a try over all of its deferrals."""
    outcome: Outcome = runner.run(make(), try_number=try_number)
    for _ in range(6):
        if outcome.state != "deferred":
            break
        outcome = runner.resume(make(), fire(outcome), outcome, try_number=try_number)
    return outcome


@pytest.fixture
def nights(tmp_path: Path, output: Path, connection: dict[str, Any], short_deferrals: None) -> Nights:
    raw = tmp_path / "raw"
    raw.mkdir()
    past = time.time() - 3600
    for number, name in enumerate(NAMES, start=1):
        (raw / name).write_bytes(bytes([number]) * 2004)
        os.utime(raw / name, (past, past))
    return Nights(raw, output)


@pytest.fixture
def slow_at_diffio(sandbox: Sandbox) -> None:
    """Let no generation be over before the task has deferred."""
    sandbox.add_fault("processing-seconds", seconds=0.6, nth="every")


def test_these_are_all_events_there_are(watched: Worker, nights: Nights, slow_at_diffio: None) -> None:
    assert one_try(make_task_runner(), nights.another(), 1).state == "success"
    assert tuple(dict.fromkeys(watched.seen)) == EVENTS
    assert {event for event, count in Counter(watched.seen).items() if count == 1} == ONCE


@pytest.mark.parametrize(("when", "event", "passes"), MOMENTS)
def test_a_crash_at_any_event_is_paid_once(
    watched: Worker,
    nights: Nights,
    slow_at_diffio: None,
    sandbox: Sandbox,
    when: str,
    event: str,
    passes: int,
) -> None:
    watched.kill(when, event, 1, passes=passes)
    make, runner = nights.another(), make_task_runner()
    assert one_try(runner, make, 1).state != "success"
    assert watched.crashes == 1
    watched.start_again()
    second = one_try(runner, make, 2)
    assert second.state == "success", second.error
    found = counts(second.value)
    assert found.pop("restored", 0) + found.pop("kept", 0) == 2
    assert found == {"started": 2}
    rows = {Path(row["source"]).name: row for row in read_manifest(second.value)}
    assert rows.keys() == set(NAMES)
    for name in NAMES:
        assert (nights.output / f"{name}.mp3").read_bytes() == (nights.raw / name).read_bytes()
        assert rows[name]["files"][0]["path"] == str(nights.output / f"{name}.mp3")
    assert billed(sandbox) == 2
    assert len(sandbox.ledger()["projects"]) <= 3, "one upload may be lost with a worker"
    assert not list(nights.output.rglob("*.waiting.jsonl"))
    # Another task instance finds both finished.
    sent = len(sandbox.requests())
    another = one_try(make_task_runner(), nights.another(), 1)
    assert counts(another.value) == {"kept": 2}
    assert len(sandbox.requests()) == sent
