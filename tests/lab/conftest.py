"""One run of the laboratory for all of its tests, and its table at the end of pytest's report."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import pytest

from tests.lab import laboratory
from tests.lab.laboratory import Outcome
from tests.lab.points import Row

_TABLE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Mapping[Row, Outcome]:
    found = laboratory.run(tmp_path_factory.mktemp("laboratory"))
    pytestconfig.stash[_TABLE] = laboratory.table(found)
    return {outcome.row: outcome for outcome in found}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _TABLE in config.stash:
        terminalreporter.section(f"crash laboratory, Airflow {version('apache-airflow')}")
        terminalreporter.write_line(config.stash[_TABLE])
