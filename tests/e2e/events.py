"""A real Airflow with a DAG on finished generations, and a sandbox to finish them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import SandboxProcess
from tests.e2e.local_airflow import LocalAirflow

EXAMPLES = Path(__file__).parents[2] / "example_dags"
RECORDING = EXAMPLES / "recordings" / "noisy_speech.wav"
DAG_ID = "diffio_on_completed"


@dataclass
class Events:
    airflow: LocalAirflow
    sandbox: SandboxProcess
    hook: DiffioHook
    output: Path

    @property
    def receiver(self) -> str:
        return f"{self.airflow.url}/diffio/webhooks/diffio_default"

    def buy(self, count: int = 1) -> list[str]:
        """Have generations made, as someone who is no DAG would; their ids."""
        ids = []
        for _ in range(count):
            project = self.hook.create_project(RECORDING)
            ids.append(self.hook.create_generation(project.api_project_id).generation_id)
        return ids

    def saved(self) -> dict[str, list[Path]]:
        return {
            folder.name: [file for file in folder.iterdir() if not file.name.startswith(".")]
            for folder in (self.output.iterdir() if self.output.exists() else ())
        }

    def runs(self) -> list[dict[str, Any]]:
        answer = self.airflow.rest("GET", f"/dags/{DAG_ID}/dagRuns?limit=100&order_by=run_after")
        return list(answer["dag_runs"])

    def asset_events(self) -> list[dict[str, Any]]:
        return list(self.airflow.rest("GET", "/assets/events?limit=100")["asset_events"])


def wait_until(done: Callable[[], bool], seconds: float, what: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)
