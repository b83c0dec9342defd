"""
Download whatever Diffio has finished, whoever started it.

The DAG is scheduled on an asset: every finished generation of the connection's API key becomes an event on
it, and events start runs. Needs Airflow 3, a connection ``diffio_default`` with an API key, an
``output_path`` and a ``webhook_secret`` in its extra, and a webhook endpoint with the URL
``https://<your Airflow>/diffio/webhooks/diffio_default``. Where no webhook can reach Airflow, a watcher on
the triggerer polls Diffio instead: ``diffio_completed_asset(poll_interval=60)``.

After a pause, the first run takes the events of the pause, too, and downloads all of them, which is free.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_diffio.assets import diffio_completed_asset, finished_generations
from airflow_provider_diffio.operators import DiffioDownloadOperator

with DAG(
    dag_id="diffio_on_completed",
    schedule=[diffio_completed_asset()],
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    tags=["diffio"],
    doc_md=__doc__,
    default_args={"retries": 2},
):

    @task
    def finished(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """List the generations that this run is for; one run may have several."""
        return finished_generations(triggering_asset_events)

    # One task per generation; none for a test event. The ids in the paths keep files apart.
    DiffioDownloadOperator.partial(
        task_id="save", path="{{ task.generation.generation_id }}/", download_type="audio"
    ).expand(generation=finished())
