"""One mapped run over every recording of the soak."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_diffio.operators import DiffioRestoreOperator

RAW = Path(os.environ["DIFFIO_LAB"]) / "raw"

with DAG("crash_soak", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=100):
    DiffioRestoreOperator.partial(
        task_id="restore",
        deferrable=True,
        poll_interval=2,
        retries=50,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs([{"source": str(path), "path": path.name} for path in sorted(RAW.glob("*.wav"))])
