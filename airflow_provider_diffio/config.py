"""
Whether webhooks wake up deferred waits: experimental, and off unless the configuration says otherwise.

It is switched on by ``[diffio] wake_up`` (``AIRFLOW__DIFFIO__WAKE_UP=True``), on the API server and the
workers alike. It rests on internals of Airflow 3.3 and does nothing on other versions.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio._compat import can_wake_up_waits

#: Seconds between looks of a wait that a webhook is expected to end: for those that do not arrive.
FALLBACK_INTERVAL = 300.0


def wake_up_enabled() -> bool:
    """Return whether it is switched on, on an Airflow that it was made for."""
    return conf.getboolean("diffio", "wake_up", fallback=False) and can_wake_up_waits()


def unhurried(poll_interval: float, max_poll_interval: float) -> dict[str, float]:
    """Return the trigger's intervals: as they are, or slow where a webhook is expected to be faster."""
    if wake_up_enabled():
        poll_interval = max(poll_interval, FALLBACK_INTERVAL)
    return {
        "poll_interval": poll_interval,
        "max_poll_interval": max(poll_interval, max_poll_interval),
    }
