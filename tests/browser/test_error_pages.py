"""
What a person sees of an error in Airflow 3's UI: each part of it, without scrolling sideways.

The pictures in the documentation are those that these tests leave in ``.browser/``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.browser import chromium
from tests.browser.conftest import PICTURES, RECORDING, answers
from tests.browser.form import PAGE
from tests.e2e.events import wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.task_runner import AIRFLOW_3

if reason := chromium.missing():
    pytest.skip(reason, allow_module_level=True)
if not AIRFLOW_3:
    pytest.skip("about the pages of Airflow 3", allow_module_level=True)

ERRORS = {
    "wrong_key": {"diffio_conn_id": "diffio_wrong_key"},
    "missing_file": {"source": "/data/recordings/2026-11-30/interview with the mayor.wav"},
    "failed_generation": {},
    "timeout": {"timeout": 2},
}
DAG_FILE = f"""
from airflow.sdk import DAG

from airflow_provider_diffio.operators import DiffioRestoreOperator

for name, arguments in {ERRORS!r}.items():
    with DAG(name, schedule=None, catchup=False) as dag:
        DiffioRestoreOperator(
            **{{"task_id": "restore", "source": {str(RECORDING)!r}, "path": "interview.mp3", **arguments}}
        )
    globals()[name] = dag
"""
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "failed_generation": ("fail-generation", {"error": "Cannot decode.", "errorDetails": "header missing"}),
    "timeout": ("processing-seconds", {"seconds": 600}),
}
#: Right edges of the pieces of text that hold one of the labels.
EDGES = """label => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const edges = []
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (!node.data.includes(label)) continue
        const range = document.createRange()
        range.selectNodeContents(node)
        edges.push(...Array.from(range.getClientRects(), each => each.right))
    }
    return edges
}"""


@dataclass
class Site:
    airflow: LocalAirflow
    sandbox: SandboxProcess
    page: Any
    pictures: Path


@pytest.fixture(scope="module")
def errors_site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("errors")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "errors.py").write_text(DAG_FILE)
    with start_sandbox_process(processing_seconds=0.5, engine="passthrough") as sandbox:
        extra = {"output_path": str(folder / "restored")}
        wrong = {**sandbox.connection, "password": "diffio_live_a_key_that_was_revoked"}
        env = {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps({**sandbox.connection, "extra": extra}),
            "AIRFLOW_CONN_DIFFIO_WRONG_KEY": json.dumps({**wrong, "extra": extra}),
        }
        components = ("api-server", "dag-processor", "scheduler")
        with LocalAirflow(folder / "airflow", dags, env=env, components=components) as airflow:
            pictures = PICTURES / airflow.version
            pictures.mkdir(parents=True, exist_ok=True)
            page = browser.new_page(viewport=PAGE, reduced_motion="reduce")
            page.set_default_timeout(chromium.PATIENCE_MS)
            wait_until(lambda: answers(airflow.url), 120, airflow.logs_text)
            yield Site(airflow, sandbox, page, pictures)


@pytest.fixture(autouse=True)
def last_picture() -> None:
    """These tests take their own, of their own site."""


@pytest.mark.parametrize("name", ERRORS)
def test_each_part_of_an_error_is_in_sight(name: str, errors_site: Site) -> None:
    site = errors_site
    site.sandbox.clear()
    if name in FAULTS:
        kind, options = FAULTS[name]
        site.sandbox.add_fault(kind, nth="every", **options)
    site.airflow.wait_dag(name)
    run_id = f"{name}_run"
    site.airflow.trigger(name, run_id=run_id)
    assert site.airflow.wait_run(name, run_id) == "failed"
    site.page.goto(f"{site.airflow.url}/dags/{name}/runs/{quote(run_id)}/tasks/restore?try_number=1")
    site.page.get_by_text("Money: ").first.wait_for()
    for label in ("Where: ", "What to do: ", "Money: "):
        edges = site.page.evaluate(EDGES, label)
        assert edges, f"{label} is not there"
        assert max(edges) <= PAGE["width"], f"{label} is out of sight"
    site.page.get_by_text("Where: ").first.scroll_into_view_if_needed()
    site.page.screenshot(path=site.pictures / f"error-{name}.png", animations="disabled")
