"""
Every night, restore the recordings that are new under a path.

``list_new`` compares the source directory with the output directory; each recording that has no restored
file becomes one mapped task, at most four of them at once. ``summarize`` reports the results. A ledger below
the output directory knows what was paid for: the list may shift, and a run be cleared, without a second bill.

Needs a connection ``diffio_default`` with an API key and an ``output_path`` in its extra. The directories
are parameters: local paths or URIs such as ``s3://aws_default@raw/recordings/``.

Unpaused, it runs at once for the last night, and starts up to ``limit`` generations, which are billed.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, TriggerRule, task

from airflow_provider_diffio.operators import DiffioRestoreOperator

ENDINGS = (".wav", ".mp3", ".flac", ".m4a", ".ogg")

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
        "limit": Param(100, type="integer", minimum=1, description="Recordings per night: a bound on cost"),
    },
):

    @task
    def list_new(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """List the recordings that have no restored file yet."""
        from airflow_provider_diffio.storage import resolve

        assert params is not None
        source_dir = params["source_dir"].rstrip("/") + "/"
        output_dir = params["output_dir"].rstrip("/") + "/"
        done = {
            file.name for file in resolve(output_dir).list_files("*.mp3", recursive=False, missing_ok=True)
        }
        new = []
        for file in resolve(source_dir).list_files(recursive=False):
            restored = f"{file.name}.mp3"
            if file.name.lower().endswith(ENDINGS) and restored not in done:
                new.append({"source": source_dir + file.name, "path": output_dir + restored})
        print(f"{len(done)} done, {len(new)} new, {params['limit']} at most tonight.")
        return sorted(new, key=lambda job: job["source"])[: params["limit"]]

    new = list_new()

    # One task per recording, at most four at once. A task that waits holds no worker.
    restored = DiffioRestoreOperator.partial(
        task_id="restore",
        download_type="audio",
        ledger="{{ params.output_dir.rstrip('/') }}/.diffio-ledger/",
        deferrable=True,
        retries=1,
        max_active_tis_per_dagrun=4,
    ).expand_kwargs(new)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def summarize(jobs: Any, files: Any) -> dict[str, int]:
        """Log what was restored. Fail the run if something was not: the next night tries that again."""
        if jobs is None:
            raise AirflowFailException("The new recordings could not be listed: see the task list_new.")
        written = [file for file in files or () if file]
        for file in written:
            print(f"{file['path']}: {file['size_bytes']} bytes")
        if len(written) < len(jobs):
            raise AirflowFailException(f"{len(jobs) - len(written)} of {len(jobs)} were not restored.")
        return {"restored": len(written), "bytes": sum(file["size_bytes"] for file in written)}

    summarize(new, restored.output)
