"""One mapped run that restores every recording of a bucket into the same bucket."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_diffio.operators import DiffioRestoreOperator

NAMES = json.loads(os.environ["DIFFIO_DISTRIBUTED_NAMES"])
BUCKET = os.environ["DIFFIO_DISTRIBUTED_BUCKET"]

with DAG("distributed_restore", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=1000):
    DiffioRestoreOperator.partial(
        task_id="restore", deferrable=True, retries=5, retry_delay=timedelta(seconds=5)
    ).expand_kwargs(
        [{"source": f"{BUCKET}/raw/{name}", "path": f"{BUCKET}/restored/{name}"} for name in NAMES]
    )
