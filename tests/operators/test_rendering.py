"""What the UI shows of rendered fields, and what Airflow takes for a template's file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio import operators, sensors
from airflow_provider_diffio.operators import DiffioRestoreOperator
from tests.task_runner import TaskRunner

CLASSES = [getattr(room, name) for room in (operators, sensors) for name in room.__all__]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_may_be_a_mapping_or_list_is_shown_as_json(cls: Any) -> None:
    parameters = inspect.signature(cls.__init__).parameters
    structured = {
        name
        for name in cls.template_fields
        if name in parameters
        if any(kind in str(parameters[name].annotation) for kind in ("Mapping", "Collection"))
    }
    assert cls.template_fields_renderers == dict.fromkeys(structured, "json")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_argument_that_holds_a_value_is_templated(cls: Any) -> None:
    settings = {"deferrable", "wait_for_completion", "overwrite", "timeout", "ready_timeout"}
    settings |= {"poll_interval", "max_poll_interval", "max_generations", "on_changed_input"}
    settings |= {"on_changed_request", "missing_output", "max_generations_per_recording", "verify"}
    settings |= {"request_options", "self", "kwargs"}
    if cls is operators.DiffioRestoreBatchOperator:
        settings |= {"min_age", "order", "download_types", "transfers", "dry_run"}
        settings |= {"on_changed_request", "missing_output"}
        settings -= {"max_generations", "max_generations_per_recording"}
    arguments = set(inspect.signature(cls.__init__).parameters) | {"diffio_conn_id"}
    assert set(cls.template_fields) == arguments - settings


def test_a_path_that_ends_like_a_templates_file_is_a_path(
    task_runner: TaskRunner, dag: Any, tmp_path: Path, output: Path
) -> None:
    # With a template_ext, Airflow would put the content of the file in the path's place, or fail without one.
    source = tmp_path / "talk.json"
    source.write_bytes(b"RIFF" + bytes(400))
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(source), path="{{ 'talk' }}.json", file_name="talk.wav", dag=dag
    )
    assert task_runner.run(restore).value["path"] == str(output / "talk.json")
