"""What all tests share: an Airflow home of their process, made before anything imports Airflow."""

from __future__ import annotations

import atexit
import gc
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: A sandbox, a connection to it, and a runner of tasks, for the tests of every room.
pytest_plugins = ["tests.fixtures"]

_HOME = tempfile.mkdtemp(prefix="diffio-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = f"{_HOME}/dags"
# Airflow 3.2 runs no DAG in this process without one.
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = secrets.token_hex(32)
# Its listener would follow every task; the tests of lineage switch it on for themselves.
os.environ["AIRFLOW__OPENLINEAGE__DISABLED"] = "True"

_FIGURES = "figures"
#: Where the versions of Airflow have the list of what must not be logged.
_MASKERS = (
    "airflow.utils.log.secrets_masker",
    "airflow.sdk.execution_time.secrets_masker",
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow._shared.secrets_masker.secrets_masker",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let :mod:`tests.xdist_scheduler` deal out the tests, where several processes run them."""
    from tests.xdist_scheduler import XdistScheduler

    return XdistScheduler(config, log)


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's rounds, which it makes slow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def secrets_of_this_test_alone() -> Iterator[None]:
    """Forget the secrets that a test had masked: a task has a process of its own.

    Airflow makes one regular expression of all, anew with each; thousands of tests' would take it minutes.
    """
    yield
    for module in _MASKERS:
        if module in sys.modules:
            masker = sys.modules[module]._secrets_masker()
            masker.patterns, masker.replacer = set(), None


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """Return what shows a text at the end of pytest's report, under a title, from whichever process."""

    def add(title: str, text: str) -> None:
        record_property(_FIGURES, (title, text))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests wanted shown."""
    found: dict[str, list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _FIGURES:
                    title, text = value
                    found.setdefault(title, []).append(text)
    for title, texts in found.items():
        terminalreporter.section(title)
        terminalreporter.write_line("\n".join(dict.fromkeys(texts)))
