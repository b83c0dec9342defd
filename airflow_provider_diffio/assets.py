"""
The assets that finished generations become events on, and how a DAG reads those events.

    with DAG("on_completed", schedule=diffio_completed_asset()):
        @task
        def finished(triggering_asset_events=None):
            return finished_generations(triggering_asset_events)

Events need Airflow 3. On Airflow 2 the assets are plain datasets: DAG files that use them can be parsed, but
no event ever comes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_diffio._compat import batch_asset_events, make_asset_watcher
from airflow_provider_diffio.api.clean_text import clean_text, clean_value
from airflow_provider_diffio.api.models import COMPLETE, WebhookEvent

#: Diffio's event types, with the ``status`` of their *generation* values. (Webhooks say ``error`` for
#: failed.)
STATUS_OF_EVENT = {"generation.completed": COMPLETE, "generation.failed": "failed"}

_RECEIVABLE_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]|\.(?!\.)){0,199}\Z")

log = logging.getLogger(__name__)


def diffio_completed_asset(
    diffio_conn_id: str = "diffio_default", *, poll_interval: float | None = None
) -> Asset:
    """
    Return the asset that has an event for every generation that is complete.

    :param diffio_conn_id: id of the Diffio connection whose API key the generations belong to.
    :param poll_interval: None (default) for the asset that webhooks write to. A number of seconds, 10 or
        more, for a separate asset, which a watcher on the triggerer writes to: it polls Diffio that often.
    :return: an ``Asset`` for a DAG's ``schedule``.
    :raises ValueError: when the interval is shorter than 10 seconds.
    :raises RuntimeError: when an interval is given on Airflow 2, which has no watchers.
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
    :raises RuntimeError: when an interval is given on Airflow 2, which has no watchers.
    """
    return _asset(diffio_conn_id, "generation.failed", poll_interval)


def one_run_for_all(schedule: Any) -> Any:
    """
    Return a schedule with which one DAG run takes all events since the last one, on every Airflow.

    That is what Airflow does before 3.4. From then on, an asset as a ``schedule`` starts a run for each
    event, unless ``[scheduler] batch_asset_events`` is set::

        with DAG("on_completed", schedule=one_run_for_all(diffio_completed_asset())):

    :param schedule: an asset, or assets joined by ``|`` or ``&``.
    :return: a DAG's ``schedule``.
    """
    return batch_asset_events(schedule)


def asset_uri(diffio_conn_id: str, event_type: str) -> str:
    """Return the URI, and name, of the asset that webhooks write to."""
    # Quoted, since a connection id may hold characters that mean something in a URI.
    return f"diffio://{quote(diffio_conn_id, safe='')}/{event_type}"


def receives_webhooks(diffio_conn_id: str) -> bool:
    """
    Return whether the webhook receiver accepts a connection id.

    It accepts letters, digits, ``_``, ``-`` and single dots, 200 at most. Some secrets backends make a path
    or a query of an id that a stranger sends, so nothing that could lead elsewhere is let through.

    :param diffio_conn_id: the id.
    """
    return _RECEIVABLE_ID.match(diffio_conn_id) is not None


def event_extra(event: WebhookEvent) -> dict[str, Any]:
    """
    Return what is stored with an asset event: the *generation* value and the delivery's id.

    Every text is cleaned: whatever Diffio sends, a database stores it and Airflow shows it.

    :param event: the delivery's event.
    :return: ``generation_id``, ``api_project_id``, ``model``, ``status``, ``has_video``, ``transcription``,
        ``message_id``; ``error`` where there is one.
    """
    extra: dict[str, Any] = {
        "generation_id": event.generation_id,
        "api_project_id": event.api_project_id,
        "model": event.model,
        "status": STATUS_OF_EVENT.get(event.event_type, event.status),
        "has_video": event.has_video,
        "transcription": event.transcription,
        "message_id": event.message_id,
    }
    if event.error is not None:
        extra["error"] = event.error
    cleaned: dict[str, Any] = clean_value(extra)
    return cleaned


def finished_generations(triggering_asset_events: Any) -> list[dict[str, Any]]:
    """
    Return the generations that a DAG run was started for, each once, oldest first.

    A run can have several events: all since the last run, where Airflow batches them. It does not matter
    whether a webhook or a watcher reported them. Test events are left out: they name no project, so nothing
    can be downloaded.

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
                log.warning("Left out a generation without a project: %s", clean_text(str(generation_id)))
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
    # The interval is part of the name: two DAG files with different watchers of one asset would replace each
    # other's watcher each time they are parsed.
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
    """Return an event's generations: a watcher's has several under ``payload``, a webhook's is one."""
    if not extra:
        return ()
    payload = extra.get("payload")
    if isinstance(payload, Mapping):
        return payload.get("generations") or ()
    return (extra,)
