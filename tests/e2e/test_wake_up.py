"""Experimental: a delivery resumes the task that waits for its generation, and nobody asks in between."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.e2e.events import EXAMPLES, RECORDING, wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.features import WAKE_UP, needs

pytestmark = [pytest.mark.e2e, needs(WAKE_UP)]

DAG_ID = "diffio_restore_one"


def test_a_delivery_ends_the_wait(tmp_path: Path, show: Callable[[str, str], None]) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLES / f"{DAG_ID}.py", dags)
    with start_sandbox_process(processing_seconds=25) as sandbox:
        extra = {"output_path": str(tmp_path / "out"), "webhook_secret": sandbox.webhook_secret}
        env = {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps({**sandbox.connection, "extra": extra}),
            "AIRFLOW__DIFFIO__WAKE_UP": "True",
        }
        with LocalAirflow(tmp_path / "airflow", dags, env=env) as airflow:
            sandbox.add_webhook(f"{airflow.url}/diffio/webhooks/diffio_default")
            run_id = airflow.trigger(DAG_ID, conf={"source": str(RECORDING)})
            airflow.wait_task(DAG_ID, run_id, "wait", "deferred", timeout=90)
            deferred = dt.datetime.now(dt.UTC)

            def completed() -> bool:
                return any(
                    delivery["event"]["eventType"] == "generation.completed" and delivery["attempts"]
                    for delivery in sandbox.webhooks()["deliveries"]
                )

            wait_until(completed, 90, sandbox.webhooks)
            delivered = dt.datetime.now(dt.UTC)
            airflow.wait_task(DAG_ID, run_id, "wait", "success", timeout=60)
            resumed = dt.datetime.now(dt.UTC)
            assert airflow.wait_run(DAG_ID, run_id, timeout=90) == "success"

            polls = [
                dt.datetime.fromisoformat(request["at"])
                for request in sandbox.requests()
                if request["path"].endswith("get_generation_progress")
            ]
            between = [poll for poll in polls if deferred < poll < delivered - dt.timedelta(seconds=0.5)]
            assert between == []
            assert len([poll for poll in polls if poll > deferred]) == 1
            assert "Resumed diffio_restore_one.wait" in airflow.logs_text()
            show("wake-up", f"delivery to the end of the wait: {(resumed - delivered).total_seconds():.2f} s")
