"""The table of stores in the documentation is the one that ``make stores`` tests."""

from __future__ import annotations

from pathlib import Path

from tests.stores.table import STORES, TABLE, render

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def test_the_documentation_shows_the_table() -> None:
    assert render() in PAGE.read_text(), "python -m tests.stores.table prints it"


def test_no_cell_is_empty() -> None:
    assert all(set(cells) == set(STORES) and all(cells.values()) for cells in TABLE.values())
