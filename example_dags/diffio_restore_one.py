"""
Restore one recording in four steps, then fetch its transcript.

Needs a connection ``diffio_default`` with an API key, and an ``output_path`` in its extra: the directory or
bucket that the paths below are relative to. Without an account, run the sandbox:
``python -m airflow_provider_diffio.sandbox`` prints the connection to use.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_diffio.operators import (
    DiffioCreateGenerationOperator,
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
)
from airflow_provider_diffio.sensors import DiffioGenerationSensor

SAMPLE = Path(__file__).parent / "recordings" / "noisy_speech.wav"

with DAG(
    dag_id="diffio_restore_one",
    schedule=None,
    catchup=False,
    tags=["diffio"],
    doc_md=__doc__,
    default_args={"retries": 2},
    params={"source": Param(str(SAMPLE), type="string", description="Local path or URI of a recording")},
) as dag:
    # 1. The recording goes to Diffio. Nothing is billed yet.
    project = DiffioCreateProjectOperator(task_id="upload", source="{{ params.source }}")

    # 2. The restoration starts: once, however often this task is tried.
    generation = DiffioCreateGenerationOperator(task_id="restore", project=project.output)

    # 3. The wait happens on the triggerer and holds no worker.
    finished = DiffioGenerationSensor(
        task_id="wait", generation=generation.output, deferrable=True, timeout=6 * 3600
    )

    # 4. The files appear whole or not at all. `run_id` always exists; `ds` does not in asset-triggered runs.
    DiffioDownloadOperator(
        task_id="save", generation=finished.output, path="{{ run_id }}/", download_type="audio"
    )
    DiffioDownloadOperator(
        task_id="save_transcript",
        generation=finished.output,
        path="{{ run_id }}/transcript.json",
        download_type="transcript",
    )
