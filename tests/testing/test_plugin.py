"""The pytest plugin, as a user's own project meets it: found by its entry point, in a pytest of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.subprocess_code import lines_printed_by

EXAMPLES = Path(__file__).parents[2] / "example_dags"

#: Ten lines, as a user would write them first.
TEN_LINES = """\
from airflow_provider_diffio.hooks import DiffioHook


def test_a_lost_response_costs_nothing(diffio_sandbox, tmp_path):
    (tmp_path / "talk.wav").write_bytes(b"RIFF of a recording")
    diffio_sandbox.add_fault("reset-after", path="*-generation")
    file = DiffioHook().restore_audio("talk.wav", "restored/")
    assert (tmp_path / "restored" / file.file_name).read_bytes() == b"RIFF of a recording"
    assert diffio_sandbox.ledger()["totals"]["generations"] == 1
"""
NOTHING_IS_LEFT = """

def test_nothing_is_left_of_the_first(diffio_sandbox):
    totals = diffio_sandbox.ledger()["totals"]
    assert (totals["projects"], totals["generations"]) == (0, 0)
    assert diffio_sandbox.faults() == []
    assert diffio_sandbox.requests() == []
"""
CONFTEST = """\
import os, tempfile
import pytest

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = os.path.join(os.path.dirname(__file__), "dags")
# Airflow 3.2 runs no DAG in this process without one.
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "not a secret, and long enough for a signature of 512 bits"


@pytest.fixture(scope="session", autouse=True)
def airflow_database():
    from airflow.utils.db import initdb

    initdb()
"""
RUNS_AN_EXAMPLE = """\
import sys

sys.path.insert(0, "dags")


def test_the_example_restores_its_recording(diffio_sandbox, tmp_path):
    from diffio_restore_one import dag

    run = dag.test()
    assert str(getattr(run.state, "value", run.state)) == "success"
    assert diffio_sandbox.ledger()["totals"]["generations"] == 1
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["noisy_speech_restored.mp3", "transcript.json"]
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run a pytest in a folder, with the plugins that are installed, and return what it printed."""
    ours = ("AIRFLOW", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", *arguments],
        cwd=folder,
        env={**environment, "AIRFLOW_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.stdout + ended.stderr


def test_pytest_finds_it_by_its_entry_point() -> None:
    (found,) = entry_points(group="pytest11", name="diffio")
    assert found.value == "airflow_provider_diffio.testing"


def test_loading_it_imports_nothing_but_pytest() -> None:
    code = """
import sys
import pytest
before = set(sys.modules)
import airflow_provider_diffio.testing
print(sorted(set(sys.modules) - before))
"""
    assert lines_printed_by(code)[-1] == "['airflow_provider_diffio', 'airflow_provider_diffio.testing']"


def test_a_users_test_of_ten_lines_passes_and_leaves_nothing(tmp_path: Path) -> None:
    assert len(TEN_LINES.splitlines()) <= 10
    (tmp_path / "test_restoring.py").write_text(TEN_LINES + NOTHING_IS_LEFT)
    printed = run_pytest(tmp_path)
    assert "2 passed" in printed, printed


def test_an_example_dag_runs_in_a_users_project(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_example.py").write_text(RUNS_AN_EXAMPLE)
    printed = run_pytest(tmp_path)
    assert "1 passed" in printed, printed


def test_what_it_is_started_with_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("""
import pytest

@pytest.fixture(scope="session")
def diffio_sandbox_settings():
    return {"engine": "passthrough", "api_key": "a-key-of-mine", "protocol": "signed-put"}

@pytest.fixture
def diffio_conn_id():
    return "diffio_prod"

@pytest.fixture
def diffio_connection_extra():
    return {"model": "diffio-3.5-studio"}
""")
    (tmp_path / "test_mine.py").write_text("""
from airflow_provider_diffio.hooks import DiffioHook

def test_mine(diffio_sandbox):
    config = DiffioHook("diffio_prod").config
    assert (config.settings.api_key, config.model) == ("a-key-of-mine", "diffio-3.5-studio")
    assert diffio_sandbox.settings.protocol == "signed-put"
""")
    printed = run_pytest(tmp_path)
    assert "1 passed" in printed, printed


def test_what_it_cannot_be_started_with_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("""
import pytest

@pytest.fixture(scope="session")
def diffio_sandbox_settings():
    return {"engine": "magic"}
""")
    (tmp_path / "test_mine.py").write_text("def test_mine(diffio_sandbox): pass\n")
    printed = run_pytest(tmp_path)
    assert "The Diffio sandbox cannot start: engine must be one of" in printed
    assert "Traceback" not in printed


def polls(sandbox: Sandbox) -> int:
    """How often a generation was polled. What is asked before one is started is about the key."""
    paths = [request["path"] for request in sandbox.requests()]
    return paths[paths.index("/v1/diffio-4.6-flash-generation") :].count("/v1/get_generation_progress")


@pytest.mark.parametrize("attempt", range(3))
def test_what_takes_no_time_is_over_at_the_first_poll(
    diffio_sandbox: Sandbox, tmp_path: Path, attempt: int
) -> None:
    from airflow_provider_diffio.hooks import DiffioHook

    (tmp_path / "talk.wav").write_bytes(b"RIFF" * 50)
    DiffioHook().restore_audio("talk.wav", "restored/")
    assert polls(diffio_sandbox) == 1


def test_a_failure_takes_no_time_either(diffio_sandbox: Sandbox, tmp_path: Path) -> None:
    from airflow_provider_diffio.api.errors import DiffioGenerationFailedError
    from airflow_provider_diffio.hooks import DiffioHook

    diffio_sandbox.add_fault("fail-generation", error="No speech.")
    (tmp_path / "talk.wav").write_bytes(b"RIFF" * 50)
    with pytest.raises(DiffioGenerationFailedError, match=r"No speech\."):
        DiffioHook().restore_audio("talk.wav", "restored/")
    assert polls(diffio_sandbox) == 1
