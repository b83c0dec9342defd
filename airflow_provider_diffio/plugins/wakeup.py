"""
Resuming deferred tasks when a webhook arrives (experimental, for Airflow 3.2 and later).

A delivery resumes the task that waits for its generation. The event is submitted to the row of the waiting
trigger, as a triggerer would do it; Airflow has no public interface for that. The event only says that it is
time to poll: the resumed task asks Diffio once, and goes on waiting when the generation is not over.

It rests on internals of Airflow: arguments of triggers that workers store as plain JSON, the function that
decodes them, and ``Trigger.submit_event``. Where Airflow lacks them, nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio._compat import decoded_trigger_arguments
from airflow_provider_diffio.api.clean_text import clean_text
from airflow_provider_diffio.assets import STATUS_OF_EVENT
from airflow_provider_diffio.config import wake_up_enabled

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import WebhookEvent

#: Seconds after the delivery at which waiting tasks are searched for. A task that defers at this very moment
#: is not in the database yet, and a task that deferred shortly before must not be resumed at once.
MOMENTS = (0.0, 2.0, 5.0, 12.0, 25.0)
MAX_WAITING = 500
_TRIGGER = "airflow_provider_diffio.triggers.generation.DiffioGenerationTrigger"

log = logging.getLogger(__name__)


class WakeUp:
    """Resumes tasks, in the background of the API server's event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, diffio_conn_id: str, event: WebhookEvent) -> None:
        """
        Resume the tasks that wait for the event's generation, now or within seconds, if this is switched on.

        :param diffio_conn_id: id of the Diffio connection.
        :param event: the delivery's event.
        """
        if event.event_type not in STATUS_OF_EVENT or len(self._tasks) >= MAX_WAITING:
            return
        if wake_up_enabled():
            task = asyncio.create_task(self._deliver(diffio_conn_id, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, diffio_conn_id: str, event: WebhookEvent) -> None:
        arrived = time.monotonic()
        for moment in MOMENTS:
            await asyncio.sleep(max(0.0, arrived + moment - time.monotonic()))
            try:
                if await asyncio.to_thread(resume_waiting, diffio_conn_id, event):
                    return
            except Exception:
                # The task goes on polling.
                log.exception(
                    "Could not resume the tasks that wait for generation %s.", clean_text(event.generation_id)
                )
                return


def resume_waiting(diffio_conn_id: str, event: WebhookEvent) -> int:
    """
    Submit the event to every trigger that waits for the generation and may fire already.

    :param diffio_conn_id: id of the Diffio connection.
    :param event: the delivery's event.
    :return: how many tasks were resumed.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    resumed = 0
    with create_session() as session:
        waiting = session.execute(
            select(Trigger, TaskInstance)
            .join(TaskInstance, TaskInstance.trigger_id == Trigger.id)
            .where(
                Trigger.classpath == _TRIGGER,
                TaskInstance.state == TaskInstanceState.DEFERRED,
                # Workers store the arguments as plain JSON. Encrypted ones are not found; their tasks poll.
                Trigger.encrypted_kwargs.contains(event.generation_id, autoescape=True),
            )
            # The triggerer may be about to resume the same task.
            .with_for_update(of=TaskInstance, skip_locked=True)
        ).all()
        for trigger, task in waiting:
            arguments = decoded_trigger_arguments(trigger)
            if not _fits(arguments, diffio_conn_id, event):
                continue
            arguments.pop("not_before", None)
            payload = {**arguments, "status": STATUS_OF_EVENT[event.event_type]}
            Trigger.submit_event(trigger.id, TriggerEvent(payload), session=session)
            log.info(
                "Resumed %s.%s, which waited for generation %s.",
                task.dag_id,
                task.task_id,
                event.generation_id,
            )
            resumed += 1
    return resumed


def _fits(arguments: dict[str, Any], diffio_conn_id: str, event: WebhookEvent) -> bool:
    return (
        arguments.get("generation_id") == event.generation_id
        and arguments.get("diffio_conn_id") == diffio_conn_id
        and float(arguments.get("not_before") or 0.0) <= time.time()
    )
