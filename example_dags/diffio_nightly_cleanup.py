"""
Every night, restore the recordings that are new under a path.

``restore`` is one task, whatever the number of recordings: it uploads, starts and downloads, and holds no
worker while Diffio works. A ledger below the output directory knows each recording by its content, so none
that was restored is paid for again; one that fails at Diffio is tried twice. ``summarize`` reads the
manifest, which says of each recording what became of it.

Needs a connection ``diffio_default`` with an API key. The directories are parameters: local paths or URIs
such as ``s3://aws_default@raw/recordings/``.

Unpaused, it runs at once for the last night, and starts up to ``limit`` generations, which are billed.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, task

from airflow_provider_diffio.manifest import read_manifest
from airflow_provider_diffio.operators import DiffioRestoreBatchOperator

with DAG(
    dag_id="diffio_nightly_cleanup",
    schedule="0 2 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    tags=["diffio"],
    doc_md=__doc__,
    params={
        "source_dir": Param("/data/recordings", type="string", description="Where new recordings arrive"),
        "output_dir": Param("/data/restored", type="string", description="Where restored ones go"),
        "limit": Param(100, type="integer", minimum=1, description="Generations a night: a bound on cost"),
    },
):
    restored = DiffioRestoreBatchOperator(
        task_id="restore",
        sources="{{ params.source_dir }}",
        path="{{ params.output_dir }}",
        ledger="{{ params.output_dir.rstrip('/') }}/.diffio-ledger/",
        order="oldest",
        max_generations="{{ params.limit }}",
        deferrable=True,
        retries=1,
    )

    @task
    def summarize(result: Any) -> dict[str, int]:
        """Log what was restored and what was not, and why."""
        if result is None:
            raise AirflowFailException("There is no manifest: see the log of the task restore.")
        for row in read_manifest(result):
            if row["status"] == "restored":
                print(*(file["path"] for file in row["files"]))
            elif row["status"] != "kept":
                print(f"{row['source']} is {row['status']}: {row['error']}")
        return {name: result[name] for name in ("restored", "failed", "given_up", "left", "bytes")}

    # As a teardown it runs when recordings have failed, too, and the run still fails with them.
    summarize(restored.output).as_teardown()
