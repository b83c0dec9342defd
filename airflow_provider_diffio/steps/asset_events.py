"""
Asset events and a link for the file that a task wrote.

An outlet has to be known when the DAG is parsed, and there a path may be a template or mapped, or relative to
a connection's root. So the provider declares none by itself. What the user declares is filled in:

* ``outlets=[Asset("s3://restored/talk.mp3")]``, or an asset by name: its event has the *file* value as
  ``extra``, and so the path, size and digest of the file that there is now.
* ``outlets=[AssetAlias("restored")]``: gets an event for the asset that the file is, by the URI that was
  found out while the task ran, without connection id. This is what mapped tasks want.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio import _compat
from airflow_provider_diffio.hooks.lineage import ascii_uri, asset_uri
from airflow_provider_diffio.links import DiffioRestoredFileLink

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import DownloadedFile
    from airflow_provider_diffio.steps.base import WritingTask
    from airflow_provider_diffio.storage import Location

log = logging.getLogger(__name__)


def report_file(task: WritingTask, context: Mapping[str, Any], file: DownloadedFile) -> dict[str, Any]:
    """
    Fill a task's outlets and link for the file that it wrote. To be called by the method that completes the
    task: Airflow forgets what a phase says of its outlets when it defers.

    :param task: the operator that wrote it.
    :param context: its context.
    :param file: the file that is there now.
    :return: the *file* value.
    """
    value = file.to_value()
    try:
        target = task.hook.locate(task.path, task.output_conn_id)
        location = target.file(file.file_name)
        DiffioRestoredFileLink.show(task, context, location)
        _fill_outlets(task, context, location, value)
    except Exception:
        # The file is there and paid for; a retry would do no better.
        log.exception("%s is written, but its asset events or its link could not be made.", file.path)
    return value


def report_batch(task: Any, context: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """
    Fill a batch's outlets: one event for each, with the counts and the manifest in its ``extra``.

    :param task: the operator, whose alias gets an event for its output directory.
    :param context: its context.
    :param value: what it returns.
    """
    try:
        _fill_outlets(task, context, task.hook.locate(task.path, task.output_conn_id), value)
    except Exception:
        log.exception("The batch is done, but its asset events could not be made.")


def _fill_outlets(
    task: Any, context: Mapping[str, Any], location: Location, value: Mapping[str, Any]
) -> None:
    if not task.outlets:
        return
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    # Asset.ref(name=...) and Asset.ref(uri=...) exist from Airflow 3 on.
    assets = (Asset, *_compat.asset_references())
    for outlet in task.outlets:
        if isinstance(outlet, assets):
            event = context["outlet_events"][outlet]
            event.extra = {**value, **event.extra}
        elif isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(_asset(location), extra=dict(value))


def _asset(location: Location) -> Any:
    from airflow.providers.common.compat.sdk import Asset

    uri = asset_uri(location)
    try:
        return Asset(uri=uri)
    except ValueError:
        return Asset(uri=ascii_uri(uri))
