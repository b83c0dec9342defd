"""A real Airflow with a user in front of it, and the sandbox in Diffio's place."""

from __future__ import annotations

import configparser
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.browser import chromium
from tests.browser.airflow_2 import Airflow2
from tests.browser.airflow_3 import Airflow3
from tests.browser.buckets import buckets
from tests.browser.form import FORM
from tests.e2e.control import open_database
from tests.e2e.events import wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.task_runner import AIRFLOW_3

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "example_dags" / "recordings" / "noisy_speech.wav"
#: What the browser showed, for whoever has to know why a test failed, or wants pictures.
PICTURES = ROOT / ".browser"
CONN_ID = "diffio_by_hand"
DAG_ID = "restore_interview"
BUCKETS_DAG_ID = "restore_in_buckets"

DAG_FILE = f"""
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_diffio.operators import DiffioRestoreOperator

with DAG({DAG_ID!r}, schedule=None, catchup=False):
    DiffioRestoreOperator(
        task_id="restore",
        source={str(RECORDING)!r},
        path="interview.mp3",
        diffio_conn_id={CONN_ID!r},
    )

with DAG({BUCKETS_DAG_ID!r}, schedule=None, catchup=False):
    DiffioRestoreOperator(
        task_id="restore",
        source="s3://aws_ireland@raw/interview.wav",
        path="s3://aws_ireland@restored/interview.mp3",
        diffio_conn_id={CONN_ID!r},
    )
"""


@dataclass
class Site:
    """Everything that a test looks at."""

    airflow: LocalAirflow
    sandbox: SandboxProcess
    user: Airflow2 | Airflow3
    folder: Path

    @property
    def address(self) -> dict[str, str]:
        """The sandbox's host and port, as they are filled into the form."""
        url, port = self.sandbox.connection["host"].rsplit(":", 1)
        return {"Base URL": url, "Port": port}

    def stored(self, conn_id: str) -> dict[str, Any]:
        """Return the fields of a connection as Airflow's database has them, decrypted."""
        configuration = configparser.RawConfigParser()
        configuration.read(self.airflow.home / "airflow.cfg")
        fernet = Fernet(configuration["core"]["fernet_key"])
        with contextlib.closing(open_database(self.airflow.database)) as database:
            query = "SELECT * FROM connection WHERE conn_id = ?"
            row = dict(database.execute(query, [conn_id]).fetchone())
        for name, encrypted in (("password", "is_encrypted"), ("extra", "is_extra_encrypted")):
            if row[encrypted]:
                row[name] = fernet.decrypt(row[name].encode()).decode()
        names = ("conn_type", "description", "host", "schema", "login", "password", "port")
        # What is left empty is stored as null by Airflow 3, and as an empty text by Airflow 2.
        return {name: row[name] or None for name in names} | {"extra": json.loads(row["extra"] or "{}")}

    def run(self, dag_id: str) -> str:
        """Start a DAG in the browser and wait until it has succeeded; the run's id."""
        self.airflow.wait_dag(dag_id)
        self.user.run(dag_id)
        run_id = self._latest_run(dag_id)
        assert self.airflow.wait_run(dag_id, run_id) == "success", self.airflow.logs_text()[-20_000:]
        return run_id

    def _latest_run(self, dag_id: str) -> str:
        with contextlib.closing(open_database(self.airflow.database)) as database:
            query = "SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC"
            return str(database.execute(query, [dag_id]).fetchone()["run_id"])


def answers(url: str) -> bool:
    """Return whether a web server is there."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/", timeout=10, proxies={"http": ""}).ok
    return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium.browser() as started:
        yield started


@pytest.fixture(autouse=True)
def last_picture(request: pytest.FixtureRequest, site: Site) -> Iterator[None]:
    """Leave a picture of what the browser showed at the end of each test."""
    yield
    site.user.photograph_page(request.node.name)


@pytest.fixture(scope="session")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    dags = folder / "dags"
    dags.mkdir()
    (dags / f"{DAG_ID}.py").write_text(DAG_FILE)
    env = {
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # So that what Airflow thinks deprecated is in its log.
        "PYTHONWARNINGS": "default",
    }
    components = ("api-server", "dag-processor", "scheduler") if AIRFLOW_3 else ("webserver", "scheduler")
    with (
        start_sandbox_process(processing_seconds=1) as sandbox,
        buckets(RECORDING) as connection,
        LocalAirflow(
            folder / "airflow",
            dags,
            env={**env, "AIRFLOW_CONN_AWS_IRELAND": json.dumps(connection)},
            components=components,
        ) as airflow,
    ):
        pictures = PICTURES / airflow.version
        pictures.mkdir(parents=True, exist_ok=True)
        page = browser.new_page(viewport=FORM, reduced_motion="reduce")
        page.set_default_timeout(chromium.PATIENCE_MS)
        user = (Airflow3 if airflow.is_airflow_3 else Airflow2)(page, airflow.url, pictures)
        # The web server of Airflow 2 gives no sign of life but its pages.
        wait_until(lambda: answers(airflow.url), 120, airflow.logs_text)
        user.log_in(airflow)
        yield Site(airflow, sandbox, user, folder)
