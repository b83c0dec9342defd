"""Who may steer a sandbox, from where, and under which name others find it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from airflow_provider_diffio.sandbox import Sandbox, start_sandbox_process
from airflow_provider_diffio.sandbox.settings import is_loopback, is_private
from tests.sandbox.wire import Wire

TOKEN = "only-for-those-who-know-it"
ROUTES = ("overview", "ledger", "requests", "faults", "webhooks", "originals/x", "results/x/audio")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the tests are about it


def own_address() -> str:
    """An address of this machine that is not loopback: whoever uses it looks like another machine."""
    for addresses in psutil.net_if_addrs().values():
        for it in addresses:
            if it.family.name == "AF_INET" and not is_loopback(it.address):
                return str(it.address)
    return pytest.skip("this machine has no address but loopback")


@pytest.fixture(scope="module")
def locked() -> Iterator[Sandbox]:
    with Sandbox(engine="passthrough", processing_seconds=0.0, control_token=TOKEN) as sandbox:
        yield sandbox


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer ", "Bearer \xe4"])
def test_a_token_is_asked_for_everywhere(locked: Sandbox, route: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    response = requests.get(f"{locked.api_url}/sandbox/{route}", headers=headers, timeout=10)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "control token" in response.json()["error"]


def test_the_api_key_is_no_control_token(locked: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {locked.api_key}"}
    assert requests.post(f"{locked.api_url}/sandbox/reset", headers=headers, timeout=10).status_code == 401


def test_a_sandbox_knows_its_own_token(locked: Sandbox) -> None:
    locked.clear()
    Wire(locked).restored()
    assert locked.ledger()["totals"]["generations"] == 1


def test_another_machine_steers_with_the_token_only() -> None:
    address = own_address()
    settings = {"engine": "passthrough", "host": EVERYWHERE, "allow_remote": True}
    with Sandbox(**settings, control_token=TOKEN) as sandbox:
        url = sandbox.api_url.replace("127.0.0.1", address)
        assert requests.get(f"{url}/sandbox/ledger", timeout=10).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{url}/sandbox/ledger", headers=headers, timeout=10).status_code == 200
    with Sandbox(**settings) as sandbox:
        url = sandbox.api_url.replace("127.0.0.1", address)
        response = requests.get(f"{url}/sandbox/ledger", timeout=10)
        assert (response.status_code, "--control-token" in response.json()["error"]) == (403, True)
        assert requests.get(f"{url}/", timeout=10).status_code == 200
        assert sandbox.ledger()["totals"]["generations"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "rebound.example.org"}, 403),
        ({"Host": "rebound.example.org", "Origin": "http://rebound.example.org"}, 403),
        ({"Host": "localhost:8788", "Origin": "http://localhost:8788"}, 200),
        ({"Host": "[::1]:8788"}, 200),
        ({"Host": "[::1"}, 403),
    ],
)
def test_other_sites_do_not_steer_it_through_a_browser(
    wire: Wire, headers: dict[str, str], status: int
) -> None:
    url = f"{wire.sandbox.api_url}/sandbox/reset"
    assert wire.http.post(url, headers=headers).status_code == status


def test_an_upload_is_shown_as_nothing_but_bytes(wire: Wire) -> None:
    page = b"<script>alert(1)</script>"
    wire.uploaded(page, fileName="a.html", contentType="text/html")
    (project,) = wire.sandbox.ledger()["projects"]
    response = wire.http.get(f"{wire.sandbox.api_url}/sandbox/originals/{project['apiProjectId']}")
    assert response.content == page
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]


def test_addresses_are_the_public_ones() -> None:
    with Sandbox(
        engine="passthrough", host=EVERYWHERE, allow_remote=True, public_url="http://sandbox:9000/"
    ) as sandbox:
        assert sandbox.api_url.startswith("http://127.0.0.1:")
        assert sandbox.connection["host"] == "http://sandbox:9000"
        port = sandbox.media_url.rpartition(":")[2]
        session = Wire(sandbox).project()["upload"]
        assert session["edgeBaseUrl"] == f"http://sandbox:{port}"
        overview = sandbox.control("GET", "overview")["sandbox"]
        assert (overview["apiUrl"], overview["mediaUrl"]) == (
            "http://sandbox:9000/v1",
            f"http://sandbox:{port}",
        )


def test_media_may_have_an_address_of_its_own() -> None:
    with Sandbox(
        engine="passthrough",
        processing_seconds=0.0,
        public_url="https://diffio.internal",
        public_media_url="https://media.diffio.internal",
    ) as sandbox:
        wire = Wire(sandbox)
        assert wire.project()["upload"]["edgeBaseUrl"] == "https://media.diffio.internal"
    with Sandbox(protocol="signed-put", engine="passthrough", public_url="http://[fd00::1]:8788") as sandbox:
        assert Wire(sandbox).project()["uploadUrl"].startswith("http://[fd00::1]:")


@pytest.mark.parametrize(
    ("arguments", "token"), [(["--control-token", "chosen"], "chosen"), (["--control-token"], None)]
)
def test_the_command_shows_the_token_once(tmp_path: Path, arguments: list[str], token: str | None) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "airflow_provider_diffio.sandbox", "--port", "0"]
    command += ["--engine", "passthrough", "--public-url", "http://sandbox:8788", "--ready-file", str(ready)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        text, _ = process.communicate(timeout=20)
    made = json.loads(ready.read_text())["control_token"]
    assert made == token if token else len(made) >= 32
    assert ready.stat().st_mode & 0o077 == 0
    assert f"http://sandbox:8788/#token={made}\n" in text
    assert f"Authorization: Bearer {made}\n" in text


def test_a_process_is_steered_with_its_token() -> None:
    with start_sandbox_process(engine="passthrough", processing_seconds=0.0, control_token=True) as sandbox:
        Wire(sandbox).restored()
        assert sandbox.ledger()["totals"]["generations"] == 1


def test_who_must_name_an_address_is_told() -> None:
    command = [sys.executable, "-m", "airflow_provider_diffio.sandbox", "--port", "0"]
    command += ["--engine", "passthrough", "--host", EVERYWHERE, "--allow-remote"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        text = first + process.stdout.read()
    assert "0.0.0.0" not in text  # noqa: S104
    assert "--public-url http://<name>:<port>" in text


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("10.0.0.1", True),
        ("::ffff:192.168.1.1", True),
        ("fe80::1", True),
        ("sandbox", True),
        ("SANDBOX.local.", True),
        ("8.8.8.8", False),
        ("example.org", False),
        ("", False),
        ("local.example.org", False),
    ],
)
def test_a_private_host_is_known_by_its_address_or_name(host: str, private: bool) -> None:
    assert is_private(host) is private


def test_loopback_is_known_in_both_families() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost")))
    assert not any(map(is_loopback, ("10.0.0.1", "::ffff:10.0.0.1", "localhost.example.org", "")))


FLOW = """
import json, sys
from airflow_provider_diffio.sandbox import RemoteSandbox
from tests.sandbox.receiver import receiver
from tests.sandbox.wire import Wire

