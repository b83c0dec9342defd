"""
An hour in which Diffio answers every request with 503, and many tasks with two retries.

The tasks run in Airflow's real task runner; the clock and the scheduler's waits between the tries are
simulated. Each task starts at another moment of the hour, and waits for its ``retry_delay`` of five minutes,
Airflow's default.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.operators import DiffioCreateProjectOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import OUTAGES, RETRY_POLICY, needs
from tests.task_runner import TaskRunner, make_task_runner

pytestmark = needs(RETRY_POLICY)

#: 200 were tried for the documentation: DIFFIO_OUTAGE_TASKS=200.
TASKS = int(os.environ.get("DIFFIO_OUTAGE_TASKS", "12"))
OUTAGE = 3600.0
RETRIES = 2
RETRY_DELAY = 300.0


class Tasks:
    """All tasks of the outage, run in the order of the simulated clock."""

    def __init__(self, sandbox: Sandbox, make: Callable[[int], Any]) -> None:
        self._sandbox = sandbox
        self._operators = [make(number) for number in range(TASKS)]
        self._runners: list[TaskRunner] = [make_task_runner() for _ in self._operators]
        self._tries = [1] * TASKS
        self.states = [""] * TASKS
        self.runs = 0

    def run(self) -> None:
        self._sandbox.add_fault("status", path="*", status=503, nth="every")
        down = True
        due = [(OUTAGE * number / TASKS, number) for number in range(TASKS)]
        heapq.heapify(due)
        while due:
            moment, number = heapq.heappop(due)
            if down and moment >= OUTAGE:
                self._sandbox.clear_faults()
                down = False
            if self._once_more(number):
                heapq.heappush(due, (moment + RETRY_DELAY, number))

    def _once_more(self, number: int) -> bool:
        """Run a try; whether Airflow runs the task again."""
        outcome = self._runners[number].run(self._operators[number], try_number=self._tries[number])
        self.runs += 1
        self.states[number] = outcome.state
        if outcome.state == "up_for_reschedule":
            return True
        if outcome.state == "up_for_retry":
            # The in-memory scheduler would always allow another one.
            self._tries[number] += 1
            if self._tries[number] <= RETRIES + 1:
                return True
            self.states[number] = "failed"
        return False


def test_an_hours_outage(
    sandbox: Sandbox,
    dag: Any,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    show: Callable[[str, str], None],
) -> None:
    connection = {**sandbox.connection, "extra": {"max_attempts": 1, "timeout": 10}}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(connection))

    def make(number: int) -> Any:
        return DiffioCreateProjectOperator(
            task_id=f"upload_{number}", source=str(recording), retries=RETRIES, dag=dag
        )

    tasks = Tasks(sandbox, make)
    tasks.run()
    failed = tasks.states.count("failed")
    assert failed + tasks.states.count("success") == TASKS, tasks.states
    if OUTAGES.here:
        assert failed == 0
    else:
        # Every task whose last try was over before the hour was.
        last_try = RETRIES * RETRY_DELAY
        assert failed == sum(OUTAGE * number / TASKS + last_try < OUTAGE for number in range(TASKS))
    show(
        "outage",
        f"an hour of 503, {TASKS} tasks with retries={RETRIES}: {failed} failed, {tasks.runs} runs of tasks",
    )
