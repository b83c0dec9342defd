# ruff: noqa: PT012 -- what happens inside and at the end of a block is what is tested
from __future__ import annotations

import gc
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import (
    DiffioInputError,
    DiffioSourceChangedError,
    DiffioTransferError,
)
from airflow_provider_diffio.storage import Location, resolve

MIB = 2**20
OLD = b"what was there before"
#: Three parts of 8 MiB and some.
BIG = os.urandom(MIB) * 25


@pytest.fixture
def target(s3_client: Any, bucket: str, s3_root: Location) -> Location:
    """An object that exists."""
    s3_client.put_object(Bucket=bucket, Key="dir/a.wav", Body=OLD)
    return s3_root.child("a.wav")


class Server:
    """What the S3 server itself says about the test's bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def keys(self) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def uploads(self) -> list[dict[str, Any]]:
        uploads: list[dict[str, Any]] = self.client.list_multipart_uploads(Bucket=self.bucket).get(
            "Uploads", []
        )
        return uploads

    def body(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)


@pytest.fixture
def server(s3_client: Any, bucket: str) -> Server:
    return Server(s3_client, bucket)


class TestReading:
    def test_facts(self, target: Location) -> None:
        assert target.exists()
        assert target.size() == len(OLD)
        assert target.sha256() == hashlib.sha256(OLD).hexdigest()

    def test_every_handle_is_its_own_and_seekable(self, target: Location, server: Server) -> None:
        server.put("dir/a.wav", BIG)
        with target.open_read() as first, target.open_read() as second:
            assert first.read(3) == BIG[:3]
            assert second.read() == BIG
            assert first.seek(-5, os.SEEK_END) == len(BIG) - 5
            assert first.read() == BIG[-5:]
            assert first.seek(7) == first.tell() == 7
            buffer = bytearray(9 * MIB)
            assert first.readinto(buffer) == 9 * MIB
            assert buffer == BIG[7 : 7 + 9 * MIB]
            assert isinstance(first, io.BufferedIOBase)
        with pytest.raises(ValueError, match="closed"):
            first.read()

    def test_the_fingerprint_changes_with_the_object(self, target: Location, server: Server) -> None:
        before = target.fingerprint()
        assert target.fingerprint() == before
        server.put("dir/a.wav", OLD[::-1])
        assert target.fingerprint() != before

    def test_an_object_that_changes_while_it_is_read_is_noticed(
        self, target: Location, server: Server
    ) -> None:
        server.put("dir/a.wav", BIG)
        with target.open_read() as handle:
            handle.read(MIB)
            server.put("dir/a.wav", BIG[::-1])
            with pytest.raises(DiffioSourceChangedError):
                handle.read()

    def test_what_others_write_is_seen_despite_listings(
        self, s3_root: Location, target: Location, server: Server
    ) -> None:
        assert [f.name for f in s3_root.list_files()] == ["a.wav"]
        server.put("dir/b.wav", OLD)
        server.put("dir/a.wav", OLD * 2)
        assert s3_root.child("b.wav").exists()
        assert target.size() == 2 * len(OLD)
        assert [f.name for f in s3_root.list_files()] == ["a.wav", "b.wav"]

    def test_missing_objects_and_buckets(self, s3_root: Location, s3_conn_id: str) -> None:
        no_bucket = resolve(f"s3://{s3_conn_id}@no-such-bucket/a.wav")
        for missing in (s3_root.child("missing.wav"), no_bucket):
            assert not missing.exists()
            for look in (missing.size, missing.fingerprint, missing.open_read, missing.sha256):
                with pytest.raises(DiffioInputError, match=missing.uri):
                    look()

    @pytest.mark.usefixtures("target")
    def test_a_directory_is_no_file(self, bucket: str, s3_conn_id: str) -> None:
        directory = resolve(f"s3://{bucket}/dir", conn_id=s3_conn_id)
        assert not directory.exists()
        with pytest.raises(DiffioInputError, match="directory"):
            directory.open_read()


@pytest.fixture
def impatient(target: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests the pauses between s3fs's own attempts."""
    monkeypatch.setattr(target.fs, "retries", 1)  # type: ignore[attr-defined]


