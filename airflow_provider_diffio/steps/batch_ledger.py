"""Whether a batch has a ledger that outlives its run: asked while its DAG is parsed."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_provider_diffio.api.errors import DiffioInputError


def check_ledger(path: Any, ledger: Any, conn_id: Any) -> None:
    """
    Refuse a templated path without a ledger: each run would have a ledger of its own, and pay again.

    The connection is read only where everything depends on it.

    :param path: where the restored files go.
    :param ledger: the task's ledger, or None.
    :param conn_id: the Diffio connection.
    :raises DiffioInputError: when neither the task nor its connection names a ledger.
    """
    if ledger is not None or not is_template(path) or is_template(conn_id):
        return
    if not _may_name_a_ledger(str(conn_id)):
        raise refusal(path, conn_id)


def refusal(path: Any, conn_id: Any) -> DiffioInputError:
    """Return the error for a batch whose ledger would be another one in each run."""
    return DiffioInputError(
        f"path is a template ({path!s:.120}), so each run would have a ledger of its own, and pay for"
        " recordings that others have restored.",
        advice="Give ledger, such as 's3://conn_id@bucket/.diffio-ledger/', or set the extra 'ledger_path'"
        f" of the connection {str(conn_id)!r}.",
    )


def is_template(value: Any) -> bool:
    """Tell whether an argument may be another one in each run."""
    if hasattr(value, "protocol"):  # an ObjectStoragePath
        value = str(value)
    if hasattr(value, "__fspath__"):
        value = value.__fspath__()
    # What another task returns is known in a run alone.
    return "{{" in value or "{%" in value if isinstance(value, str) else value is not None


def _may_name_a_ledger(conn_id: str) -> bool:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    try:
        connection = BaseHook.get_connection(conn_id)
        return bool(connection.extra_dejson.get("ledger_path"))
    except AirflowNotFoundException:
        return False
    except Exception:
        return True


def safe_part(part: str) -> str:
    """Return a part of a path that no other id has; Airflow's ids are such parts, as a rule."""
    return part if part not in (".", "..") and not set(part) & set("/\\") else quote(part, safe="")
