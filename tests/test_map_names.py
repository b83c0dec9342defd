"""Mapped tasks are called by their files, on every Airflow, unless the user names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio import operators
from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.steps.base import short_name

PROJECT = {"api_project_id": "proj_1", "file_name": "monday.wav"}
GENERATION = {"api_project_id": "proj_1", "generation_id": "gen_1"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("/data/recordings/monday.wav", "monday.wav"),
        (Path("/data/tuesday.wav"), "tuesday.wav"),
        ("s3://aws_default@raw/2026/Ä b?.wav", "Ä b?.wav"),
        ("https://host/a.wav?signature=secret", "a.wav"),
        ("/data/restored/", ""),
        ("x" * 500, "x" * 200 + "..."),
        ("a\x00b.wav", "a\ufffdb.wav"),
        (PROJECT, "monday.wav"),
        (GENERATION, "gen_1"),
        ({"api_project_id": "proj_1"}, "proj_1"),
        ({}, ""),
        (None, ""),
        (17, ""),
    ],
)
def test_what_a_person_would_call_it(value: Any, name: str) -> None:
    assert short_name(value) == name


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (DiffioRestoreOperator(task_id="a", source="/a/monday.wav", path="x/"), "monday.wav"),
        (DiffioCreateProjectOperator(task_id="b", source="/a/1.wav", file_name="monday.wav"), "monday.wav"),
        (DiffioCreateGenerationOperator(task_id="c", project=PROJECT), "monday.wav"),
        (DiffioGenerationSensor(task_id="d", generation=GENERATION), "gen_1"),
        (DiffioDownloadOperator(task_id="e", generation=GENERATION, path="/b/monday.mp3"), "monday.mp3"),
        (DiffioDownloadOperator(task_id="f", generation=GENERATION, path="/b/"), "gen_1"),
        (operators.DiffioUsageSummaryOperator(task_id="g"), ""),
    ],
)
def test_each_kind_of_task_has_a_name(task: Any, name: str) -> None:
    assert task.map_name == name


def test_mapped_tasks_have_it_unless_the_user_names_them(dag: Any) -> None:
    with dag:
        ours = DiffioRestoreOperator.partial(task_id="a", path="x/").expand(source=["/a/b.wav"])
        own = DiffioRestoreOperator.partial(
            task_id="b", path="x/", map_index_template="{{ task.source }}"
        ).expand(source=["/a/b.wav"])
        sensor = DiffioGenerationSensor.partial(task_id="c").expand(generation=[GENERATION])
    assert ours.partial_kwargs["map_index_template"] == "{{ task.map_name or ti.map_index }}"
    assert own.partial_kwargs["map_index_template"] == "{{ task.source }}"
    assert sensor.partial_kwargs["map_index_template"] == "{{ task.map_name or ti.map_index }}"


def test_airflow_shows_the_names_of_a_run(
    dag: Any, connection: dict[str, Any], tmp_path: Path, recording: Path
) -> None:
    rendered = dag.get_template_env().from_string("{{ task.map_name or ti.map_index }}")
    task = DiffioRestoreOperator(task_id="a", source=str(recording), path="x/", dag=dag)
    assert rendered.render(task=task, ti={"map_index": 3}) == "talk.wav"
    unnamed = operators.DiffioUsageSummaryOperator(task_id="b", dag=dag)
    assert rendered.render(task=unnamed, ti={"map_index": 3}) == "3"
