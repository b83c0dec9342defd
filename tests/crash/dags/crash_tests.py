"""A chain of tasks for each row of the laboratory's table, all in one run."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.crash.killer import killer
from tests.crash.points import DAG_ID, ROWS, WAITING_DAG_ID, Row

FOLDER = Path(os.environ["DIFFIO_LAB"])


def common(row: Row, step: str) -> dict[str, Any]:
    """What every task of a row has: an id, and the kill if it is the one to die."""
    arguments: dict[str, Any] = {"task_id": row.task_id(step)}
    if row.task_id(step) == row.dying_task_id and not row.point.by_driver:
        arguments["pre_execute"] = killer(row.point.name, FOLDER / "kills" / row.name)
    return arguments


def add(row: Row) -> None:
    """Make the tasks of a row."""
    source, path = str(FOLDER / "raw" / f"{row.name}.wav"), f"{row.name}/restored.wav"
    wait: dict[str, Any] = {"deferrable": True, "poll_interval": 2}
    if row.kind == "restore":
        DiffioRestoreOperator(**common(row, "all"), source=source, path=path, **wait)
    else:
        project = DiffioCreateProjectOperator(**common(row, "upload"), source=source)
        generation = DiffioCreateGenerationOperator(**common(row, "buy"), project=project.output)
        finished = DiffioGenerationSensor(**common(row, "wait"), generation=generation.output, **wait)
        DiffioDownloadOperator(**common(row, "save"), generation=finished.output, path=path)


def make_dag(dag_id: str) -> DAG:
    """Make the DAG of the rows that are in it."""
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        max_active_tasks=100,
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    ) as dag:
        for row in ROWS:
            if row.dag_id == dag_id:
                add(row)
    return dag


waiting = make_dag(WAITING_DAG_ID)
others = make_dag(DAG_ID)
