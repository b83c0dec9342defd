"""
Reading the arguments of a task when it runs: its templates are rendered by then, and XComs are there.

An argument is known by its name, which means the same in every operator and in the sensor. What is read is
put back into the task as plain text, numbers and mappings, since it is compared over tries and stored with a
deferral.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.arguments import (
    read_count,
    read_flag,
    read_mapping,
    read_path,
    read_seconds,
    read_text,
    read_texts,
)
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.steps.batch.arguments import READERS as BATCH
from airflow_provider_diffio.steps.batch.arguments import SETTINGS as BATCH_SETTINGS
from airflow_provider_diffio.steps.xcom import plain_value, read_generation_ids, read_project_id

if TYPE_CHECKING:
    import os
    from collections.abc import Collection
    from datetime import timedelta
    from typing import TypeAlias

    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

    from airflow_provider_diffio.api.settings import RequestOptions

    # What an operator takes while a DAG is parsed: a value, or what another task will return.
    TextArgument: TypeAlias = str | XComArg
    PathArgument: TypeAlias = str | os.PathLike[str] | ObjectStoragePath | XComArg
    SecondsArgument: TypeAlias = float | timedelta
    MappingArgument: TypeAlias = Mapping[str, Any] | XComArg
    CollectionArgument: TypeAlias = Collection[str] | XComArg

Reader = Callable[[Any, str], Any]


def read_arguments(task: Any) -> None:
    """
    Check and normalise every argument of a task, before anything is sent.

    :param task: an operator or the sensor.
    :raises DiffioInputError: naming the argument that cannot work.
    """
    read_settings(task)
    # Others are a subclass's own.
    for name in [name for name in task.template_fields if name in TEMPLATED]:
        setattr(task, name, TEMPLATED[name](getattr(task, name), name))


def read_settings(task: Any) -> None:
    """
    Do the same for what no template changes, in a task that goes on after a deferral.

    The templates are rendered again there, and what they give by then counts no more.

    :param task: an operator or the sensor.
    :raises DiffioInputError: naming the argument that cannot work.
    """
    given = vars(task)
    for name in [name for name in SETTINGS if name in given]:
        setattr(task, name, SETTINGS[name](given[name], name))


def _optional(read: Reader) -> Reader:
    return lambda value, name: None if value is None else read(value, name)


def _read_project(value: Any, _name: str) -> str | dict[str, Any]:
    plain = plain_value(value)
    project_id = read_project_id(plain)
    return dict(plain) if isinstance(plain, Mapping) else project_id


def _read_generation(value: Any, _name: str) -> dict[str, Any]:
    plain = plain_value(value)
    read_generation_ids(plain)
    return dict(plain)


def _read_request_options(value: Any, name: str) -> RequestOptions:
    from airflow_provider_diffio.api.settings import RequestOptions

    options = RequestOptions.of(value)
    if options.api_key is not None:
        raise DiffioInputError(
            f"{name} of a task takes no api_key: Airflow stores a mapped task's arguments.",
            advice="Put the key into a Diffio connection, and give the task its id as diffio_conn_id.",
        )
    return options


_optional_text = _optional(read_text)
_optional_mapping = _optional(read_mapping)

#: How each argument is read that may be a template, by its name; what a batch alone has comes first.
TEMPLATED: Mapping[str, Reader] = {
    **{name: read for name, read in BATCH.items() if name not in BATCH_SETTINGS},
    "diffio_conn_id": read_text,
    "source": read_path,
    "file_name": _optional_text,
    "content_type": _optional_text,
    "file_format": _optional_text,
    "project_params": _optional_mapping,
    "source_conn_id": _optional_text,
    "project": _read_project,
    "generation": _read_generation,
    "model": _optional_text,
    "sampling": _optional_mapping,
    "generation_params": _optional_mapping,
    "idempotency_key": _optional_text,
    "path": read_path,
    "download_type": _optional_text,
    "output_conn_id": _optional_text,
    "ledger": _optional(read_path),
    "revision": _optional_text,
    "api_key_id": _optional_text,
    "url": _optional_text,
    "event_types": read_texts,
    "event_type": read_text,
    "mode": read_text,
    "sample_payload": _optional_mapping,
}
#: How each argument is read that is none.
SETTINGS: Mapping[str, Reader] = {
    **{name: BATCH[name] for name in BATCH_SETTINGS if name in BATCH},
    "dry_run": read_flag,
    "request_options": _read_request_options,
    "overwrite": read_text,
    "verify": _optional_text,
    "max_generations": read_count,
    "max_generations_per_recording": read_count,
    "on_changed_request": read_text,
    "missing_output": read_text,
    "on_changed_input": read_text,
    "wait_for_completion": read_flag,
    "deferrable": read_flag,
    "poll_interval": read_seconds,
    "max_poll_interval": read_seconds,
    "timeout": read_seconds,
    "ready_timeout": read_seconds,
}
