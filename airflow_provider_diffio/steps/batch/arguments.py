"""Reading the arguments of a batch when it runs: its templates are rendered by then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_diffio.api.arguments import (
    is_path,
    read_count,
    read_flag,
    read_mapping,
    read_path,
    read_seconds,
    read_text,
    read_texts,
)
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.steps.batch.selection import read_patterns

Reader = Callable[[Any, str], Any]


def read_batch_arguments(task: Any, names: Iterable[str] | None = None) -> None:
    """
    Check and normalise the arguments of a batch, before anything is sent.

    :param task: the operator.
    :param names: which of them; all by default.
    :raises DiffioInputError: naming the argument that cannot work.
    """
    for name in READERS if names is None else names:
        setattr(task, name, READERS[name](getattr(task, name), name))
    if names is None:
        read_flag(task.plans_only, "dry_run")


def read_number(value: Any, name: str) -> int:
    """Return a bound: a whole number of at least 1, or the text that a template makes of one."""
    text = value.strip() if isinstance(value, str) else ""
    return read_count(int(text) if text.isascii() and text.isdigit() else value, name)


def read_max_failures(value: Any, name: str) -> int | float:
    """
    Return how many failures are allowed: a whole number, or a share from 0.0 to 1.0.

    :raises DiffioInputError: when it is neither.
    """
    if isinstance(value, str):
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            value = None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and 0 <= value <= 1:
        return value
    raise DiffioInputError(
        f"{name} must be a number of recordings, 0 or more, or a share from 0.0 to 1.0, not {value!r:.40}."
    )


def _optional(read: Reader) -> Reader:
    return lambda value, name: None if value is None else read(value, name)


def _read_sources(value: Any, name: str) -> Any:
    if is_path(value):
        return read_path(value, name)
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise DiffioInputError(
            f"{name} must be a path, or a list of paths or mappings, not {type(value).__name__}.",
            advice="See whether the task that it comes from was skipped, or returned nothing.",
        )
    return list(value)  # Airflow's lazy sequences of XComs are read once


def _read_types(value: Any, name: str) -> list[str]:
    return [read_text(value, name)] if isinstance(value, str) else read_texts(value, name)


_optional_text, _optional_mapping = _optional(read_text), _optional(read_mapping)

#: How each argument is read, by its name.
READERS: Mapping[str, Reader] = {
    "diffio_conn_id": read_text,
    "sources": _read_sources,
    "pattern": read_patterns,
    "exclude": read_patterns,
    "min_age": read_seconds,
    "order": read_text,
    "source_root": _optional(read_path),
    "path": read_path,
    "name": read_text,
    "download_types": _read_types,
    "ledger": _optional(read_path),
    "max_in_flight": read_number,
    "transfers": read_number,
    "max_generations": _optional(read_number),
    "max_generations_per_recording": read_number,
    "max_failures": read_max_failures,
    "model": _optional_text,
    "sampling": _optional_mapping,
    "generation_params": _optional_mapping,
    "project_params": _optional_mapping,
    "content_type": _optional_text,
    "file_format": _optional_text,
    "overwrite": read_text,
    "on_changed_request": read_text,
    "revision": _optional_text,
    "missing_output": read_text,
    "source_conn_id": _optional_text,
    "output_conn_id": _optional_text,
    "deferrable": read_flag,
    "poll_interval": read_seconds,
    "max_poll_interval": read_seconds,
    "timeout": read_seconds,
}

#: Those of them that no template changes.
SETTINGS = frozenset(
    {
        "min_age", "order", "download_types", "transfers", "overwrite", "on_changed_request",
        "missing_output", "deferrable", "poll_interval", "max_poll_interval", "timeout",
    }
)  # fmt: skip
