"""``ledger``: what is recorded is shown, verified, forgotten, pruned and exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.cli import main
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox


@pytest.fixture
def ledger(connection: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger that the connection names."""
    place = tmp_path / "ledger"
    extra = {**connection["extra"], "ledger_path": f"{place}/"}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "extra": extra}))
    return place


@pytest.fixture
def restored(ledger: Path, recording: Path, output: Path) -> Path:
    """A restored file that the ledger tells of."""
    DiffioHook().restore_audio(recording, output / "talk.mp3", poll_interval=0.1)
    return output / "talk.mp3"


def code_of(*words: str) -> Any:
    try:
        main.main(["ledger", *words])
    except SystemExit as end:
        return end.code
    return 0


def test_it_is_shown(
    restored: Path, recording: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (generation,) = sandbox.ledger()["generations"]
    assert code_of("show") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("done ")
    assert generation["generationId"] in printed
    assert recording.name in printed
    assert "Records: 1." in printed
    assert code_of("show", generation["generationId"]) == 0
    assert f"file {restored}" in capsys.readouterr().out
    assert code_of("show", "--state", "failed") == 0
    assert "Records: 0." in capsys.readouterr().out


def test_what_nobody_knows_is_said(restored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("show", "no-such-generation") == 1
    assert "No record names 'no-such-generation'" in capsys.readouterr().err


def test_files_are_verified(restored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("verify", "--digests") == 0
    assert "Files: 1 ok." in capsys.readouterr().out
    content = bytearray(restored.read_bytes())
    content[0] ^= 1
    restored.write_bytes(content)
    assert code_of("verify") == 0
    assert code_of("verify", "--digests") == 1
    restored.unlink()
    assert code_of("verify") == 1
    assert f"missing {restored}" in capsys.readouterr().out


def test_nothing_is_forgotten_without_a_yes(
    restored: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert code_of("forget", str(restored)) == 1
    assert code_of("prune", "--days", "0") == 1
    assert code_of("prune", "--days", "0", "--dry-run") == 0
    assert "Records to forget: 1." in capsys.readouterr().out
    assert code_of("show") == 0
    assert "Records: 1." in capsys.readouterr().out


def test_what_is_forgotten_is_restored_again(restored: Path, recording: Path, sandbox: Sandbox) -> None:
    DiffioHook().restore_audio(recording, restored, poll_interval=0.1)
    assert sandbox.ledger()["totals"]["generations"] == 1
    assert code_of("forget", str(restored), "--yes") == 0
    DiffioHook().restore_audio(recording, restored, poll_interval=0.1)
    assert sandbox.ledger()["totals"]["generations"] == 2


def test_old_records_are_pruned(restored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("prune", "--days", "7", "--yes") == 0
    assert "Records to forget: 0." in capsys.readouterr().out
    assert code_of("prune", "--days", "0", "--yes") == 0
    assert "Forgot 1." in capsys.readouterr().out
    assert code_of("prune", "--days", "-1") == 1


def test_it_is_exported(restored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("export", "-o", str(tmp_path / "ledger.csv")) == 0
    assert "Wrote 1 rows" in capsys.readouterr().out
    with (tmp_path / "ledger.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["state"], row["file"]) == ("done", str(restored))
    assert code_of("export") == 0
    assert capsys.readouterr().out.startswith("state,source,")


def test_no_ledger_is_begun_by_looking(
    connection: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("show") == 1
    assert "has no ledger_path" in capsys.readouterr().err
    assert code_of("show", "--ledger", f"{tmp_path}/typo/") == 1
    assert "There is no ledger at" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
