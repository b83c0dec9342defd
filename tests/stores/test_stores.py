# ruff: noqa: PT012 -- what happens inside and at the end of a block is what is tested
"""The same tests for every store. Each holds a row of the table."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError, DiffioTransferError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import start_sandbox_process
from airflow_provider_diffio.storage import Location, resolve
from tests.stores import killed, memory
from tests.stores.conftest import locate
from tests.stores.servers import Server

MIB = 2**20
OLD = b"what was there before"
NEW = os.urandom(MIB) * 9
NAMES = (
    "a#b.wav",
    "50%20off.wav",
    "a+b.wav",
    "take[1].wav",
    "me@home.wav",
    "Who?.wav",
    "both?#3.wav",
    "v?versionId=abc.wav",
    "v?versionid=abc.wav",
    "x#1234.wav",
    "rock&roll=yes.wav",
    "two  words.wav",
    "😀.wav",
)
SFTP = ("openssh", "plain_sftp")
SIZE_MIB = 100
#: Kills per store, and the size of the file whose transfer's memory is measured.
KILLS = int(os.environ.get("DIFFIO_STORES_KILLS", "25"))
MEMORY_MIB = int(os.environ.get("DIFFIO_STORES_MIB", "1024"))
MOST_MIB = 160


def below(server: Server, root: Location) -> str:
    """The directory of a test, as the server's own view of its contents has it."""
    return root.uri.removeprefix(server.root)


def left(server: Server, root: Location) -> list[str]:
    """All names in the directory of a test, hidden ones included."""
    prefix = below(server, root)
    return [name.removeprefix(prefix) for name in server.contents.names() if name.startswith(prefix)]


