"""
The ``[diffio]`` section of Airflow's configuration.

``wake_up`` (a boolean, off by default; ``AIRFLOW__DIFFIO__WAKE_UP=True``) lets webhooks resume deferred
tasks. It is experimental. Set it on the API server and on the workers. It rests on internals of Airflow and
does nothing on versions that lack them.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio._compat import can_resume_deferred_tasks

#: Seconds between two polls of a task that a webhook is expected to resume. Some webhooks do not arrive.
FALLBACK_INTERVAL = 300.0


def wake_up_enabled() -> bool:
    """Return whether webhooks resume deferred tasks: ``wake_up`` is on, and Airflow has what that needs."""
    return conf.getboolean("diffio", "wake_up", fallback=False) and can_resume_deferred_tasks()


def trigger_poll_intervals(poll_interval: float, max_poll_interval: float) -> dict[str, float]:
    """
    Return a trigger's poll intervals: the task's own, or longer ones where webhooks resume deferred tasks.

    :param poll_interval: seconds between polls at least.
    :param max_poll_interval: seconds between polls at most.
    :return: both, by the names of the trigger's arguments.
    """
    if wake_up_enabled():
        poll_interval = max(poll_interval, FALLBACK_INTERVAL)
    return {
        "poll_interval": poll_interval,
        "max_poll_interval": max(poll_interval, max_poll_interval),
    }
