"""The example DAGs import without a connection, and hold what the docs say."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

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
    assert dag.get_task("restore").max_active_tis_per_dagrun == 4


def test_nightly_cleanup_takes_nothing_deeper_for_done(bag: Any, tmp_path: Path) -> None:
    source, restored = tmp_path / "recordings", tmp_path / "restored"
    for path in (
        source / "a.wav",
        source / "b.wav",
        restored / "tutorial" / "a.wav.mp3",
        restored / "b.wav.mp3",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    listing = bag.dags["diffio_nightly_cleanup"].get_task("list_new").python_callable
    found = listing({"source_dir": str(source), "output_dir": str(restored), "limit": 9})
    assert [job["source"] for job in found] == [f"{source}/a.wav"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_they_are_short_and_explain_themselves(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(path.read_text().splitlines()) < 100
