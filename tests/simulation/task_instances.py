"""Task instances of the simulation: what Airflow keeps of each, and the tries that it gives them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_diffio.operators import DiffioRestoreOperator
from tests.simulation.diffio import Generation
from tests.simulation.world import Crash, Plan, World
from tests.task_runner import Outcome, TaskRunner, make_task_runner, new_id

#: The word that a trigger sends for each way in which a wait ends.
EVENTS = ("complete", "failed", "timeout", "error")


@dataclass
class TaskInstance:
    """
    One instance of a task with ``DiffioRestoreOperator``.

    :ivar name: what Diffio's bills are told apart by.
    :ivar arguments: what its operator is made with.
    :ivar tries: how many it had since it was made; clearing counts on.
    :ivar deferred: what was stored when it deferred, while it is deferred.
    :ivar said: everything that Airflow stored or showed of it.
    :ivar paid_with: its arguments when a generation was started for it, by generation.
    """

    name: str
    world: World
    arguments: dict[str, Any]
    dag_id: str = field(default_factory=lambda: new_id("dag"))
    runner: TaskRunner = field(default_factory=make_task_runner)
    tries: int = 0
    state: str | None = None
    value: Any = None
    error: BaseException | None = None
    deferred: Outcome | None = None
    said: list[str] = field(default_factory=list)
    paid_with: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def operator(self) -> DiffioRestoreOperator:
        """A new operator, as each process of Airflow makes one."""
        dag = DAG(dag_id=self.dag_id, start_date=pendulum.datetime(2026, 1, 1), schedule=None)
        return DiffioRestoreOperator(task_id="restore", dag=dag, **self.arguments)

    @property
    def destination(self) -> Path:
        """Where its file goes."""
        return Path(self.arguments["path"])

    def run(self, plan: Plan) -> None:
        """Have a try, or go on with a try that was deferred and whose event has come."""
        self.tries += 1
        self.deferred = None
        with self.world.working(plan, self.name):
            self._take(self.runner.run(self.operator, try_number=self.tries))
        for generation in self.paid():
            self.paid_with.setdefault(generation.generation_id, dict(self.arguments))

    def paid(self) -> list[Generation]:
        """Return what was started for it and did not fail, the oldest first."""
        generations = self.world.diffio.generations.values()
        return [each for each in generations if each.asked_by == self.name and not each.fails]

    def resume(self, event: str, plan: Plan, *, late: Outcome | None = None) -> None:
        """Go on after a deferral, by a trigger's event."""
        deferred = late or self.deferred
        assert deferred is not None
        fields = {name: value for name, value in deferred.trigger.items() if name != "not_before"}
        with self.world.working(plan, self.name):
            self._take(self.runner.resume(self.operator, {"status": event, **fields}, deferred))
        if self.state == "success":
            # What the task was told before it deferred counts, whatever its templates give by now.
            stored = deferred.next_kwargs["deferral"]
            assert self.value["generation_id"] == stored["wait"]["generation_id"]
            assert self.value["path"] == stored["arguments"]["path"]

    def _take(self, outcome: Outcome) -> None:
        self.error = None
        if isinstance(outcome.error, Crash):
            # Its deferral, if any, was not stored: Airflow tries again from the beginning.
            self.state, self.deferred = "up_for_retry", None
            return
        self.state, self.error = outcome.state, outcome.error
        self.deferred = outcome if outcome.state == "deferred" else None
        if outcome.state == "success":
            self.value = outcome.value
            generation = self.world.diffio.generations[self.value["generation_id"]]
            # With a ledger, whoever comes first starts it for all.
            assert generation.asked_by == self.name or "ledger" in self.arguments
            assert Path(self.value["path"]).read_bytes() == generation.restored
        self.said.append(repr(outcome.error))
        self.said.append(str(outcome.error))
        stored = [outcome.value, outcome.trigger, outcome.next_kwargs, self.runner.state_store]
        self.said.append(json.dumps(stored, default=repr))

    @property
    def is_over(self) -> bool:
        """Whether Airflow gives it no further try by itself."""
        return self.state in ("success", "failed")
