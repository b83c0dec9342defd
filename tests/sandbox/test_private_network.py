"""A sandbox and a provider on two machines: two network namespaces with one cable between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER, CLIENT = "10.203.113.1", "10.203.113.2"
TOKEN = "a-token-of-this-test"
RESTORE = """
import json, sys
from airflow_provider_diffio.hooks import DiffioHook
file = DiffioHook().restore_audio(sys.argv[1], sys.argv[2])
print(json.dumps(file.size_bytes))
"""
LEDGER = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """The names of two namespaces, for the sandbox and for Airflow."""
    server, client = f"diffio-s-{os.getpid()}", f"diffio-a-{os.getpid()}"
    try:
        if shutil.which("ip") is None:
            pytest.skip("this machine has no ip command")
        try:
            for name in (server, client):
                run("ip", "netns", "add", name)
            run(
                "ip",
                "-n",
                server,
                "link",
                "add",
                "cable",
                "type",
                "veth",
                "peer",
                "name",
                "cable",
                "netns",
                client,
            )
            for name, address in ((server, SERVER), (client, CLIENT)):
                run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
                run("ip", "-n", name, "link", "set", "cable", "up")
                run("ip", "-n", name, "link", "set", "lo", "up")
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(
                f"this machine allows no network namespaces: {getattr(error, 'stderr', error)!r:.120}"
            )
        yield server, client
    finally:
        for name in (server, client):
            subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)


def python_in(namespace: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-W", "ignore", *arguments],
        env={**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_recording_is_restored_between_two_machines(
    namespaces: tuple[str, str], tmp_path: Path, recording: Path
) -> None:
    server, client = namespaces
    ready = tmp_path / "ready.json"
    sandbox = python_in(
        server, "-m", "airflow_provider_diffio.sandbox", "--host", SERVER, "--allow-remote",
        "--port", "8788", "--media-port", "8789", "--public-url", f"http://{SERVER}:8788",
        "--control-token", TOKEN, "--engine", "passthrough", "--processing-seconds", "0",
        "--ready-file", str(ready), "--quiet",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and sandbox.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        started = json.loads(ready.read_text())
        connection = {"conn_type": "diffio", "host": started["public_url"], "password": started["api_key"]}
        target = tmp_path / "restored.mp3"

        def restore(**extra: str) -> tuple[str, str]:
            environment = {"AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps({**connection, "extra": extra})}
            process = python_in(client, "-c", RESTORE, str(recording), str(target), **environment)
            return process.communicate(timeout=120)

        _, refused = restore()
        assert "allow_private_http" in refused
        assert not target.exists()
        said, trouble = restore(allow_private_http="true")
        assert said.strip().endswith(str(recording.stat().st_size)), trouble[-2000:]
        assert target.read_bytes() == recording.read_bytes()

        # The other machine may look inside with the token, and not without.
        url = f"{started['public_url']}/sandbox/ledger"
        ledger, _ = python_in(client, "-c", LEDGER, url, TOKEN).communicate(timeout=30)
        assert json.loads(ledger)["totals"]["generations"] == 1
        _, trouble = python_in(client, "-c", LEDGER, url, "wrong").communicate(timeout=30)
        assert "HTTP Error 40" in trouble
    finally:
        sandbox.terminate()
        sandbox.communicate(timeout=20)