class TestWriting:
    @pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "parts"])
    def test_a_whole_object(self, s3_root: Location, server: Server, content: bytes) -> None:
        location = s3_root.child("neu [1]*?.wav")
        with location.writer() as writer:
            writer.expect(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            writer.write(content)
            assert server.keys() == []
        assert server.body("dir/neu [1]*?.wav") == content
        assert server.uploads() == []

    def test_an_old_object_is_replaced_at_the_end(self, target: Location, server: Server) -> None:
        with target.writer() as writer:
            writer.write(BIG)
            assert server.body("dir/a.wav") == OLD
        assert server.body("dir/a.wav") == BIG

    @pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "parts"])
    def test_an_exception_leaves_the_old_object_and_no_upload(
        self, target: Location, server: Server, content: bytes, failure: type[BaseException]
    ) -> None:
        with pytest.raises(failure), target.writer() as writer:
            writer.write(content)
            raise failure
        del writer
        gc.collect()  # an fsspec file that is collected open starts an upload
        assert server.body("dir/a.wav") == OLD
        assert server.keys() == ["dir/a.wav"]
        assert server.uploads() == []

    def test_what_was_not_expected_is_not_published(self, target: Location, server: Server) -> None:
        with pytest.raises(DiffioTransferError, match="nothing was published"), target.writer() as writer:
            writer.expect(size_bytes=len(BIG))
            writer.write(BIG[:-1])
        assert server.body("dir/a.wav") == OLD
        assert server.uploads() == []

    @pytest.mark.usefixtures("impatient")
    def test_a_store_that_fails_in_the_middle(self, target: Location, server: Server) -> None:
        with pytest.raises(DiffioTransferError, match="Could not write") as caught, target.writer() as writer:
            writer.write(BIG)
            for upload in server.uploads():
                server.client.abort_multipart_upload(
                    Bucket=server.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
            writer.write(BIG)
        assert caught.value.transient
        assert server.body("dir/a.wav") == OLD
        assert server.uploads() == []

    @pytest.mark.usefixtures("impatient")
    def test_a_store_that_fails_at_the_end(self, target: Location, server: Server) -> None:
        with (
            pytest.raises(DiffioTransferError, match="Could not publish"),
            target.writer() as writer,
        ):
            writer.write(BIG[: 24 * MIB])
            for upload in server.uploads():
                server.client.abort_multipart_upload(
                    Bucket=server.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        assert server.body("dir/a.wav") == OLD

    def test_no_such_bucket_will_not_work_later(self, s3_conn_id: str) -> None:
        location = resolve(f"s3://{s3_conn_id}@no-such-bucket/a.wav")
        with pytest.raises(DiffioInputError, match="NoSuchBucket") as caught, location.writer() as writer:
            writer.write(BIG)
        assert not caught.value.transient
        assert s3_conn_id not in str(caught.value)

    def test_a_transaction_of_the_filesystem_does_not_publish_it(
        self, target: Location, server: Server
    ) -> None:
        fs: Any = target.fs  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError), target.writer() as writer:
            writer.write(BIG)
            assert list(fs.transaction.files) == []
            raise RuntimeError
        assert server.body("dir/a.wav") == OLD

    def test_a_kind_of_upload_that_cannot_be_aborted_is_refused(
        self, target: Location, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_diffio.storage.remote._UPLOADS", frozenset())
        with pytest.raises(DiffioInputError, match="aborted"), target.writer() as writer:
            writer.write(BIG)
        gc.collect()
        assert server.body("dir/a.wav") == OLD
        assert server.uploads() == []

    def test_a_killed_process_publishes_nothing(
        self, target: Location, server: Server, s3_conn_id: str
    ) -> None:
        script = textwrap.dedent(
            f"""
            import time
            from airflow_provider_diffio.storage import resolve
            with resolve({target.uri!r}, conn_id={s3_conn_id!r}).writer() as writer:
                writer.write(bytes(20 * 2**20))
                print("written", flush=True)
                time.sleep(600)
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any(line == "written\n" for line in process.stdout)
            process.send_signal(signal.SIGKILL)
        assert server.body("dir/a.wav") == OLD
        assert server.keys() == ["dir/a.wav"]


class TestNotOverwriting:
    @pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "parts"])
    def test_a_new_object_is_written(self, s3_root: Location, server: Server, content: bytes) -> None:
        with s3_root.child("new.wav").writer(overwrite=False) as writer:
            writer.write(content)
        assert server.body("dir/new.wav") == content

    def test_an_object_that_is_there_is_refused_before_a_byte(self, target: Location) -> None:
        with pytest.raises(DiffioInputError, match="already"), target.writer(overwrite=False):
            pytest.fail("the block must not run")

    @pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "parts"])
    def test_an_object_that_appears_meanwhile_stays(
        self, s3_root: Location, server: Server, content: bytes
    ) -> None:
        location = s3_root.child("new.wav")
        with (
            pytest.raises(DiffioInputError, match="Allow overwriting"),
            location.writer(overwrite=False) as writer,
        ):
            writer.write(content)
            server.put("dir/new.wav", OLD)
        assert server.body("dir/new.wav") == OLD
        assert server.uploads() == []


class TestListing:
    @pytest.fixture
    def tree(self, s3_root: Location, server: Server) -> Location:
        for key in ("b.wav", "a.wav", "c.txt", ".hidden.wav", "sub/", "sub/d.wav", "sub/deep/e[1].wav"):
            server.put(f"dir/{key}", OLD)
        server.put("directory/other.wav", OLD)
        return s3_root

    @pytest.mark.parametrize(
        ("pattern", "recursive", "found"),
        [
            ("*", True, ["a.wav", "b.wav", "c.txt", "sub/d.wav", "sub/deep/e[1].wav"]),
            ("*.wav", True, ["a.wav", "b.wav", "sub/d.wav", "sub/deep/e[1].wav"]),
            ("*.wav", False, ["a.wav", "b.wav"]),
            ("sub/*.wav", True, ["sub/d.wav", "sub/deep/e[1].wav"]),
            (".*", True, [".hidden.wav"]),
            ("*.flac", True, []),
        ],
    )
    def test_patterns(
        self, tree: Location, bucket: str, pattern: str, recursive: bool, found: list[str]
    ) -> None:
        uris = [location.uri for location in tree.list_files(pattern, recursive=recursive)]
        assert uris == [f"s3://{bucket}/dir/{name}" for name in found]

    def test_what_is_found_can_be_read(self, tree: Location) -> None:
        assert {location.sha256() for location in tree.list_files()} == {hashlib.sha256(OLD).hexdigest()}

    @pytest.mark.usefixtures("tree")
    def test_a_whole_bucket(self, bucket: str, s3_conn_id: str) -> None:
        uris = [location.uri for location in resolve(f"s3://{s3_conn_id}@{bucket}").list_files("o*")]
        assert uris == [f"s3://{bucket}/directory/other.wav"]

    def test_an_object_finds_itself(self, tree: Location) -> None:
        assert list(tree.child("a.wav").list_files()) == [tree.child("a.wav")]

    def test_nothing_there_is_an_error(self, s3_root: Location, s3_conn_id: str) -> None:
        with pytest.raises(DiffioInputError):
            list(s3_root.list_files())
        with pytest.raises(DiffioInputError):
            list(resolve(f"s3://{s3_conn_id}@no-such-bucket/").list_files())
