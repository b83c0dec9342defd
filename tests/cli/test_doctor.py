"""``doctor`` names cause and fix of every seeded misconfiguration, quickly, and never a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.cli import doctor, main
from airflow_provider_diffio.cli.findings import Finding, as_text, without_secrets
from airflow_provider_diffio.sandbox import Sandbox
from tests.cli.seeds import KEY, SEEDS, WEBHOOK_SECRET, Place, Seed

#: What must not be shown, wherever it stood.
SECRETS = (KEY, WEBHOOK_SECRET, "hidden-word")
WORKS = Seed("what works", lambda _: {}, "", "", "")


@pytest.fixture(scope="module", autouse=True)
def airflow_database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def place(sandbox: Sandbox, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as servers:
        yield Place(sandbox, tmp_path, servers)


def connect(monkeypatch: pytest.MonkeyPatch, place: Place, seed: Seed) -> None:
    """Set a connection that works but for what the seed makes of it."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    fields = {**place.sandbox.connection, **seed.fields(place)}
    if seed.conn_id != "diffio_prod":
        variable = f"AIRFLOW_CONN_{seed.conn_id.upper()}"
        monkeypatch.setenv(variable, fields.get("_raw") or json.dumps(fields))
    for name, value in seed.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_it_names_cause_and_fix_of(
    seed: Seed, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect(monkeypatch, place, seed)
    began = time.monotonic()
    code: Any = 0
    try:
        main.main(["doctor", seed.conn_id, "--json"])
    except SystemExit as end:
        code = end.code
    took = time.monotonic() - began
    printed = capsys.readouterr().out
    found = [Finding(**finding) for finding in json.loads(printed)["findings"]]
    fitting = [it for it in found if it.area == seed.area and seed.cause in it.cause and seed.fix in it.fix]
    assert fitting, as_text(seed.conn_id, found)
    assert {it.level for it in fitting} == {seed.level}
    assert all(it.fix for it in found if it.level == "problem")
    assert code == (1 if seed.level == "problem" else 0)
    assert took < 5
    assert [secret for secret in SECRETS if secret in printed] == []


def test_there_are_twenty_of_them() -> None:
    assert len(SEEDS) >= 20


def test_what_works_has_no_problem(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect(
        monkeypatch, place, Seed("", lambda place: {"extra": {"output_path": str(place.folder)}}, "", "", "")
    )
    main.main(["doctor"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "No problem found." in printed
    assert "Diffio accepts the API key." in printed
    assert "The key may upload recordings, start generations, wait for generations, download" in printed
    assert f"{place.folder}/ can be written" in printed
    assert place.sandbox.api_key not in printed
    # It costs nothing and leaves nothing.
    totals = place.sandbox.ledger()["totals"]
    assert (totals["projects"], totals["generations"]) == (0, 0)
    assert list(place.folder.iterdir()) == []


def test_the_key_is_not_sent_before_the_host_is_known(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, place, WORKS)
    doctor.examine("diffio_default")
    first = place.sandbox.requests()[0]
    assert first["method"] == "GET"
    assert "Authorization" not in json.dumps(first)


def test_a_refusal_that_names_no_permission_is_not_taken_for_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, place, WORKS)
    place.sandbox.add_fault(
        "body",
        path="/v1/get_generation_download",
        status=403,
        body='{"error": "Generation belongs to another API key."}',
    )
    levels = {it.level for it in doctor.examine("diffio_default") if it.area == "scopes"}
    assert levels == {"unknown", "ok"}


def test_what_hangs_is_left_behind_and_said(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    connect(monkeypatch, place, WORKS)
    monkeypatch.setattr(doctor, "BUDGET", 0.3)
    monkeypatch.setattr(doctor, "check_stores", lambda *_: iter(threading.Event().wait, None))
    began = time.monotonic()
    found = doctor.examine("diffio_default")
    assert time.monotonic() - began < 2
    (hung,) = [it for it in found if it.area == "stores"]
    assert (hung.level, "took longer" in hung.cause) == ("problem", True)


def test_text_is_wrapped_with_the_fix_below_the_cause() -> None:
    text = as_text("c", [Finding("host", "problem", "word " * 40, "Do this.")])
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"^ +fix: Do this\.$", text, re.MULTILINE)
    assert text.endswith("Problems found: 1.")


def test_no_secret_stands_in_a_finding() -> None:
    (clean,) = without_secrets([Finding("a", "problem", "x hidden y", "hidden")], ["hidden", ""])
    assert (clean.cause, clean.fix) == ("x *** y", "***")


@pytest.mark.parametrize("word", ["doctor", "restore"])
def test_python_m_has_help_for_each_command(word: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "airflow_provider_diffio", word, "--help"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"usage: python -m airflow_provider_diffio {word}" in run.stdout


def test_a_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["heal"])
    assert end.value.code == 2
