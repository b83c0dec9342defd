"""What the Diffio operators and the sensor share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook


class DiffioTask:
    """Knows the connection, has a hook, and says what a kill means. Mixed into operators and the sensor."""

    diffio_conn_id: str
    log: Any
    #: The generation that this try has bought or waits for, as soon as it is known.
    generation_in_flight: str | None = None

    @cached_property
    def hook(self) -> DiffioHook:
        """The hook, made when it is needed first."""
        from airflow_provider_diffio.hooks.diffio import DiffioHook

        return DiffioHook(self.diffio_conn_id)

    def on_kill(self) -> None:
        """Say what goes on at Diffio: it has no cancel, and evictions and hand-overs come here, too."""
        self.log.warning("%s", kill_notice(self.generation_in_flight))

    def _use_default_retry_policy(self) -> None:
        """Let errors of ours decide about retries where Airflow asks, unless the user decided."""
        if getattr(self, "retry_policy", ...) is None:
            from airflow_provider_diffio.retry_policy import DiffioRetryPolicy

            self.retry_policy = DiffioRetryPolicy()


def kill_notice(generation_id: str | None) -> str:
    """Return what a kill changes at Diffio: nothing."""
    if generation_id is None:
        return (
            "This task is being stopped. If it was buying a generation, the next try finds it by the same"
            " idempotency key; Diffio bills it once."
        )
    return (
        f"The wait for generation {generation_id} is being stopped here. Diffio offers no cancel: the"
        " generation goes on and is billed once. The next try of the task collects it and buys nothing."
    )
