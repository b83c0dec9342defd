"""
Runs one try of a task as Airflow runs it, in milliseconds, and shows what came out.

On Airflow 3 the real task runner talks to an Execution API that is held in memory; on Airflow 2 the real
TaskInstance works on a SQLite database. Templating, XCom, deferral and resumption are Airflow's own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.features import INSTALLED

AIRFLOW_3 = INSTALLED >= (3, 0)


@dataclass
class Outcome:
    """
    What one try of a task came to.

    :ivar state: Airflow's word for the task's state afterwards.
    :ivar value: the ``return_value`` XCom.
    :ivar error: what the task raised.
    :ivar trigger: the stored arguments of the trigger, when it deferred.
    :ivar next_method: where a deferred task goes on.
    :ivar next_kwargs: and with what.
    """

    state: str
    value: Any = None
    error: BaseException | None = None
    trigger: dict[str, Any] = field(default_factory=dict)
    next_method: str | None = None
    next_kwargs: dict[str, Any] = field(default_factory=dict)


class TaskRunner(Protocol):
    """One task instance; the state store and the XComs last over its tries."""

    state_store: dict[str, Any]

    def run(
        self, operator: Any, *, try_number: int = 1, upstream: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Run a try from its beginning. ``upstream`` holds XComs of other tasks by task id."""

    def resume(self, operator: Any, event: Any, deferred: Outcome) -> Outcome:
        """Go on after a deferral, with a trigger's event."""


def fire(deferred: Outcome) -> Any:
    """Run the trigger of a deferred task until its first event, and return the event's payload."""
    from airflow_provider_diffio.triggers import DiffioGenerationTrigger

    async def first_event() -> Any:
        event = await anext(DiffioGenerationTrigger(**deferred.trigger).run())
        return event.payload

    return asyncio.run(first_event())


def make_task_runner() -> TaskRunner:
    """Return a task runner for the Airflow that is installed."""
    if AIRFLOW_3:
        from tests.task_runner.airflow_3 import Airflow3TaskRunner

        return Airflow3TaskRunner()
    from tests.task_runner.airflow_2 import Airflow2TaskRunner

    return Airflow2TaskRunner()


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:8]}"
