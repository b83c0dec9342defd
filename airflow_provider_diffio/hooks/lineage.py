"""
Telling Airflow what was made from what, for lineage tools such as OpenLineage.

A recording becomes a project, the project's recording a generation, and a generation restored files; so
lineage leads from ``raw/talk.wav`` to ``restored/talk.mp3``, in one task or over several. Where no lineage
tool is installed, this does nothing; where one fails, the task goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow_provider_diffio.storage import Location

log = logging.getLogger(__name__)

_S3 = ("s3", "s3a", "s3n")
_GOOGLE = ("gs", "gcs")
_AZURE = ("abfs", "abfss", "adl")
_SSH = ("sftp", "ssh")


def report_upload(hook: Any, source: Location, project_id: str) -> None:
    """Report that a project was made from a recording."""
    _report(hook, inputs=asset_uri(source), outputs=project_uri(project_id))


def report_generation(hook: Any, project_id: str, generation_id: str) -> None:
    """Report that a generation was made from a project."""
    _report(hook, inputs=project_uri(project_id), outputs=generation_uri(project_id, generation_id))


def report_download(hook: Any, project_id: str, generation_id: str, target: Location) -> None:
    """Report that a file was made from a generation."""
    _report(hook, inputs=generation_uri(project_id, generation_id), outputs=asset_uri(target))


def project_uri(project_id: str) -> str:
    """Return the URI under which lineage knows a project."""
    return f"diffio://projects/{quote(project_id, safe='')}"


def generation_uri(project_id: str, generation_id: str) -> str:
    """Return the URI under which lineage knows a generation."""
    return f"{project_uri(project_id)}/generations/{quote(generation_id, safe='')}"


def asset_uri(location: Location) -> str:
    """
    Return the URI under which assets know a file: without connection id, as a user would write it.

    Airflow would cut it off at a ``?`` or ``#``, which a file's name may hold; they are quoted.
    """
    uri = location.uri if location.local_path is None else f"file://{location.local_path}"
    return uri.replace("?", "%3F").replace("#", "%23")


def ascii_uri(uri: str) -> str:
    """Return a URI as Airflow before 3.1 takes it, which knows ASCII alone."""
    return quote(uri, safe="".join(map(chr, range(33, 127))) + " ")


def dataset_name(location: Location) -> tuple[str, str]:
    """
    Return the namespace and name that OpenLineage's naming rules give a file.

    * ``/data/a.wav``: ``file``, ``/data/a.wav``
    * ``s3://bucket/a.wav`` and ``gs://bucket/a.wav``: ``s3://bucket`` and ``gs://bucket``, ``a.wav``
    * ``abfs://container/a.wav``: ``abfss://container@account.dfs.core.windows.net``, or ``abfs://container``
      where the location is not connected and so the account not known; ``a.wav``
    * ``sftp://host/data/a.wav``: ``file://host``, ``/data/a.wav``
    * any other: its scheme, with ``://`` and the host where there is one; its path
    """
    if location.local_path is not None:
        return "file", str(location.local_path)
    scheme, _, rest = location.uri.partition("://")
    authority, _, path = rest.partition("/")
    if scheme in _S3:
        return f"s3://{authority}", path
    if scheme in _GOOGLE:
        return f"gs://{authority}", path
    if scheme in _AZURE:
        account = getattr(getattr(location, "fs", None), "account_name", None)
        host = f"@{account}.dfs.core.windows.net" if account else ""
        return f"{'abfss' if account else 'abfs'}://{authority}{host}", path
    if scheme in _SSH and authority:
        return f"file://{authority}", f"/{path}"
    return f"{scheme}://{authority}" if authority else scheme, f"/{path}"


def is_named_by_connection(location: Location) -> bool:
    """Tell whether a part of a file's name is in the store's connection alone, as Azure's account is."""
    return location.uri.partition("://")[0] in _AZURE


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return a ``diffio://`` URI unchanged.

    Airflow reports a URI to OpenLineage only when a sanitizer is registered for its scheme.
    """
    return uri


def convert_asset_to_openlineage(asset: Any, lineage_context: Any) -> Any:  # noqa: ARG001
    """Name a ``diffio://`` asset to OpenLineage: for Airflow, which calls this for what hooks report."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    # The namespace is a word alone, as OpenLineage has it for BigQuery.
    namespace, name = asset.uri.split("://")
    return Dataset(namespace=namespace, name=name)


def _report(hook: Any, *, inputs: str, outputs: str) -> None:
    if not hook.reports_lineage:
        return
    try:
        collector = _collector()
        _add(collector.add_input_asset, hook, inputs)
        _add(collector.add_output_asset, hook, outputs)
    except Exception as error:
        # Whatever is wrong with a lineage tool, the work is done and paid for.
        log.warning("Lineage from %s to %s could not be reported: %s", inputs, outputs, error)


def _add(add: Callable[..., None], hook: Any, uri: str) -> None:
    try:
        add(context=hook, uri=uri)
    except ValueError:
        add(context=hook, uri=ascii_uri(uri))


def _collector() -> Any:
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    return get_hook_lineage_collector()
