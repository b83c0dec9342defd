"""
Waiting for a generation in a task: poll first, then hold the worker or hand over to the triggerer.

The sensor and the operators share this. What was seen on the triggerer is never trusted: a resumed task polls
once more and goes by Diffio's response. What the task was told before it deferred counts after it, too: its
templates are rendered again when it resumes, and may give something else by then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_provider_diffio import config
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
)
from airflow_provider_diffio.api.models import GenerationProgress
from airflow_provider_diffio.api.money import BILLED_ONCE
from airflow_provider_diffio.api.polling import (
    OUTCOMES,
    Failed,
    PollAgain,
    Succeeded,
    WaitDriver,
    WaitSpec,
    check_intervals,
    poll_timeout,
)
from airflow_provider_diffio.api.progress_log import ProgressLog
from airflow_provider_diffio.hooks import metrics
from airflow_provider_diffio.steps.arguments import read_settings
from airflow_provider_diffio.steps.failures import replaced_by, report

if TYPE_CHECKING:
    from airflow_provider_diffio.api.polling import WaitObserver
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.steps.base import WaitingTask

#: No trigger fires earlier than this after its deferral, in seconds. Airflow's scheduler may not have seen
#: the end of the deferring process yet, and would take the resumption for a lost task.
MIN_DEFERRAL = 10.0
#: How long after our own deadline Airflow's may pass, in seconds, which knows nothing of generations.
_BACKSTOP = 120.0
#: The form in which a deferral is stored.
_VERSION = 1


class Deferral(NamedTuple):
    """
    What is stored with a deferred task, in plain JSON.

    :ivar wait: the wait that the triggerer goes on with.
    :ivar arguments: the task's arguments as they were, by name.
    """

    wait: WaitSpec
    arguments: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return what to store."""
        return {"version": _VERSION, "wait": self.wait.to_dict(), "arguments": dict(self.arguments)}

    @classmethod
    def of_event(cls, event: Any, stored: Mapping[str, Any] | None) -> Deferral:
        """
        Return the deferral that a trigger's event ends.

        :param event: the event; anything but a known one fails the task.
        :param stored: what :meth:`to_dict` returned; ``dag.test()`` loses it, and then the event's copy of
            the wait serves.
        :raises DiffioError: for an event that no trigger of ours sends, or that is another generation's.
        """
        if not isinstance(event, Mapping) or event.get("status") not in OUTCOMES:
            raise DiffioError(
                f"The task was resumed by an event that is not known: {event!r:.200}.",
                advice="The generation may be complete; a retry polls it again and starts none.",
                may_be_billed=True,
                money=BILLED_ONCE,
            )
        fields = stored or {"wait": event}
        wait = WaitSpec.read(fields["wait"])
        if event.get("generation_id") != wait.generation_id:
            raise DiffioError(
                f"The task waits for generation {wait.generation_id}, and was resumed for another one.",
                generation_id=wait.generation_id,
                may_be_billed=True,
            )
        return cls(wait, fields.get("arguments") or {})


def wait_of_task(
    task: WaitingTask, context: Mapping[str, Any], generation_id: str, project_id: str | None
) -> WaitSpec:
    """
    Begin a wait for a task, which ends with its ``timeout`` or its ``execution_timeout``.

    Airflow 3 does not count deferred time towards ``execution_timeout``, Airflow 2 does; with a deadline of
    our own it means the same on both.
    """
    check_waiting(task)
    now = time.time()
    deadline = now + task.timeout
    if task.execution_timeout is not None:
        deadline = min(deadline, _try_began(context, now) + task.execution_timeout.total_seconds())
    return WaitSpec(
        generation_id=generation_id,
        project_id=project_id,
        started_at=now,
        deadline=deadline,
        poll_interval=task.poll_interval,
        max_poll_interval=task.max_poll_interval,
    )


def check_waiting(task: WaitingTask) -> None:
    """
    Refuse a way of waiting that cannot work; to be called before a generation is started.

    :raises DiffioInputError: for a timeout or an interval that is none.
    """
    check_intervals(task.poll_interval, task.max_poll_interval)
    timeout = task.timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < 1e10:
        raise DiffioInputError(f"timeout must be a number of seconds, not {timeout!r:.80}.")


def driver_of(hook: DiffioHook, wait: WaitSpec, observer: WaitObserver) -> WaitDriver:
    """Return the driver that polls through a hook."""
    return WaitDriver(
        wait,
        lambda: hook.get_generation_progress(
            wait.generation_id, wait.project_id, timeout=poll_timeout(wait.deadline, time.time())
        ),
        observer=observer,
        sleep=lambda seconds: hook.get_conn().sleep(seconds),
    )


