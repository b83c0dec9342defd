"""
Waiting for a generation in a task: look first, then hold the worker or hand over to the triggerer.

The sensor and the operators share this. What was seen on the triggerer is never trusted: a resumed task asks
Diffio once more and goes by the answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
)
from airflow_provider_diffio.api.models import GenerationProgress
from airflow_provider_diffio.api.polling import (
    Decision,
    Failed,
    GenerationWait,
    PollAgain,
    Succeeded,
    check_intervals,
)

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook

#: No trigger fires earlier than this after its deferral, in seconds. Airflow's scheduler may not have seen
#: the end of the deferring process yet, and would take the resumption for a lost task.
MIN_DEFERRAL = 10.0
#: How long after our own deadline Airflow's may pass, in seconds, which knows nothing of generations.
_BACKSTOP = 120.0
_EVENT_STATUSES = frozenset({"complete", "failed", "timeout", "error"})


class Wait(NamedTuple):
    """
    One wait, as plain values: they are stored with the deferred task.

    :ivar started_at: when it began, in seconds since the epoch.
    :ivar deadline: when it ends, in seconds since the epoch.
    :ivar poll_interval: seconds between looks at least.
    :ivar max_poll_interval: seconds between looks at most.
    """

    generation_id: str
    project_id: str | None
    diffio_conn_id: str
    started_at: float
    deadline: float
    poll_interval: float
    max_poll_interval: float

    @classmethod
    def of_task(
        cls, task: Any, context: Mapping[str, Any], generation_id: str, project_id: str | None
    ) -> Wait:
        """
        Begin a wait for a task, which ends with its ``timeout`` or its ``execution_timeout``.

        Airflow 3 does not count deferred time towards ``execution_timeout``, Airflow 2 does; with a deadline
        of our own it means the same on both.
        """
        check_waiting(task)
        now = time.time()
        deadline = now + task.timeout
        if task.execution_timeout is not None:
            deadline = min(deadline, _try_began(context, now) + task.execution_timeout.total_seconds())
        return cls(
            generation_id=generation_id,
            project_id=project_id,
            diffio_conn_id=task.diffio_conn_id,
            started_at=now,
            deadline=deadline,
            poll_interval=task.poll_interval,
            max_poll_interval=task.max_poll_interval,
        )

    @classmethod
    def resumed(cls, event: Any, stored: Mapping[str, Any] | None) -> Wait:
        """
        Return the wait that a trigger's event belongs to.

        :param event: the event; anything but a known one fails the task.
        :param stored: the wait as it was stored; ``dag.test()`` loses it, and the event's copy serves.
        :raises DiffioError: for an event that no trigger of ours sends.
        """
        if not isinstance(event, Mapping) or event.get("status") not in _EVENT_STATUSES:
            raise DiffioError(
                f"The task was resumed by an event that is not known: {event!r:.200}.",
                advice="The generation may be complete; a retry looks again and buys nothing.",
                may_be_billed=True,
            )
        fields = stored or event
        values: dict[str, Any] = {name: fields.get(name) for name in cls._fields}
        wait = cls(**values)
        if event.get("generation_id") != wait.generation_id:
            raise DiffioError(
                f"The task waits for generation {wait.generation_id}, and was resumed for another one.",
                generation_id=wait.generation_id,
                may_be_billed=True,
            )
        return wait

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()

    def decision(self) -> GenerationWait:
        return GenerationWait(
            generation_id=self.generation_id,
            project_id=self.project_id,
            started_at=self.started_at,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            max_poll_interval=self.max_poll_interval,
        )

    def look(self, hook: DiffioHook, progress_log: ProgressLog) -> Decision:
        """Ask once, and decide."""
        return look(hook, self.decision(), progress_log)

    def hold(self, hook: DiffioHook, progress_log: ProgressLog) -> Succeeded | Failed:
        """Wait on the worker until it is over."""
        try:
            progress = hook.wait_for_generation(
                self.generation_id,
                self.project_id,
                poll_interval=self.poll_interval,
                max_poll_interval=self.max_poll_interval,
                timeout=max(0.0, self.deadline - time.time()),
                on_progress=progress_log.seen,
            )
        except DiffioError as error:
            return Failed(error)
        return Succeeded(progress)

    def defer(self, task: Any, method_name: str, carried: Mapping[str, Any]) -> NoReturn:
        """Hand the wait over to the triggerer; the task goes on in ``method_name``."""
        from airflow_provider_diffio.config import trigger_poll_intervals
        from airflow_provider_diffio.triggers.generation import DiffioGenerationTrigger

        now = time.time()
        pace = trigger_poll_intervals(self.poll_interval, self.max_poll_interval)
        task.log.info(
            "Waiting for generation %s on the triggerer, until %s at the latest.",
            self.generation_id,
            time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.deadline)),
        )
        task.defer(
            trigger=DiffioGenerationTrigger(**{**self.to_dict(), **pace}, not_before=now + MIN_DEFERRAL),
            method_name=method_name,
            kwargs={"wait": self.to_dict(), **carried},
            timeout=timedelta(seconds=max(0.0, self.deadline - now) + MIN_DEFERRAL + _BACKSTOP),
        )
        raise AssertionError("defer() returned")  # pragma: no cover - it raises TaskDeferred


def _try_began(context: Mapping[str, Any], now: float) -> float:
    began = getattr(context.get("ti"), "start_date", None)
    return float(began.timestamp()) if began is not None else now


def check_waiting(task: Any) -> None:
    """
    Refuse a way of waiting that can not work; to be called before anything is bought.

    :raises DiffioInputError: for a timeout or an interval that is none.
    """
    check_intervals(task.poll_interval, task.max_poll_interval)
    timeout = task.timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < 1e10:
        raise DiffioInputError(f"timeout must be a number of seconds, not {timeout!r:.80}.")


def look(hook: DiffioHook, waiting: GenerationWait, progress_log: ProgressLog) -> Decision:
    """
    Ask Diffio once and decide.

    :param hook: asks.
    :param waiting: decides.
    :param progress_log: is told what was seen.
    """
    try:
        progress = hook.get_generation_progress(waiting.generation_id, waiting.project_id)
    except DiffioError as error:
        progress_log.trouble(error)
        return waiting.on_error(error, time.time())
    progress_log.seen(progress)
    return waiting.on_progress(progress, time.time())


def wait_or_defer(
    task: Any,
    hook: DiffioHook,
    wait: Wait,
    *,
    deferrable: bool,
    carried: Mapping[str, Any],
    method_name: str = "execute_complete",
) -> GenerationProgress:
    """
    Return the progress of a complete generation, now or after holding the worker, or defer the task.

    :raises TaskDeferred: when the task goes on in ``method_name``.
    :raises DiffioGenerationError: when it failed or is not over in time.
    """
    task.generation_in_flight = wait.generation_id
    progress_log = ProgressLog(task.log)
    decision = wait.look(hook, progress_log)
    if isinstance(decision, PollAgain):
        if deferrable:
            wait.defer(task, method_name, carried)
        decision = wait.hold(hook, progress_log)
    return _outcome(task, wait, decision)


def resume(
    task: Any,
    hook: DiffioHook,
    event: Any,
    stored: Mapping[str, Any] | None,
    *,
    carried: Mapping[str, Any],
    method_name: str = "execute_complete",
) -> GenerationProgress:
    """
    Return the progress of a complete generation after a deferral, or defer the task again.

    The event only says that it is time to look: Diffio's own answer decides.

    :raises TaskDeferred: when it is not over after all, and the deadline is not reached.
    :raises DiffioGenerationError: when it failed or is not over in time.
    """
    wait = Wait.resumed(event, stored)
    task.generation_in_flight = wait.generation_id
    decision = wait.look(hook, ProgressLog(task.log))
    if isinstance(decision, PollAgain):
        task.log.warning(
            "The triggerer reported %r, but generation %s is not over.", event["status"], wait.generation_id
        )
        wait.defer(task, method_name, carried)
    return _outcome(task, wait, decision)


def _outcome(task: Any, wait: Wait, decision: Succeeded | Failed) -> GenerationProgress:
    if isinstance(decision, Succeeded):
        return decision.progress
    if isinstance(decision.error, DiffioGenerationTimeoutError) and _ends_with_execution_timeout(task, wait):
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        raise AirflowTaskTimeout(f"execution_timeout passed. {decision.error}") from decision.error
    raise decision.error


def _ends_with_execution_timeout(task: Any, wait: Wait) -> bool:
    return task.execution_timeout is not None and wait.deadline < wait.started_at + task.timeout


def event_status(decision: Succeeded | Failed) -> str:
    """Return the word for a trigger's event."""
    if isinstance(decision, Succeeded):
        return "complete"
    if isinstance(decision.error, DiffioGenerationFailedError):
        return "failed"
    return "timeout" if isinstance(decision.error, DiffioGenerationTimeoutError) else "error"


class ProgressLog:
    """
    Tells a log what changed, and nothing else.

    :param log: the logger of a task or trigger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said = ""
        self._seen: object = None

    def seen(self, progress: GenerationProgress) -> None:
        # Most looks see what the last one saw; that is cheaper to find than to put into words again.
        seen = (progress.status, progress.stage, progress.percent, progress.queue)
        if seen != self._seen:
            self._seen = seen
            self._say(f"Generation {progress.generation_id}: {progress.describe()}")

    def trouble(self, error: DiffioError) -> None:
        self._seen = None
        self._say(f"Could not look: {error}", warning=True)

    def _say(self, text: str, *, warning: bool = False) -> None:
        if text != self._said:
            self._said = text
            (self._log.warning if warning else self._log.info)("%s", text)
