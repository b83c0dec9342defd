"""The example DAGs on a real Airflow, against the sandbox; and a search for secrets in all it left behind."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.e2e.events import wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.features import INSTALLED, TRIGGER_ON_KILL, needs

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "example_dags"
RECORDING = EXAMPLES / "recordings" / "noisy_speech.wav"
API_KEY = "diffio_live_canary0c1d2e3f4a5b6c7d8e9f"
HEADER = "canary-header-5e6f7a8b9c"
WEBHOOK_SECRET = "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTEyMzQ="
#: Upload and media tokens, as the sandbox makes them: three parts, the last one a signature.
TOKEN = re.compile(r"v1\.[\w-]+\.[\w-]{16,}")


@dataclass
class Pipeline:
    airflow: LocalAirflow
    sandbox: SandboxProcess
    folder: Path

    def run(self, dag_id: str, conf: dict[str, Any]) -> str:
        run_id = self.airflow.trigger(dag_id, conf=conf)
        state = self.airflow.wait_run(dag_id, run_id, timeout=240)
        assert state == "success", self.airflow.logs_text()[-20_000:]
        return run_id


def make_trouble(sandbox: SandboxProcess) -> None:
    """Let everything go wrong once or twice: what is logged of trouble must hold no secret either."""
    sandbox.add_fault("status", path="*create_project", status=503, headers={"Retry-After": "1"})
    sandbox.add_fault("reset-before", path="/v1/uploads/parts/*", bytes=1000)
    sandbox.add_fault("status", path="/v1/uploads/complete", status=500)
    sandbox.add_fault("reset-after", path="*-generation")
    sandbox.add_fault("status", path="*get_generation_progress", status=502, nth=2, times=2)
    sandbox.add_fault("reset-before", path="*get_generation_progress", nth=4)
    sandbox.add_fault("status", path="*get_generation_download", status=500)
    sandbox.add_fault("truncate", path="/m/*", bytes=20_000)
    sandbox.add_fault("status", path="/m/*", status=403, nth=3)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("pipeline")
    with start_sandbox_process(processing_seconds=12, api_key=API_KEY) as sandbox:
        connection = {
            **sandbox.connection,
            "extra": {
                "output_path": str(folder / "restored"),
                "headers": {"X-Canary": HEADER},
                "webhook_secret": WEBHOOK_SECRET,
            },
        }
        env = {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection),
            # The most talkative level shows what libraries log of requests.
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        }
        make_trouble(sandbox)
        with LocalAirflow(folder / "airflow", EXAMPLES, env=env, paused_at_creation=True) as airflow:
            yield Pipeline(airflow, sandbox, folder)


def test_restore_one_runs_to_success_and_holds_no_worker_while_it_waits(pipeline: Pipeline) -> None:
    airflow = pipeline.airflow
    run_id = airflow.trigger("diffio_restore_one", conf={"source": str(RECORDING)})
    airflow.wait_task("diffio_restore_one", run_id, "wait", "deferred", timeout=120)
    states = {task.task_id: task.state for task in airflow.task_instances("diffio_restore_one", run_id)}
    assert "running" not in states.values()
    if airflow.is_airflow_3:
        assert airflow.rest("GET", "/pools/default_pool")["running_slots"] == 0

    assert airflow.wait_run("diffio_restore_one", run_id, timeout=120) == "success"

    assert "complete" in airflow.trigger_logs("diffio_restore_one", run_id, "wait")
    asset = airflow.xcom("diffio_restore_one", run_id, "save")
    written = Path(asset["path"])
    assert written.is_relative_to(pipeline.folder / "restored")
    assert written.stat().st_size == asset["size_bytes"] > 50_000
    transcript = airflow.xcom("diffio_restore_one", run_id, "save_transcript")
    assert json.loads(Path(transcript["path"]).read_text())["segments"]
    assert pipeline.sandbox.ledger()["totals"]["generations"] == 1


@needs(TRIGGER_ON_KILL)
def test_a_wait_that_a_user_ends_says_what_goes_on(pipeline: Pipeline) -> None:
    airflow, dag_id = pipeline.airflow, "diffio_restore_one"
    before = pipeline.sandbox.ledger()["totals"]["generations"]
    pipeline.sandbox.add_fault("processing-seconds", seconds=90)
    run_id = airflow.trigger(dag_id, conf={"source": str(RECORDING)})
    airflow.wait_task(dag_id, run_id, "wait", "deferred", timeout=120)
    # A trigger that no triggerer has begun yet is not told of its end.
    wait_until(lambda: bool(airflow.trigger_logs(dag_id, run_id, "wait")), 60, airflow.logs_text)
    airflow.rest("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/wait", {"new_state": "failed"})
    wait_until(
        lambda: "Diffio offers no cancel" in airflow.trigger_logs(dag_id, run_id, "wait"),
        60,
        lambda: airflow.logs_text()[-20_000:],
    )
    assert airflow.wait_run(dag_id, run_id, timeout=60) == "failed"
    assert pipeline.sandbox.ledger()["totals"]["generations"] == before + 1


def test_nightly_cleanup_restores_what_is_new_and_skips_what_is_done(pipeline: Pipeline) -> None:
    raw, done = pipeline.folder / "raw", pipeline.folder / "done"
    raw.mkdir()

    def arrive(name: str) -> None:
        """Write a recording of an hour ago that is unlike any other."""
        (raw / name).write_bytes(RECORDING.read_bytes() + name.encode())
        past = time.time() - 3600
        os.utime(raw / name, (past, past))

    for name in ("one.wav", "two.wav", "three.wav"):
        arrive(name)
    (raw / "notes.txt").write_text("not a recording")
    before = pipeline.sandbox.ledger()["totals"]["generations"]
    conf = {"source_dir": str(raw), "output_dir": str(done)}

    first = pipeline.run("diffio_nightly_cleanup", conf)
    restored = ["one.wav.mp3", "three.wav.mp3", "two.wav.mp3"]
    assert sorted(file.name for file in done.iterdir()) == [".diffio-ledger", *restored]
    assert pipeline.airflow.xcom("diffio_nightly_cleanup", first, "summarize")["restored"] == 3

    arrive("four.wav")
    second = pipeline.run("diffio_nightly_cleanup", conf)
    assert pipeline.airflow.xcom("diffio_nightly_cleanup", second, "summarize")["restored"] == 1
    third = pipeline.run("diffio_nightly_cleanup", conf)
    summary = pipeline.airflow.xcom("diffio_nightly_cleanup", third, "summarize")
    assert set(summary.values()) == {0}

    assert pipeline.sandbox.ledger()["totals"]["generations"] == before + 4
    assert [file.name for file in done.glob(".*")] == [".diffio-ledger"]


def test_the_budget_guard_lets_nothing_be_bought_beyond_the_limit(pipeline: Pipeline) -> None:
    before = pipeline.sandbox.ledger()["totals"]["generations"]
    run_id = pipeline.run("diffio_budget_guard", {"limit_cents": 0, "source": str(RECORDING)})
    assert pipeline.airflow.task_instance("diffio_budget_guard", run_id, "restore").state == "skipped"
    assert pipeline.sandbox.ledger()["totals"]["generations"] == before


def test_no_secret_is_left_in_logs_xcoms_rendered_fields_or_the_database(pipeline: Pipeline) -> None:
    assert all(fault["struck"] for fault in pipeline.sandbox.faults()), "some trouble did not come"
    used = {(request["origin"], request["authorization"]) for request in pipeline.sandbox.requests()}
    assert used == {("api", "api-key"), ("media", "upload-token"), ("media", "none")}
    assert not [r for r in pipeline.sandbox.requests() if r["origin"] == "media" and r["apiKeySeen"]]

    database, logs = pipeline.airflow.db_dump(), pipeline.airflow.logs_text()
    assert "diffio_restore_one" in database
    assert "GET /m/" not in logs
    # Airflow 3.0 logs libraries from INFO on, whatever the level.
    searched = INSTALLED == (3, 0) or "/v1/get_generation_progress" in logs
    assert searched, "the libraries' debug log is not there to be searched"
    for place, text in (("database", database), ("logs", logs)):
        for name, secret in (("API key", API_KEY), ("header", HEADER), ("webhook secret", WEBHOOK_SECRET)):
            assert secret not in text, f"the {name} is in the {place}"
        found = TOKEN.search(text)
        assert found is None, f"a token is in the {place}: {text[max(0, found.start() - 300) : found.end()]}"
