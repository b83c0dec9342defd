"""What a wait tells its log, on the worker and on the triggerer alike."""

from __future__ import annotations

from typing import Any

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.models import GenerationProgress


class ProgressLog:
    """
    Logs what changed since the last poll, and nothing else. It is a
    :class:`~airflow_provider_diffio.api.polling.WaitObserver`.

    :param log: the logger of a task or trigger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said = ""
        self._seen: object = None

    def progress(self, progress: GenerationProgress) -> None:
        # Most polls bring what the last one brought; that is cheaper to find than to put into words again.
        seen = (progress.status, progress.stage, progress.percent, progress.queue)
        if seen != self._seen:
            self._seen = seen
            self._say(f"Generation {progress.generation_id}: {progress.describe()}")

    def trouble(self, error: DiffioError) -> None:
        self._seen = None
        self._say(f"The poll failed: {error}", warning=True)

    def _say(self, text: str, *, warning: bool = False) -> None:
        if text != self._said:
            self._said = text
            (self._log.warning if warning else self._log.info)("%s", text)


def kill_notice(generation_id: str | None, *, recorded: bool = True) -> str:
    """
    Return what it means at Diffio that a task is stopped here: nothing.

    :param generation_id: the generation that the task has started or waits for; None before it has one.
    :param recorded: whether the next try of the task knows of it.
    """
    if not recorded:
        return (
            "This task is being stopped. Diffio offers no cancel: a generation that it has started goes on"
            " and is billed. Airflow before 3.3 keeps no record of it, so the next try starts another one."
        )
    if generation_id is None:
        return (
            "This task is being stopped. If it was starting a generation, the next try finds it by the same"
            " idempotency key, and Diffio bills it once."
        )
    return (
        f"The wait for generation {generation_id} is being stopped here. Diffio offers no cancel: the"
        " generation goes on and is billed once. The next try of the task collects it and starts none."
    )
