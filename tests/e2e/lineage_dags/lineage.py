"""Restorations from bucket to bucket: in four tasks, and in one that is mapped and defers."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, AssetAlias

from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sensors import DiffioGenerationSensor

with DAG("four_tasks", schedule=None, catchup=False):
    project = DiffioCreateProjectOperator(
        task_id="upload", source="s3://minio@raw/{{ dag_run.conf.name }}.wav"
    )
    generation = DiffioCreateGenerationOperator(task_id="restore", project=project.output)
    finished = DiffioGenerationSensor(task_id="wait", generation=generation.output, deferrable=True)
    DiffioDownloadOperator(
        task_id="save", generation=finished.output, path="s3://minio@restored/{{ dag_run.conf.name }}.mp3"
    )

with DAG("one_task", schedule=None, catchup=False):
    DiffioRestoreOperator.partial(
        task_id="restore",
        path="s3://minio@restored/{{ task.source.rpartition('/')[2] }}.mp3",
        deferrable=True,
        outlets=[AssetAlias("restored")],
    ).expand(source=["s3://minio@raw/y.wav", "s3://minio@raw/z.wav"])
