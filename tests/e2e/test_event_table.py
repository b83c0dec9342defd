"""The table of events in the documentation is the one that was measured, and nothing in it was lost."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.event_table import KINDS, render, stored
from tests.features import TESTED

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_documentation_shows_the_table() -> None:
    assert render(stored()) in PAGE.read_text(), "python -m tests.e2e.event_table --show prints it"


def test_on_every_version_each_event_came_once() -> None:
    rows = stored()
    assert list(rows) == [each for each in TESTED if not each.startswith("2.")]
    for row in rows.values():
        assert {(kind["files"], kind["lost"], kind["doubled"]) for kind in row["kinds"].values()} == {
            (100, 0, 0)
        }
        assert set(row["kinds"]) == set(KINDS)
