"""
The assets that finished generations become events on, and how a DAG reads those events.

    with DAG("on_completed", schedule=diffio_completed_asset()):
        @task
        def finished(triggering_asset_events=None):
            return finished_generations(triggering_asset_events)

Events need Airflow 3. On Airflow 2 the assets are plain datasets, so that DAG files can be read there, and
nothing ever happens on them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_diffio._compat import make_asset_watcher
from airflow_provider_diffio.api.models import COMPLETE, WebhookEvent

#: What an event type of Diffio is called as a *generation* value's ``status``. Webhooks say ``error``.
STATUS_OF_EVENT = {"generation.completed": COMPLETE, "generation.failed": "failed"}

_log = logging.getLogger(__name__)


def diffio_completed_asset(
    diffio_conn_id: str = "diffio_default", *, poll_interval: float | None = None
) -> Asset:
    """
    Return the asset that has an event for every generation that is complete.

    :param diffio_conn_id: id of the Diffio connection whose API key the generations belong to.
    :param poll_interval: None (default) for the asset that webhooks write to. A number of seconds, 10 or
        more, for one of its own that a watcher on the triggerer writes to, by asking Diffio that often.
    :return: an ``Asset`` for a DAG's ``schedule``.
    :raises ValueError: when the interval is shorter than 10 seconds.
    :raises RuntimeError: for an interval on Airflow 2, which has no watchers.
    """
    return _asset(diffio_conn_id, "generation.completed", poll_interval)


def diffio_failed_asset(
    diffio_conn_id: str = "diffio_default", *, poll_interval: float | None = None
) -> Asset:
    """
    Return the asset that has an event for every generation that failed.

    :param diffio_conn_id: id of the Diffio connection whose API key the generations belong to.
    :param poll_interval: as for :func:`diffio_completed_asset`.
    :return: an ``Asset`` for a DAG's ``schedule``.
    :raises ValueError: when the interval is shorter than 10 seconds.
    :raises RuntimeError: for an interval on Airflow 2, which has no watchers.
    """
    return _asset(diffio_conn_id, "generation.failed", poll_interval)


def asset_uri(diffio_conn_id: str, event_type: str) -> str:
    """Return the URI, and name, of the asset that webhooks write to."""
    # Quoted, since a connection id may hold characters that mean something in a URI.
    return f"diffio://{quote(diffio_conn_id, safe='')}/{event_type}"


def event_extra(event: WebhookEvent) -> dict[str, Any]:
    """
    Return what is stored with an asset event: the *generation* value and the delivery's id.

    :return: ``generation_id``, ``api_project_id``, ``model``, ``status``, ``has_video``, ``transcription``,
        ``message_id``; ``error`` where there is one.
    """
    extra = {
        "generation_id": event.generation_id,
        "api_project_id": event.api_project_id,
        "model": event.model,
        "status": STATUS_OF_EVENT.get(event.event_type, event.status),
        "has_video": event.has_video,
        "transcription": event.transcription,
        "message_id": event.message_id,
    }
    return extra if event.error is None else {**extra, "error": event.error}


def finished_generations(triggering_asset_events: Any) -> list[dict[str, Any]]:
    """
    Return the generations that a DAG run was started for, each once, oldest first.

    Airflow starts one run for all events that came in since the last one, so there may be several. It does
    not matter whether a webhook or a watcher reported them. Test events, which name no project, are left
    out: there is nothing to download.

    :param triggering_asset_events: what Airflow puts into a task's context under that name, or a list of
        asset events.
    :return: *generation* values, to be handed on as they are:
        ``DiffioDownloadOperator.partial(...).expand(generation=...)``.
    """
    found: dict[str, dict[str, Any]] = {}
    for event in _events(triggering_asset_events):
        for generation in _generations(event.extra):
            generation_id = generation.get("generation_id")
            if not generation_id or not generation.get("api_project_id"):
                _log.warning("Left out a generation without a project: %s", generation_id)
                continue
            found.setdefault(generation_id, dict(generation))
    return list(found.values())


def _asset(conn_id: str, event_type: str, poll_interval: float | None) -> Asset:
    uri = asset_uri(conn_id, event_type)
    if poll_interval is None:
        return Asset(uri=uri)
    from airflow_provider_diffio.triggers.events import DiffioGenerationEventTrigger

    trigger = DiffioGenerationEventTrigger(
        diffio_conn_id=conn_id, status=STATUS_OF_EVENT[event_type], poll_interval=poll_interval
    )
    # The interval is part of the name: two DAG files that disagree about one asset's watcher would take it
    # away from each other each time they are parsed.
    return Asset(
        uri=f"{uri}/polled-every-{poll_interval:g}s",
        watchers=[make_asset_watcher("diffio", trigger)],
    )


def _events(triggering: Any) -> Iterable[Any]:
    if not isinstance(triggering, Mapping):
        return triggering or ()
    events = [event for events in triggering.values() for event in events]
    return sorted(events, key=lambda event: event.timestamp)


def _generations(extra: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    """A watcher's event holds several under ``payload``; a webhook's is one."""
    if not extra:
        return ()
    payload = extra.get("payload")
    if isinstance(payload, Mapping):
        return payload.get("generations") or ()
    return (extra,)
