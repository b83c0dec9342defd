"""``restore``: recordings from the shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.cli import main
from airflow_provider_diffio.sandbox import Sandbox


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("a.wav", "b.wav"):
        (here / name).write_bytes(f"RIFF of {name}".encode())
    monkeypatch.chdir(here)
    return here


def paths(sandbox: Sandbox) -> str:
    return " ".join(it["path"] for it in sandbox.requests())


def test_files_come_out_beside_it(folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["restore", "a.wav", str(folder / "b.wav"), "--jobs", "2"])
    assert (folder / "a_restored.mp3").read_bytes() == b"RIFF of a.wav"
    assert (folder / "b_restored.mp3").read_bytes() == b"RIFF of b.wav"
    printed = capsys.readouterr().out
    assert f"a.wav -> {folder}/a_restored.mp3 (13 bytes, generation " in printed
    assert sandbox.ledger()["totals"]["generations"] == 2


def test_one_failure_does_not_stop_the_others_and_is_the_exit_code(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["restore", "gone.wav", "a.wav", "-o", "out", "--jobs", "1"])
    assert end.value.code == 1
    assert (folder / "out" / "a_restored.mp3").exists()
    assert "gone.wav" in capsys.readouterr().out
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_what_diffio_says_is_shown(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.add_fault("fail-generation", error="Too noisy [/red].")
    with pytest.raises(SystemExit):
        main.main(["restore", "a.wav"])
    assert "Too noisy [/red]." in capsys.readouterr().out.replace("\n", " ")


def test_a_file_is_not_replaced_unless_asked(folder: Path, sandbox: Sandbox) -> None:
    main.main(["restore", "a.wav", "--download-type", "transcript"])
    (folder / "word_timestamps.json").write_text("mine")
    with pytest.raises(SystemExit):
        main.main(["restore", "a.wav", "--download-type", "transcript"])
    assert (folder / "word_timestamps.json").read_text() == "mine"
    main.main(["restore", "a.wav", "--download-type", "transcript", "--overwrite"])
    assert (folder / "word_timestamps.json").read_text() != "mine"


def test_jobs_must_make_sense(folder: Path, sandbox: Sandbox) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["restore", "a.wav", "--jobs", "0"])
    assert end.value.code == 2
    assert sandbox.requests() == []


def test_an_interrupt_ends_it_and_says_what_goes_on(folder: Path, sandbox: Sandbox) -> None:
    sandbox.add_fault("processing-seconds", seconds=60, nth="every")
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_diffio", "restore", "a.wav"],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 150
    # Before the start, the key is asked about a generation that does not exist.
    while not re.search(r"-generation .*get_generation_progress", paths(sandbox)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 130, printed
    (generation,) = sandbox.ledger()["generations"]
    assert "goes on and is billed once" in printed
    assert f"a.wav: generation {generation['generationId']}" in printed
