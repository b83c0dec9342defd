"""DiffioGenerationTrigger: waits for a generation on the triggerer's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    WaitSpec,
    outcome,
)
from airflow_provider_diffio.api.progress_log import ProgressLog, kill_notice
from airflow_provider_diffio.triggers._shared_poller import join_shared_poller, sleep_until


class DiffioGenerationTrigger(BaseTrigger):
    """
    Fires when a generation is over, when the deadline passes, or when polling it is hopeless.

    The arguments are stored in Airflow's database in plain text; they hold ids and times, no secret. Times
    are absolute, so that a restarted triggerer goes on instead of starting over. The event's ``status`` is
    ``complete``, ``failed``, ``timeout`` or ``error``; the resumed task asks Diffio itself what that means.

    :param generation_id: the generation.
    :param project_id: its project, which speeds up Diffio's lookup.
    :param diffio_conn_id: id of the Diffio connection; ``diffio_default`` by default.
    :param started_at: when the waiting began, in seconds since the epoch.
    :param deadline: when to give up, in seconds since the epoch.
    :param not_before: no event before this time, in seconds since the epoch: an event within seconds of the
        deferral makes Airflow's scheduler fail the task.
    :param poll_interval: seconds between polls at least.
    :param max_poll_interval: seconds between polls at most.
    """

    def __init__(
        self,
        *,
        generation_id: str,
        project_id: str | None = None,
        diffio_conn_id: str = "diffio_default",
        started_at: float,
        deadline: float,
        not_before: float = 0.0,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float = DEFAULT_MAX_POLL_INTERVAL,
    ) -> None:
        super().__init__()
        self.wait = WaitSpec(
            generation_id, project_id, started_at, deadline, poll_interval, max_poll_interval
        )
        self.diffio_conn_id = diffio_conn_id
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path, and the arguments to make it again from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                **self.wait.to_dict(),
                "diffio_conn_id": self.diffio_conn_id,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and send one event: ``status``, ``diffio_conn_id`` and the fields of the wait."""
        status = await self._status()
        await sleep_until(self.not_before)
        yield TriggerEvent({"status": status, "diffio_conn_id": self.diffio_conn_id, **self.wait.to_dict()})

    async def on_kill(self) -> None:
        """
        Say what goes on at Diffio (Airflow 3.3 and later call this).

        It is called for a user's kill, and also when the task is cleared or another triggerer takes over, so
        it is no reason to give anything up.
        """
        self.log.warning("%s", kill_notice(self.wait.generation_id))

    async def _status(self) -> str:
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        poller = join_shared_poller(self.diffio_conn_id)
        try:
            await poller.open_until(self.wait.deadline, self.wait.poll_interval, self.log)
            progress_log = ProgressLog(self.log)
            return outcome(
                await poller.wait_for(self.wait, not_before=self.not_before, observer=progress_log)
            )
        except (DiffioError, AirflowNotFoundException) as error:
            # The resumed task runs into the same, and says so where its user looks.
            self.log.error("The wait ends: %s", error)  # noqa: TRY400 - the sentence says it all
            return "error"
        finally:
            await poller.leave()
