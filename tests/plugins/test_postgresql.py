"""Several API server processes on PostgreSQL: every event once, none refused, and no deadlock."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.features import RUN_PER_EVENT, WEBHOOKS, needs
from tests.postgresql import MissingServiceError, PostgreSQL

pytestmark = [
    needs(WEBHOOKS),
    pytest.mark.skipif(importlib.util.find_spec("psycopg2") is None, reason="psycopg2 is not installed"),
]

DELIVERIES = 200


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[PostgreSQL]:
    try:
        server = PostgreSQL(tmp_path)
    except MissingServiceError as error:
        pytest.skip(str(error))
    with server:
        yield server


def test_four_processes_store_each_event_once_without_a_deadlock(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2{postgresql.database_url}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg{postgresql.database_url}",
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.plugins.api_server_processes", str(DELIVERIES)]
    done = subprocess.run(
        [*command, "4", "4", "2", "2"], env=env, text=True, capture_output=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout.strip().splitlines()[-1])
    outcomes = shown["outcomes"]
    assert {name for each in outcomes for name in each} <= {"accepted", "duplicate"}, outcomes
    assert sum(each.get("accepted", 0) for each in outcomes) == DELIVERIES
    assert shown["ids"] == sorted(f"msg_{number}" for number in range(DELIVERIES))
    assert shown["unsafe"] == []
    if not RUN_PER_EVENT.here:
        # No run has an event that an earlier run of its DAG had.
        doubled = {
            dag_id: [each for each, count in Counter(ids).items() if count > 1]
            for dag_id, ids in shown["taken"].items()
        }
        assert doubled == {dag_id: [] for dag_id in shown["taken"]}
        assert all(shown["taken"].values())
    assert shown["in_order"]
    log = postgresql.log.read_text()
    assert "deadlock detected" not in log
    assert "ERROR" not in log
