"""A real Airflow with the OpenLineage provider: what it emits leads from recordings to restored files."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.e2e.events import RECORDING
from tests.e2e.local_airflow import LocalAirflow
from tests.s3 import s3_server

pytest.importorskip("airflow.providers.openlineage")
pytestmark = pytest.mark.e2e

DAGS = Path(__file__).parent / "lineage_dags"
API_KEY = "diffio_live_canary1a2b3c4d5e6f7a8b"
TOKEN = re.compile(r"v1\.[\w-]+\.[\w-]{16,}")

Name = tuple[str, str]


@dataclass
class Lineage:
    """The end of every task, as it was emitted."""

    airflow: LocalAirflow
    path: Path

    def text(self) -> str:
        return self.path.read_text()

    def ends(self, job: str, number: int) -> list[dict[str, Any]]:
        """Wait for them: Airflow calls its listeners after a task is marked as a success."""
        until = time.monotonic() + 60
        while True:
            events = [json.loads(line) for line in self.text().splitlines(keepends=True) if line[-1] == "\n"]
            found = [event for event in events if self._is_end(event, job)]
            if len(found) >= number or time.monotonic() > until:
                return found
            time.sleep(0.2)

    @staticmethod
    def _is_end(event: dict[str, Any], job: str) -> bool:
        return (event["eventType"], event["job"]["name"]) == ("COMPLETE", job)

    def end(self, job: str) -> dict[str, Any]:
        (event,) = self.ends(job, 1)
        return event


def names(datasets: list[dict[str, Any]]) -> list[Name]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    import boto3

    folder = tmp_path_factory.mktemp("openlineage")
    with s3_server() as url:
        store = {"endpoint_url": url, "region_name": "us-east-1"}
        client = boto3.client("s3", aws_access_key_id="testing", aws_secret_access_key="testing", **store)
        client.create_bucket(Bucket="raw")
        client.create_bucket(Bucket="restored")
        for name in ("x", "y", "z"):
            client.put_object(Bucket="raw", Key=f"{name}.wav", Body=RECORDING.read_bytes())
        minio = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": store}

        path = folder / "events.jsonl"
        transport = {"type": "file", "log_file_path": str(path), "append": True}
        with start_sandbox_process(processing_seconds=12, api_key=API_KEY) as sandbox:
            env = {
                "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(sandbox.connection),
                "AIRFLOW_CONN_MINIO": json.dumps(minio),
                "AIRFLOW__OPENLINEAGE__DISABLED": "False",
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
                "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
            }
            with LocalAirflow(folder / "airflow", DAGS, env=env) as airflow:
                runs = [("four_tasks", {"name": "x"}), ("one_task", {})]
                started = [(dag_id, airflow.trigger(dag_id, conf=conf)) for dag_id, conf in runs]
                for dag_id, run_id in started:
                    state = airflow.wait_run(dag_id, run_id, timeout=240)
                    assert state == "success", airflow.logs_text()[-20_000:]
                yield Lineage(airflow, path)


def test_four_tasks_lead_from_raw_to_restored(lineage: Lineage) -> None:
    tasks = [lineage.end(f"four_tasks.{task}") for task in ("upload", "restore", "wait", "save")]
    upload, restore, wait, save = tasks
    assert names(upload["inputs"]) == [("s3://raw", "x.wav")]
    assert names(upload["outputs"]) == names(restore["inputs"])
    assert names(restore["outputs"]) == names(wait["inputs"]) == names(save["inputs"])
    assert names(save["outputs"]) == [("s3://restored", "x.mp3")]

    facets = [task["run"]["facets"]["diffio"] for task in tasks]
    project_id, generation_id = facets[1]["api_project_id"], facets[1]["generation_id"]
    assert names(upload["outputs"]) == [("diffio", f"projects/{project_id}")]
    assert names(save["inputs"]) == [("diffio", f"projects/{project_id}/generations/{generation_id}")]
    assert {facet["api_project_id"] for facet in facets} == {project_id}
    assert {facet["generation_id"] for facet in facets[1:]} == {generation_id}
    assert facets[3]["model"] == "diffio-4.6-flash"
    assert {task["job"]["facets"]["jobType"]["integration"] for task in tasks} == {"AIRFLOW"}


def test_a_mapped_task_that_deferred_leads_from_each_recording_to_its_result(lineage: Lineage) -> None:
    ends = lineage.ends("one_task.restore", 2)
    led = sorted((names(end["inputs"]), names(end["outputs"])) for end in ends)
    assert led == [
        ([("s3://raw", f"{name}.wav")], [("s3://restored", f"{name}.wav.mp3")]) for name in ("y", "z")
    ]
    facets = [end["run"]["facets"]["diffio"] for end in ends]
    assert len({facet["generation_id"] for facet in facets}) == 2
    for end in ends:
        (output,) = end["outputs"]
        assert output["outputFacets"]["outputStatistics"]["size"] > 50_000
        assert len(output["facets"]["version"]["datasetVersion"]) == 64


def test_consumers_of_the_alias_learn_of_each_file(lineage: Lineage) -> None:
    rows = lineage.airflow.db_dump()
    for name in ("y", "z"):
        assert f"s3://restored/{name}.wav.mp3" in rows
    if lineage.airflow.is_airflow_3:
        events = lineage.airflow.rest("GET", "/assets/events")["asset_events"]
        assert sorted((event["uri"], event["extra"]["path"]) for event in events) == [
            (f"s3://restored/{name}.wav.mp3", f"s3://restored/{name}.wav.mp3") for name in ("y", "z")
        ]


def test_no_secret_is_emitted(lineage: Lineage) -> None:
    text = lineage.text()
    assert "four_tasks.save" in text
    assert API_KEY not in text
    assert TOKEN.search(text) is None
    assert "minio@" not in json.dumps([lineage.end("four_tasks.save")["outputs"]])
