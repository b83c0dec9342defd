"""How the tests are shared out among processes (pytest-xdist), so that they disturb each other least.

What starts a real Airflow keeps two cores busy, so the tests of all files that do are one lane: they follow
one another in one process. Every other test is dealt out by itself, to whichever process is free.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]


class XdistScheduler(LoadScopeScheduling):
    """Deals tests out. The longest lane is begun first."""

    def _split_scope(self, nodeid: str) -> str:
        return "airflow" if starts_airflow(nodeid.partition("::")[0]) else nodeid


@cache
def starts_airflow(file: str) -> bool:
    """Whether tests of a file have the marker ``e2e``. The process that deals them out knows only names."""
    return "pytest.mark.e2e" in (ROOT / file).read_text()