url, key, secret, token, address = sys.argv[1:]
sandbox = RemoteSandbox(url, "", key, secret, control_token=token)
wire = Wire(sandbox)
with receiver(host=address) as post:
    body = {"mode": "live", "url": post.url, "eventTypes": ["generation.completed"]}
    configured = wire.post("webhooks/configure", body).status
    generation_id = wire.restored(b"from another machine")
    link = wire.download(generation_id).body["downloadUrl"]
    print(json.dumps({
        "configured": configured,
        "content": wire.http.get(link).content.decode(),
        "link": link,
        "delivered": len(post.wait(1)),
        "generations": sandbox.ledger()["totals"]["generations"],
    }))
"""


@contextmanager
def another_machine() -> Iterator[tuple[str, str, str]]:
    """A network namespace joined to ours by a cable: its name, our address, its address."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    name, here, there = f"diffio-{os.getpid()}", f"dfa{os.getpid()}", f"dfb{os.getpid()}"
    ours, theirs = "10.213.77.1", "10.213.77.2"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("address", "add", f"{ours}/30", "dev", here)
        ip("link", "set", here, "up")
        for command in (
            ("address", "add", f"{theirs}/30", "dev", there),
            ("link", "set", there, "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *command)
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        pytest.skip(f"this machine allows no network namespaces: {error.stderr!r}")
    try:
        yield name, ours, theirs
    finally:
        ip("netns", "delete", name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def test_another_machine_uses_all_of_it() -> None:
    port = free_port()
    with (
        another_machine() as (namespace, ours, theirs),
        Sandbox(
            host=EVERYWHERE,
            port=port,
            allow_remote=True,
            engine="passthrough",
            processing_seconds=0.0,
            control_token=TOKEN,
            allow_private_http=True,
            public_url=f"http://{ours}:{port}",
        ) as sandbox,
    ):
        inside = ["ip", "netns", "exec", namespace, sys.executable, "-c", FLOW]
        done = subprocess.run(
            [*inside, sandbox.public_url, sandbox.api_key, sandbox.webhook_secret, TOKEN, theirs],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.pop("link").startswith(f"http://{ours}:")
    assert report == {
        "configured": 200,
        "content": "from another machine",
        "delivered": 1,
        "generations": 1,
    }
