"""Whether the connection's stores can be written. Nothing stays there but directories."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_diffio import storage
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.cli.findings import Finding
from airflow_provider_diffio.hooks.connection import DiffioConnection

#: The name of the file that is probed for, and never kept.
_PROBE = "diffio-doctor"


def check_stores(config: DiffioConnection, conn_id: str) -> Iterator[Finding]:
    """
    Try the roots that the connection names.

    :param config: the connection.
    :param conn_id: its id.
    """
    roots = {"output_path": config.output_path, "ledger_path": config.ledger_path}
    for field, root in roots.items():
        if root is not None:
            yield _check(field, root, conn_id)
    if config.output_path is None:
        yield Finding("output_path", "ok", "There is none: paths in DAGs must be absolute or URIs.")


def _check(field: str, root: str, conn_id: str) -> Finding:
    try:
        place = storage.resolve(
            _PROBE, default_root=root, default_root_name=f"extra {field!r} of connection {conn_id!r}"
        )
        place.check_writable()
    except DiffioError as error:
        fix = error.advice or f"Correct the extra {field!r}, or let Airflow's workers write there."
        return Finding(field, "problem", error.message, fix)
    return Finding(field, "ok", f"{place.uri.removesuffix(_PROBE)} can be written.")
