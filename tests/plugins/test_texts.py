"""Whatever text comes from Diffio: Airflow stores it and shows it, on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.features import WEBHOOKS, needs
from tests.postgresql import MissingServiceError, PostgreSQL

pytestmark = needs(WEBHOOKS)

#: ``make texts`` tries 20,000.
COUNT = int(os.environ.get("DIFFIO_TEXTS", "200"))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_text_is_stored_and_shown(kind: str, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
    }
    with contextlib.ExitStack() as stack:
        if kind == "postgresql":
            pytest.importorskip("psycopg2")
            try:
                server = stack.enter_context(PostgreSQL(tmp_path))
            except MissingServiceError as error:
                pytest.skip(str(error))
            env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2{server.database_url}"
            env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] = f"postgresql+asyncpg{server.database_url}"
        command = [sys.executable, "-W", "ignore", "-m", "tests.plugins.text_flow", str(COUNT)]
        done = subprocess.run(
            command, env=env, text=True, capture_output=True, timeout=600 + COUNT, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout.strip().splitlines()[-1])
    counts = shown["counts"]
    assert shown["unsafe"] == {}
    assert shown["logged"] > 0
    assert counts.pop("webhook of a long text 413", 0) == COUNT // 100
    ways = {"webhook accepted": COUNT, "watcher": COUNT, "error": COUNT, "xcom": COUNT}
    in_the_api = {"shown msg": COUNT, "shown watcher": COUNT, "shown err": COUNT, "shown xcom": COUNT}
    assert counts == {**ways, **in_the_api}
