"""A real kill at every named point: one billed generation, a whole file, and nothing left beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

import pytest

from tests.crash.crash_tests import ROOT, Outcome, table
from tests.crash.points import ROWS, Row, promised_table


@pytest.mark.e2e
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_kill_is_paid_once_and_leaves_a_whole_file(
    row: Row, outcomes: Mapping[Row, Outcome], show: Callable[[str, str], None]
) -> None:
    show(f"crash laboratory, Airflow {version('apache-airflow')}", table(list(outcomes.values())))
    assert outcomes[row].problems() == []


def test_the_documentation_promises_what_is_tested() -> None:
    assert promised_table() in (ROOT / "docs" / "reliability.md").read_text()
