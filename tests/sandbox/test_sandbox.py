"""Starting, looking inside, stopping."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import requests

from airflow_provider_diffio.sandbox import RemoteSandbox, Sandbox, Settings, start_sandbox_process
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
        "billedCents": 1,
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


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", MODULE, "--engine", "passthrough", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("option", ["--port", "--media-port"])
def test_a_taken_port_is_told_in_a_sentence(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("--port", "0", option, port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"The sandbox cannot listen: port {port} is in use, perhaps by another sandbox; "
        f"choose another with {option}\n"
    )


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("203.0.113.7", "203.0.113.7 is no address of this machine; choose another with --host"),
        ("no-such-host.invalid", "the host no-such-host.invalid is not known; choose another with --host"),
    ],
)
def test_a_host_that_is_not_here_is_told_in_a_sentence(host: str, sentence: str) -> None:
    done = command("--host", host, "--allow-remote", "--port", "0")
    assert (done.returncode, done.stderr) == (1, f"The sandbox cannot listen: {sentence}\n")


def test_the_command_logs_each_request_and_no_secret() -> None:
    arguments = [sys.executable, "-m", MODULE, "--port", "0", "--engine", "passthrough"]
    arguments += ["--processing-seconds", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        connection = json.loads(shlex.split(process.stdout.readline())[1].split("=", 1)[1])
        sandbox = RemoteSandbox(connection["host"], "", connection["password"], "")
        wire = Wire(sandbox)
        url = wire.download(wire.restored(b"12345")).body["downloadUrl"]
        wire.http.get(url)
        wire.http.get(f"{sandbox.api_url}/v1/{sandbox.api_key}%0Afake line")
        sandbox.add_fault("reset-after", path="/v1/list_projects")
        with pytest.raises(requests.ConnectionError):
            wire.post("list_projects")
        sandbox.ledger()
        process.terminate()
        _, log = process.communicate(timeout=20)
    lines = log.splitlines()
    pattern = re.compile(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) (\S+) (\d+|no response) "
        r"\d+ ms(, \d+ bytes in)?, \d+ bytes out(, fault [a-z-]+)?"
    )
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found), lines
    seen = [match.group(1, 2, 3) for match in found if match is not None]
    assert ("POST", "/v1/create_project", "200") in seen
    assert ("PUT", "/v1/uploads/parts/1", "200") in seen
    assert next(it for it in seen if it[0] == "GET")[1].startswith("/m/*/generations/")
    assert ("GET", "*", "404") in seen
    assert lines[-1].endswith("fault reset-after")
    assert seen[-1] == ("POST", "/v1/list_projects", "no response")
    assert any(", 5 bytes in" in line for line in lines)
    for secret in (sandbox.api_key, url.split("/m/")[1].split("/")[0]):
        assert secret not in log


def test_a_quiet_command_logs_nothing() -> None:
    arguments = [sys.executable, "-m", MODULE, "--port", "0", "--engine", "passthrough", "--quiet"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        connection = json.loads(shlex.split(process.stdout.readline())[1].split("=", 1)[1])
        Wire(RemoteSandbox(connection["host"], "", connection["password"], "")).project()
        process.terminate()
        assert process.communicate(timeout=20)[1] == ""


def test_an_entry_is_completed_when_the_response_is_sent(wire: Wire) -> None:
    wire.project()
    deadline = time.monotonic() + 5
    while (entry := wire.sandbox.requests()[-1])["milliseconds"] is None:
        assert time.monotonic() < deadline
    assert entry["bytesIn"] == len(json.dumps({"fileName": "talk.wav"}))
    assert entry["bytesOut"] > 300


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
        {"public_url": "sandbox:8788"},
        {"public_url": "http://sandbox:8788/path"},
        {"public_url": "http://user@sandbox:8788"},
        {"public_url": "http://sandbox:99999"},
        {"public_media_url": "ftp://sandbox"},
        {"control_token": ""},
        {"control_token": "two\nlines"},
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
    assert f"{connection['host']}/\n" in rest


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


def test_without_its_extra_the_command_says_so_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'noisereduce' else found(name, *rest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "The sandbox cannot start: the denoise engine needs noisereduce: "
        'pip install "airflow-provider-diffio[sandbox]"\n'
    )


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "airflow_provider_diffio.sandbox.settings.find_spec", lambda name: name != "av" or None
    )
    with pytest.raises(ValueError, match=r"needs av: pip install .*\[sandbox\]"):
        Settings()
