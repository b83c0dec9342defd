"""The stores, each started once. Without their libraries, which ``make stores`` has, no test is collected."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterator

import pytest

from airflow_provider_diffio.storage import Location, resolve
from tests.stores.servers import SERVERS, Server
from tests.stores.table import TABLE, Cells, render

HAS_LIBRARIES = all(importlib.util.find_spec(name) for name in ("adlfs", "gcsfs", "s3fs", "sshfs"))
collect_ignore_glob = [] if HAS_LIBRARIES else ["test_*.py"]


_CELL = "cell"


@pytest.fixture(autouse=True)
def holds_cells(request: pytest.FixtureRequest) -> None:
    """Note which cells of the table a test holds: those of its marker ``row``, for the store that it has."""
    rows = [name for mark in request.node.iter_markers("row") for name in mark.args]
    if "kind" in request.fixturenames:
        stores = [request.getfixturevalue("kind")]
    else:
        stores = [store for mark in request.node.iter_markers("row") for store in mark.kwargs["stores"]]
    for row in rows:
        assert row in TABLE
        request.node.user_properties += [(_CELL, (row, store)) for store in stores]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "row(*names, stores): the rows of the table that a test holds")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, with what was seen in this run alone."""
    outcomes: Cells = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == _CELL and (outcome != "passed" or report.when == "call"):
                    outcomes.setdefault(tuple(value), set()).add(outcome)
    if outcomes:
        terminalreporter.section("what each store does, as these tests saw it")
        terminalreporter.write_line(render(outcomes))


@pytest.fixture(scope="session", params=list(SERVERS))
def kind(request: pytest.FixtureRequest) -> str:
    """The key of a store in the table."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A store of every kind, one after the other."""
    # Google's library asks buckets for their kind over a protocol that the emulator does not speak.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    with SERVERS[kind](tmp_path_factory.mktemp(kind)) as running:
        os.environ.update(running.environment)
        yield running
        for name in running.environment:
            del os.environ[name]


@pytest.fixture
def root(server: Server) -> Location:
    """A directory in the store, of the test's own."""
    return locate(server, f"{uuid.uuid4().hex}/")


def locate(server: Server, path: str) -> Location:
    """Return a place below the server's root."""
    return resolve(f"{server.root}{path}", conn_id=server.conn_id if server.connection else None)


@pytest.fixture
def cell(kind: str) -> dict[str, str]:
    """What the table says of the store, by row."""
    return {row: cells[kind] for row, cells in TABLE.items()}
