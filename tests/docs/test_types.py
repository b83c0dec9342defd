"""The DAGs that README, documentation and examples show are clean under ``mypy --strict``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, pages
from tests.features import INSTALLED

pytestmark = pytest.mark.skipif(INSTALLED < (3, 3), reason="the types of older versions say little")

_DAG = re.compile(r"\bDAG\(|^@dag", re.MULTILINE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy-cache")


def check(folder: Path, cache: Path) -> str:
    """What a user's ``mypy --strict`` says of a folder of DAG files, without our settings."""
    options = ["--strict", "--config-file=", "--no-pretty", "--cache-dir", str(cache)]
    command = [sys.executable, "-m", "mypy", *options, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


def test_every_dag_shown_is_clean(tmp_path: Path, cache: Path) -> None:
    shutil.copytree(ROOT / "example_dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    for page in pages():
        for block in blocks(page):
            if block.kind == "python" and _DAG.search(block.text):
                name = re.sub(r"\W", "_", block.place)
                (tmp_path / f"{name}.py").write_text(block.text)
    shown = list(tmp_path.rglob("*.py"))
    assert any("README" in path.name for path in shown)
    assert len(shown) > 20
    assert check(tmp_path, cache) == f"Success: no issues found in {len(shown)} source files\n"


def test_a_wrong_argument_would_be_seen(tmp_path: Path, cache: Path) -> None:
    # The types are those of this package, and not Any of something that was not found.
    (tmp_path / "dag.py").write_text(
        "from airflow_provider_diffio.operators import DiffioRestoreOperator\n"
        'DiffioRestoreOperator(task_id="restore", source=20231023, path="a.mp3")\n'
    )
    assert 'dag.py:2: error: Argument "source" to "DiffioRestoreOperator"' in check(tmp_path, cache)
