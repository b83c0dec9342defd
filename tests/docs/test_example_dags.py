"""The example DAGs import without a connection, and hold what the docs say."""

from __future__ import annotations

import ast
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.manifest import read_manifest
from airflow_provider_diffio.sandbox import Sandbox
from tests.docs.workshop import hurry, keep_api, load

EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.fixture(scope="module")
def bag() -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag

    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        del os.environ[name]
    return DagBag(dag_folder=str(EXAMPLES))


def test_they_import_without_connections(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {path.stem for path in EXAMPLES.glob("*.py")}


def test_restore_one_is_the_four_steps(bag: Any) -> None:
    dag = bag.dags["diffio_restore_one"]
    assert set(dag.task_ids) == {"upload", "restore", "wait", "save", "save_transcript"}
    assert dag.get_task("wait").upstream_task_ids == {"restore"}


def test_nightly_cleanup_is_bounded(bag: Any) -> None:
    dag = bag.dags["diffio_nightly_cleanup"]
    assert dag.max_active_runs == 1
    assert set(dag.task_ids) == {"restore", "summarize"}
    assert dag.get_task("restore").max_generations == "{{ params.limit }}"
    assert dag.get_task("summarize").is_teardown


class Nights:
    """The nightly example on a directory of this test's, against the sandbox."""

    def __init__(self, folder: Path, dag: Any) -> None:
        self.raw, self.restored = folder / "raw", folder / "restored"
        self.raw.mkdir()
        self._dag = dag
        self._written = 0

    def arrive(self, name: str) -> None:
        """Write a recording of an hour ago that is unlike any other."""
        self._written += 1
        (self.raw / name).write_bytes(b"RIFF" + bytes([self._written]) * 2000)
        past = time.time() - 3600
        os.utime(self.raw / name, (past, past))

    def run(self, limit: int = 100) -> tuple[str, dict[str, int], dict[str, str]]:
        """Return the state of a night's run, its summary without zeros, and the manifest's statuses."""
        conf = {"source_dir": str(self.raw), "output_dir": str(self.restored), "limit": limit}
        run = self._dag.test(run_conf=conf)
        tasks = {ti.task_id: ti for ti in run.get_task_instances()}
        value = tasks["restore"].xcom_pull(task_ids="restore", key="return_value")
        summary = tasks["summarize"].xcom_pull(task_ids="summarize", key="return_value")
        assert str(getattr(tasks["summarize"].state, "value", tasks["summarize"].state)) == "success"
        rows = {Path(row["source"]).name: row["status"] for row in read_manifest(value)}
        state = str(getattr(run.state, "value", run.state))
        return state, {name: count for name, count in summary.items() if count and name != "bytes"}, rows


@pytest.fixture
def nights(
    airflow_database: None, diffio: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Nights]:
    hurry(monkeypatch)
    keep_api(monkeypatch)
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(diffio.connection))
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "not a secret, and long enough " * 3)
    diffio.clear()
    dags = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    dags.mkdir(parents=True, exist_ok=True)
    # Airflow 3 runs nothing from elsewhere.
    (dag,) = load(Path(shutil.copy(EXAMPLES / "diffio_nightly_cleanup.py", dags)))
    dag.get_task("restore").transfers = 1  # in the order of their ages
    yield Nights(tmp_path, dag)
    shutil.rmtree(dags)
    diffio.clear()


def test_nightly_cleanup_pays_for_nothing_twice_over_three_nights(nights: Nights, diffio: Sandbox) -> None:
    for name in ("a.wav", "b.wav", "bad.wav"):
        nights.arrive(name)
    diffio.add_fault("fail-generation", error="no voice", nth=3)
    state, summary, rows = nights.run()
    assert (state, summary) == ("failed", {"restored": 2, "failed": 1})
    assert rows["bad.wav"] == "failed"
    assert len(diffio.ledger()["generations"]) == 3

    nights.arrive("c.wav")
    nights.arrive("a.wav")  # changed
    diffio.add_fault("fail-generation", error="no voice", nth=1)  # the oldest one's second generation
    state, summary, rows = nights.run()
    assert (state, summary) == ("failed", {"restored": 2, "failed": 1})
    assert rows == {"a.wav": "restored", "b.wav": "kept", "c.wav": "restored", "bad.wav": "failed"}
    assert len(diffio.ledger()["generations"]) == 6

    state, summary, rows = nights.run()
    assert (state, summary) == ("success", {"given_up": 1})
    assert rows == {"a.wav": "kept", "b.wav": "kept", "c.wav": "kept", "bad.wav": "given_up"}
    assert len(diffio.ledger()["generations"]) == 6
    assert (nights.restored / "a.wav.mp3").read_bytes() == (nights.raw / "a.wav").read_bytes()


def test_nightly_cleanup_leaves_what_is_above_its_limit(nights: Nights, diffio: Sandbox) -> None:
    for name in ("a.wav", "b.wav"):
        nights.arrive(name)
    assert nights.run(limit=1)[:2] == ("success", {"restored": 1, "left": 1})
    assert len(diffio.ledger()["generations"]) == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_they_are_short_and_explain_themselves(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(path.read_text().splitlines()) < 100