def wait_or_defer(task: WaitingTask, wait: WaitSpec, *, deferrable: bool) -> GenerationProgress:
    """
    Return the progress of a complete generation, now or after holding the worker, or defer the task.

    :param task: the task; what it goes on with after a deferral is ``execute_complete``.
    :param wait: what it waits for.
    :param deferrable: whether to wait on the triggerer.
    :raises TaskDeferred: when the task is deferred.
    :raises DiffioGenerationError: when the generation failed or is not over in time.
    """
    metrics.count(metrics.WAITS, conn_id=task.diffio_conn_id)
    task.generation_in_flight = wait.generation_id
    driver = driver_of(task.hook, wait, ProgressLog(task.log, since=wait.started_at))
    decision = driver.poll()
    if isinstance(decision, PollAgain):
        if deferrable:
            _defer(task, wait)
        decision = driver.run(decision)
    return _outcome(task, wait, decision)


def resume(task: WaitingTask, event: Any, stored: Mapping[str, Any] | None) -> GenerationProgress:
    """
    Return the progress of a complete generation after a deferral, or defer the task again.

    The event only says that it is time to poll: Diffio's own response decides. The task gets the arguments
    back that it had when it deferred.

    :param task: the task.
    :param event: the trigger's event.
    :param stored: what was stored with the deferral.
    :raises TaskDeferred: when the generation is not over after all, and the deadline is not reached.
    :raises DiffioGenerationError: when the generation failed or is not over in time.
    """
    deferral = Deferral.of_event(event, stored)
    put_back(task, {"arguments": deferral.arguments})
    read_settings(task)
    wait = deferral.wait
    task.generation_in_flight = wait.generation_id
    decision = driver_of(task.hook, wait, ProgressLog(task.log, since=wait.started_at)).poll()
    if isinstance(decision, PollAgain):
        task.log.warning(
            "The triggerer reported %r, but generation %s is not over.", event["status"], wait.generation_id
        )
        _defer(task, wait)
    return _outcome(task, wait, decision)


def put_back(task: WaitingTask, stored: Mapping[str, Any]) -> None:
    """
    Give a task the arguments back that it had when it deferred.

    :param task: the task.
    :param stored: what was stored with the deferral.
    """
    arguments = stored.get("arguments") or {}
    for name in task.deferred_arguments:
        if name in arguments:
            setattr(task, name, arguments[name])


def _defer(task: WaitingTask, wait: WaitSpec) -> NoReturn:
    from airflow_provider_diffio.triggers.generation import DiffioGenerationTrigger

    now = time.time()
    spec = {**wait.to_dict(), **config.trigger_poll_intervals(wait.poll_interval, wait.max_poll_interval)}
    deferral = Deferral(wait, {name: getattr(task, name) for name in task.deferred_arguments})
    task.log.info(
        "Waiting for generation %s on the triggerer, until %s at the latest.",
        wait.generation_id,
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wait.deadline)),
    )
    task.defer(
        trigger=DiffioGenerationTrigger(
            **spec, diffio_conn_id=task.diffio_conn_id, not_before=now + MIN_DEFERRAL
        ),
        method_name="execute_complete",
        kwargs={"deferral": deferral.to_dict()},
        timeout=timedelta(seconds=max(0.0, wait.deadline - now) + MIN_DEFERRAL + _BACKSTOP),
    )
    raise AssertionError("defer() returned")  # pragma: no cover - it raises TaskDeferred


def _try_began(context: Mapping[str, Any], now: float) -> float:
    began = context["ti"].start_date
    return now if began is None else float(began.timestamp())


def _outcome(task: WaitingTask, wait: WaitSpec, decision: Succeeded | Failed) -> GenerationProgress:
    error = decision.error if isinstance(decision, Failed) else None
    metrics.wait_over(error, time.time() - wait.started_at, conn_id=task.diffio_conn_id)
    if isinstance(decision, Succeeded):
        return decision.progress
    if isinstance(decision.error, DiffioGenerationTimeoutError) and _ends_with_execution_timeout(task, wait):
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        report(task, decision.error)
        passed = AirflowTaskTimeout(f"execution_timeout passed. {decision.error}")
        raise replaced_by(decision.error, passed) from None
    raise decision.error


def _ends_with_execution_timeout(task: WaitingTask, wait: WaitSpec) -> bool:
    return task.execution_timeout is not None and wait.deadline < wait.started_at + task.timeout