class TestTransfers:
    @pytest.mark.row("upload from it", "download to it")
    def test_upload_and_download(
        self, server: Server, root: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Through the hook and the sandbox, which gives back what it got."""
        server.contents.put(f"{below(server, root)}in #1?.wav", NEW)
        with start_sandbox_process(
            protocol="signed-put", engine="passthrough", processing_seconds=0.1, data_dir=str(tmp_path)
        ) as sandbox:
            monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(sandbox.connection))
            hook = DiffioHook()
            result = hook.restore_audio(
                root.child("in #1?.wav"), root.child("out?1.mp3"), model="diffio-4.0-flash"
            )
        assert server.contents.get(f"{below(server, root)}out?1.mp3") == NEW
        assert result

    @pytest.mark.row("upload from it", "download to it")
    def test_100_mib(self, server: Server, root: Location) -> None:
        block = os.urandom(MIB)
        digest = hashlib.sha256()
        location = root.child("large.wav")
        with location.writer() as writer:
            for number in range(SIZE_MIB):
                part = number.to_bytes(4, "big") + block[4:]
                digest.update(part)
                writer.write(part)
        assert location.size() == SIZE_MIB * MIB
        assert location.sha256() == digest.hexdigest()

    @pytest.mark.row(*(["memory for 1 GiB"] if MEMORY_MIB >= 1024 else []))
    def test_memory(
        self, kind: str, server: Server, root: Location, show: Callable[[str, str], None]
    ) -> None:
        """In a process of its own, against what it takes just before."""
        command = [sys.executable, memory.__file__, root.child("large.wav").uri]
        command += [server.conn_id if server.connection else "", str(MEMORY_MIB)]
        environment = {**os.environ, **server.environment}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        # Libraries may log something after it.
        seen = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        figures = ", ".join(
            f"{step} {seen[step]['mib']:.0f} MiB, {seen[step]['seconds']:.1f} s" for step in ("write", "read")
        )
        show(f"memory for {MEMORY_MIB} MiB, beyond what the process had before", f"{kind}: {figures}")
        assert seen["write"]["sha256"] == seen["read"]["sha256"]
        assert max(seen["write"]["mib"], seen["read"]["mib"]) < MOST_MIB

    @pytest.mark.row("replace a file")
    def test_replace(self, server: Server, root: Location) -> None:
        location = root.child("a.wav")
        for content in (b"", OLD, NEW):
            with location.writer() as writer:
                writer.write(content)
            assert server.contents.get(f"{below(server, root)}a.wav") == content
        assert left(server, root) == ["a.wav"]

    def test_the_old_file_can_be_read_while_it_is_replaced(self, server: Server, root: Location) -> None:
        location = root.child("a.wav")
        server.contents.put(f"{below(server, root)}a.wav", OLD)
        with location.writer() as writer:
            writer.write(NEW)
            assert server.contents.get(f"{below(server, root)}a.wav") == OLD
            assert location.open_read().read() == OLD

    @pytest.mark.parametrize("content", [b"", b"small", NEW], ids=["empty", "small", "large"])
    @pytest.mark.row("refuse to replace (`error`)")
    def test_not_replacing(self, server: Server, root: Location, content: bytes) -> None:
        location = root.child("a.wav")
        with location.writer(overwrite=False) as writer:
            writer.write(content)
        with pytest.raises(DiffioInputError, match="Allow overwriting"), location.writer(overwrite=False):
            pytest.fail("the block must not run")
        assert server.contents.get(f"{below(server, root)}a.wav") == content
        assert left(server, root) == ["a.wav"]

    @pytest.mark.parametrize("content", [b"small", NEW], ids=["small", "large"])
    @pytest.mark.row("refuse to replace (`error`)")
    def test_a_file_that_appears_meanwhile_stays(
        self, server: Server, root: Location, content: bytes
    ) -> None:
        with (
            pytest.raises(DiffioInputError, match="Allow overwriting") as caught,
            root.child("a.wav").writer(overwrite=False) as writer,
        ):
            writer.write(content)
            server.contents.put(f"{below(server, root)}a.wav", OLD)
        assert caught.value.final
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        assert left(server, root) == ["a.wav"]

    @pytest.mark.row("refuse to replace (`error`)")
    def test_a_file_that_appears_in_the_last_instant_stays(
        self, kind: str, server: Server, root: Location, mocker: Any
    ) -> None:
        """The store itself refuses: our own check sees nothing."""
        if kind == "google":
            pytest.skip("the emulator ignores the condition on uploads in parts")
        location = root.child("a.wav")
        with (
            pytest.raises(DiffioInputError, match="Allow overwriting") as caught,
            location.writer(overwrite=False) as writer,
        ):
            writer.write(NEW)
            server.contents.put(f"{below(server, root)}a.wav", OLD)
            if kind == "local":
                mocker.patch("airflow_provider_diffio.storage.local.LocalSink._check_target")
            elif kind in SFTP:
                mocker.patch("airflow_provider_diffio.storage.sftp.SftpSink._check_target")
            else:
                mocker.patch.object(type(location), "exists", return_value=False)
        assert caught.value.final
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD

    @pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.row("a transfer that breaks")
    def test_a_transfer_that_breaks(
        self, server: Server, root: Location, failure: type[BaseException]
    ) -> None:
        server.contents.put(f"{below(server, root)}a.wav", OLD)
        with pytest.raises(failure), root.child("a.wav").writer() as writer:
            writer.write(NEW)
            raise failure
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        assert left(server, root) == ["a.wav"]


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.row("names with `# % + [ ] @ ? & =`, spaces, emoji")
    def test_a_name_is_taken_as_it_is(self, server: Server, root: Location, name: str) -> None:
        cut = name.replace("#", "?").partition("?")[0]
        for content in (OLD, NEW):
            with root.child(name).writer() as writer:
                writer.write(content)
        location = locate(server, f"{below(server, root)}{name}")
        assert left(server, root) == [name]
        assert server.contents.get(f"{below(server, root)}{name}") == NEW
        assert (location.name, location.exists(), location.size()) == (name, True, len(NEW))
        assert location.sha256() == hashlib.sha256(NEW).hexdigest()
        assert [found.uri for found in root.list_files()] == [location.uri]
        if cut != name and cut:
            assert not root.child(cut).exists()

    @pytest.mark.row("NFC and NFD")
    def test_nfc_and_nfd_are_two_names(self, server: Server, root: Location) -> None:
        composed, decomposed = unicodedata.normalize("NFC", "é.wav"), unicodedata.normalize("NFD", "é.wav")
        for name, content in ((composed, OLD), (decomposed, NEW)):
            write(root.child(name), content)
        assert len(left(server, root)) == 2
        assert root.child(composed).size() == len(OLD)

    @pytest.mark.parametrize("name", ["x" * 251 + ".wav", "ä" * 125 + "x.wav"], ids=["ascii", "umlauts"])
    @pytest.mark.row("a name of 255 bytes")
    def test_255_bytes(self, server: Server, root: Location, name: str) -> None:
        assert len(name.encode()) == 255
        with root.child(name).writer() as writer:
            writer.write(NEW)
        assert left(server, root) == [name]


class TestBeforeMoneyIsSpent:
    @pytest.mark.parametrize("path", ["a.wav", "", "deep/er/a.wav", "deep/er/"])
    @pytest.mark.row("check before money is spent")
    def test_a_place_that_can_be_written(self, server: Server, root: Location, path: str) -> None:
        locate(server, f"{below(server, root)}{path}").check_writable()
        assert left(server, root) == []

    @pytest.mark.row("check before money is spent")
    def test_a_bucket_that_does_not_exist(self, kind: str, server: Server) -> None:
        if kind in ("local", *SFTP):
            pytest.skip("it has no buckets")
        scheme = server.root.partition(":")[0]
        with pytest.raises(DiffioInputError, match="not-there"):
            resolve(f"{scheme}://not-there/a.wav", conn_id=server.conn_id).check_writable()

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("", "directory: name a file in it"),
            ("/a.wav/b.wav", r"a\.wav is a file, not a directory"),
            ("/a.wav/b/c.wav", r"a\.wav is a file, not a directory"),
            (f"/{'x' * 300}", "longer than|shorter file name"),
        ],
    )
    @pytest.mark.row("check before money is spent")
    def test_a_place_that_cannot_be_written(
        self, kind: str, server: Server, root: Location, path: str, reason: str
    ) -> None:
        if kind not in ("local", *SFTP):
            pytest.skip("every key can be written")
        server.contents.put(f"{below(server, root)}a.wav", OLD)
        location = locate(server, below(server, root).rstrip("/") + path)
        with pytest.raises(DiffioInputError, match=reason):
            location.check_writable()
        with pytest.raises(DiffioInputError, match=reason), location.writer() as writer:
            writer.write(NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        assert left(server, root) == ["a.wav"]


class TestKills:
    @pytest.mark.row("a worker killed while it writes")
    def test_a_worker_killed_while_it_writes_and_the_retry(
        self, kind: str, server: Server, root: Location, cell: dict[str, str]
    ) -> None:
        server.contents.put(f"{below(server, root)}a.wav", OLD)
        location = root.child("a.wav")
        kill_while_writing(server, location)
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        parts = [name for name in left(server, root) if name != "a.wav"]
        has_part = "`.part`" in cell["a worker killed while it writes"]
        assert len(parts) == int(has_part)
        assert [file.name for file in root.list_files()] == ["a.wav"]
        if kind in SFTP:
            long_ago = time.time() - 16 * 60
            os.utime(Path(location.key).with_name(parts[0]), (long_ago, long_ago))  # type: ignore[attr-defined]
        with location.writer() as writer:
            writer.write(NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == NEW
        assert left(server, root) == ["a.wav"]

    @pytest.mark.row("killed again and again, at any moment")
    def test_random_kills(self, kind: str, server: Server, root: Location) -> None:
        server.contents.put(f"{below(server, root)}a.wav", killed.content(0))
        command = [sys.executable, killed.__file__, root.child("a.wav").uri]
        command += [server.conn_id if server.connection else "", str(KILLS), "7"]
        environment = {**os.environ, **server.environment}
        seen = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.split()[0].isdigit():
                    continue
                number, became = line.split()[:2]
                found = server.contents.get(f"{below(server, root)}a.wav")
                # a plain rename leaves an instant in which the old file has another name
                assert found is not None or kind == "plain_sftp"
                if found is not None:
                    assert found == killed.content(found[0]), f"half a file after kill {number}"
                seen.append(became)
        assert len(seen) == KILLS
        assert seen.count("killed") > KILLS // 5
        with root.child("a.wav").writer() as writer:
            writer.write(NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == NEW


def kill_while_writing(server: Server, location: Location) -> None:
    """Have another process write to a place, and kill it in the middle."""
    conn_id = server.conn_id if server.connection else None
    script = textwrap.dedent(
        f"""
        import time
        from airflow_provider_diffio.storage import resolve
        with resolve({location.uri!r}, conn_id={conn_id!r}).writer() as writer:
            for _ in range(20):
                writer.write(bytes(2**20))
            print("written", flush=True)
            time.sleep(600)
        """
    )
    environment = {**os.environ, **server.environment}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert any(line == "written\n" for line in process.stdout)
        process.send_signal(signal.SIGKILL)


class TestTrouble:
    @pytest.fixture(autouse=True)
    def impatient(self, kind: str, root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
        """Spare the tests the pauses between the clients' own attempts."""
        if kind == "local":
            pytest.skip("nothing lies between")

        async def at_once(*_: object, **__: object) -> None:
            return None

        if kind == "google":
            monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=at_once))
        if kind == "azure":
            monkeypatch.setattr(
                "azure.storage.blob._shared.policies_async.AsyncStorageRetryPolicy.sleep", at_once
            )

    @pytest.mark.row("away for a moment")
    def test_a_store_that_is_away_for_a_moment(self, server: Server, root: Location) -> None:
        location = root.child("a.wav")
        with location.writer() as writer:
            writer.write(OLD)
        with server.away():
            for step in (location.size, location.check_writable, lambda: write(location, NEW)):
                with pytest.raises(DiffioTransferError) as caught:
                    step()
                assert caught.value.transient
        assert location.size() == len(OLD)
        write(location, NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == NEW

    @pytest.mark.row("away for a moment")
    def test_a_store_that_goes_away_in_the_middle(self, server: Server, root: Location) -> None:
        location = root.child("a.wav")
        write(location, OLD)
        with pytest.raises(DiffioTransferError), location.writer() as writer:
            writer.write(NEW)
            with server.away():
                for _ in range(4):
                    writer.write(NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        write(location, NEW)
        assert location.sha256() == hashlib.sha256(NEW).hexdigest()

    @pytest.mark.row("an idle connection is dropped")
    def test_an_idle_connection_that_is_dropped(self, server: Server, root: Location) -> None:
        """As during a wait: every place that is in use afterwards works."""
        location, other = root.child("a.wav"), root.child("b.wav")
        write(location, OLD)
        server.drop_sessions()
        write(location, NEW)
        server.drop_sessions()
        assert not other.exists()
        assert location.open_read().read() == NEW
        server.drop_sessions()
        assert [found.name for found in root.list_files()] == ["a.wav"]
        server.drop_sessions()
        other.check_writable()

    @pytest.mark.parametrize("step", ["look", "read", "write", "publish"])
    @pytest.mark.row("a silent server")
    def test_a_silent_server(
        self, kind: str, server: Server, root: Location, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        if kind not in SFTP:
            pytest.skip("HTTP clients have limits of their own")
        for name in ("_REQUEST_SECONDS", "_BLOCK_SECONDS", "_LISTING_SECONDS", "_TIDY_SECONDS"):
            monkeypatch.setattr(f"airflow_provider_diffio.storage.sftp.{name}", 2)
        impatient = {"connect_timeout": 2, "login_timeout": 2}
        monkeypatch.setattr("airflow_provider_diffio.storage.sftp_session._CONNECTION_OPTIONS", impatient)
        location = root.child("a.wav")
        write(location, NEW)
        reader = location.open_read()
        reader.read(1)
        started = time.monotonic()
        with pytest.raises(DiffioTransferError) as caught:
            act_in_silence(server, location, reader, step)
        assert caught.value.transient
        assert time.monotonic() - started < 30
        write(location, OLD)
        assert location.size() == len(OLD)

    @pytest.mark.parametrize("step", ["look", "read", "write", "publish"])
    @pytest.mark.row("a silent server")
    def test_the_time_limit_of_a_task_ends_a_wait_for_a_silent_server(
        self, server: Server, root: Location, step: str
    ) -> None:
        """Airflow's limit is an exception in the middle of anything. Tidying up must not wait for ever."""

        def over(*_: object) -> None:
            raise TimeOverError

        location = root.child("a.wav")
        write(location, OLD)
        reader = location.open_read()
        previous = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, 2)
        started = time.monotonic()
        try:
            with pytest.raises(TimeOverError):
                act_in_silence(server, location, reader, step)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert time.monotonic() - started < 2 + 20
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
        write(location, NEW)
        assert server.contents.get(f"{below(server, root)}a.wav") == NEW


class TimeOverError(BaseException):
    """Stands for Airflow's own."""


def act_in_silence(server: Server, location: Location, reader: Any, step: str) -> None:
    """Do something while the server is silent, which it still is while the traces are removed."""
    with ExitStack() as silence:
        if step == "look":
            silence.enter_context(server.silent())
            location.size()
        elif step == "read":
            silence.enter_context(server.silent())
            reader.read()
        else:
            with location.writer() as writer:
                writer.write(NEW)
                silence.enter_context(server.silent())
                if step == "write":
                    for _ in range(20):
                        writer.write(NEW)
                else:
                    writer.verify()
                    raise_from_publish(writer)


def raise_from_publish(writer: Any) -> None:
    """Publish while the server is silent; the end of the block would come too late."""
    from airflow_provider_diffio.storage.errors import store_failures

    with store_failures("publish", writer.uri):
        writer._sink.publish()


def write(location: Location, content: bytes) -> None:
    """Write a whole file."""
    with location.writer() as writer:
        writer.write(content)


class TestOneStoreAlone:
    """What only one kind of store does."""

    def test_an_object_that_is_decoded_when_it_is_read(
        self, kind: str, server: Server, root: Location
    ) -> None:
        import gzip

        data = gzip.compress(NEW)
        if kind == "google":
            server.contents.put(f"{below(server, root)}a.wav", data, "gzip")  # type: ignore[call-arg]
        elif kind == "azure":
            from azure.storage.blob import ContentSettings

            settings = ContentSettings(content_encoding="gzip")
            server.contents.put(  # type: ignore[call-arg]
                f"{below(server, root)}a.wav", data, content_settings=settings
            )
        else:
            pytest.skip("it gives the bytes as they are")
        location = root.child("a.wav")
        assert location.exists()
        for read in (location.size, location.open_read, location.fingerprint, location.sha256):
            with pytest.raises(DiffioInputError, match="content encoding 'gzip'"):
                read()
        write(location, OLD)
        assert location.size() == len(OLD)

    def test_a_wrong_key_and_a_wrong_host_of_sftp(
        self, kind: str, server: Server, root: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        if kind not in SFTP:
            pytest.skip("it is no SFTP")
        import asyncssh

        assert server.connection is not None
        key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        own = Path(server.connection["extra"]["key_file"]).read_text()
        for conn_id, extra, error in (
            ("sftp_wrong_key", {"private_key": key}, "Permission denied.*'private_key'"),
            ("sftp_no_key", {"private_key": "-----BEGIN-----"}, "Could not read 'private_key'"),
        ):
            fields = {**server.connection, "extra": {**extra, "no_host_key_check": "true"}}
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
            with pytest.raises(DiffioError, match=error) as caught:
                resolve(root.uri, conn_id=conn_id)
            assert caught.value.final
            assert "BEGIN" not in str(caught.value)
        fields = {**server.connection, "extra": {"private_key": own, "no_host_key_check": "true"}}
        monkeypatch.setenv("AIRFLOW_CONN_SFTP_KEY_TEXT", json.dumps(fields))
        write(resolve(f"{root.uri}a.wav", conn_id="sftp_key_text"), OLD)
        assert server.contents.get(f"{below(server, root)}a.wav") == OLD
