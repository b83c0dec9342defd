"""Starting, looking inside, stopping."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from airflow_provider_diffio.sandbox import Sandbox, Settings, start_sandbox_process
from airflow_provider_diffio.sandbox import __all__ as exported
from airflow_provider_diffio.sandbox.settings import DEFAULT_API_KEY
from tests.sandbox.wire import Wire

MODULE = "airflow_provider_diffio.sandbox"


def test_importing_it_is_cheap() -> None:
    heavy = ("aiohttp", "airflow", "av", "noisereduce", "numpy", "requests", "soundfile", "svix")
    code = f"import sys, {MODULE}; sys.exit(', '.join(set({heavy}) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_shares_nothing_with_the_client() -> None:
    code = (
        f"import sys, {MODULE}.server, {MODULE}.__main__\n"
        "others = [name for name in sys.modules if name.startswith('airflow')\n"
        f"          and not name.startswith('{MODULE}') and name != 'airflow_provider_diffio']\n"
        "sys.exit(', '.join(others) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_exported_exists() -> None:
    module = __import__(MODULE, fromlist=exported)
    assert all(hasattr(module, name) for name in exported)
    assert exported == sorted(exported)


def test_the_ledger_names_everything_that_costs(wire: Wire) -> None:
    wire.project(fileName="orphan.wav")
    generation_id = wire.generation(wire.uploaded(), idempotencyKey="once")
    wire.finished(generation_id)
    ledger = wire.sandbox.ledger()
    (entry,) = ledger["generations"]
    assert entry.pop("createdAt").endswith("Z")
    assert entry == {
        "generationId": generation_id,
        "apiProjectId": wire.progress(generation_id)["apiProjectId"],
        "model": "diffio-4.6-flash",
        "idempotencyKey": "once",
        "billedSeconds": 60,
        "status": "complete",
    }
    assert [project["status"] for project in ledger["projects"]] == ["uploading", "complete"]
    assert ledger["totals"] == {
        "generations": 1,
        "billedSeconds": 60,
        "projects": 2,
        "projectsWithoutUpload": 1,
        "openUploads": 0,
    }


def test_requests_are_written_down_without_their_secrets(wire: Wire) -> None:
    url = wire.download(wire.restored()).body["downloadUrl"]
    wire.http.get(url, headers={"X-Api-Key": wire.sandbox.api_key})
    wire.http.get(url, headers={"Authorization": "Bearer something"})
    requests = wire.sandbox.requests()
    text = json.dumps(requests)
    assert "Bearer" not in text
    assert wire.sandbox.api_key not in text
    assert url.split("/m/")[1].split("/")[0] not in text
    first, start = requests[0], next(it for it in requests if it["path"] == "/v1/uploads/start")
    assert (first["origin"], first["method"], first["path"]) == ("api", "POST", "/v1/create_project")
    assert (first["authorization"], first["status"]) == ("api-key", 200)
    assert (start["origin"], start["authorization"]) == ("media", "upload-token")
    leak, unknown = requests[-2:]
    assert (leak["authorization"], leak["apiKeySeen"]) == ("none", True)
    assert (unknown["authorization"], unknown["apiKeySeen"]) == ("unknown", False)
    assert "Authorization" in unknown["headers"]
    assert not any(it["apiKeySeen"] for it in requests[:-2] if it["origin"] == "media")


def test_a_connection_can_be_used_as_it_is(wire: Wire) -> None:
    assert wire.sandbox.connection == {
        "conn_type": "diffio",
        "host": wire.sandbox.api_url,
        "password": DEFAULT_API_KEY,
    }


def test_its_files_are_gone_when_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Sandbox(engine="passthrough", processing_seconds=0.0) as sandbox:
        Wire(sandbox).restored()
        assert list(tmp_path.glob("diffio-sandbox-*/projects/*/original"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(sandbox.api_url, timeout=1)


def test_a_folder_of_the_callers_is_kept(tmp_path: Path) -> None:
    with Sandbox(engine="passthrough", processing_seconds=0.0, data_dir=tmp_path) as sandbox:
        Wire(sandbox).restored(b"kept")
    assert b"kept" in {path.read_bytes() for path in tmp_path.rglob("restored.mp3")}


def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=taken.getsockname()[1]).start()


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},  # noqa: S104 - refused
        {"host": "example.org"},
        {"protocol": "ftp"},
        {"engine": "magic"},
        {"port": 9000, "media_port": 9000},
        {"part_size": 0},
        {"api_key": ""},
        {"webhook_secret": "secret"},
    ],
)
def test_settings_have_to_make_sense(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Settings(**settings)  # type: ignore[arg-type]


def test_other_machines_are_let_in_only_on_purpose() -> None:
    assert Settings(host="0.0.0.0", allow_remote=True)  # noqa: S104 - on purpose
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--host", "0.0.0.0"],  # noqa: S104 - refused
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "can be reached from other machines" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_connect_and_ends_when_asked(number: signal.Signals) -> None:
    command = [sys.executable, "-m", MODULE, "--port", "0", "--engine", "passthrough"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        os.kill(process.pid, number)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 0
    name, value = shlex.split(line)[1].split("=", 1)
    assert name == "AIRFLOW_CONN_DIFFIO_DEFAULT"
    connection = json.loads(value)
    assert connection["conn_type"] == "diffio"
    assert f"{connection['host']}/sandbox/ledger" in rest


def test_a_process_of_its_own_works_the_same() -> None:
    with start_sandbox_process(engine="passthrough", processing_seconds=0.1, part_size=3) as sandbox:
        wire = Wire(sandbox)
        generation_id = wire.restored(b"0123456789")
        assert sandbox.result_bytes(generation_id) == b"0123456789"
        assert sandbox.ledger()["totals"]["generations"] == 1
        assert sandbox.pid == sandbox.process.pid
    assert sandbox.process.returncode == 0


def test_a_process_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="ended with status 2"):
        start_sandbox_process(engine="magic")


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "airflow_provider_diffio.sandbox.settings.find_spec", lambda name: name != "av" or None
    )
    with pytest.raises(ValueError, match=r"needs av: pip install .*\[sandbox\]"):
        Settings()
