"""
Telling Airflow what was made from what, for lineage tools such as OpenLineage.

A recording becomes a project, and a project becomes restored files; so lineage leads from ``raw/talk.wav`` to
``restored/talk.mp3``, in one task or over several. Where no lineage tool is installed, this does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_diffio.storage import Location


def report_upload(hook: Any, source: Location, project_id: str) -> None:
    """Report that a project was made from a recording."""
    collector = _collector()
    collector.add_input_asset(context=hook, uri=_uri(source))
    collector.add_output_asset(context=hook, uri=project_uri(project_id))


def report_download(hook: Any, project_id: str, target: Location) -> None:
    """Report that a file was made from a project."""
    collector = _collector()
    collector.add_input_asset(context=hook, uri=project_uri(project_id))
    collector.add_output_asset(context=hook, uri=_uri(target))


def project_uri(project_id: str) -> str:
    """Return the name under which lineage knows a project."""
    return f"diffio://projects/{project_id}"


def _uri(location: Location) -> str:
    return location.uri if location.local_path is None else Path(location.local_path).absolute().as_uri()


def _collector() -> Any:
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    return get_hook_lineage_collector()
