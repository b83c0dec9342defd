from __future__ import annotations

import errno
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioError,
    DiffioInputError,
    DiffioTransferError,
)
from airflow_provider_diffio.storage import Location, resolve
from airflow_provider_diffio.storage.remote import RemoteLocation
from tests.storage.conftest import Connect
from tests.storage.test_errors import ResponseError


@pytest.mark.parametrize(
    ("path", "uri", "is_directory_like"),
    [
        ("/data/a.wav", "/data/a.wav", False),
        ("/data/", "/data/", True),
        ("/data/50%20off #1?.wav", "/data/50%20off #1?.wav", False),
        ("file:///data/a.wav", "/data/a.wav", False),
        ("file://localhost/data/a.wav", "/data/a.wav", False),
        ("FILE:///data/in/", "/data/in/", True),
        (Path("/data/a.wav"), "/data/a.wav", False),
    ],
)
def test_an_absolute_local_path_is_taken_as_it_is(
    path: str | Path, uri: str, is_directory_like: bool
) -> None:
    location = resolve(path, conn_id="not_even_looked_up", default_root="/elsewhere")
    assert (location.uri, location.is_directory_like, location.is_local) == (uri, is_directory_like, True)


@pytest.mark.parametrize(
    ("path", "uri", "is_directory_like"),
    [
        ("a.wav", "/root/a.wav", False),
        ("2024/05/a.wav", "/root/2024/05/a.wav", False),
        ("./a//b.wav", "/root/a/b.wav", False),
        ("2024/", "/root/2024/", True),
        (".", "/root/", True),
        ("./", "/root/", True),
        ("...wav", "/root/...wav", False),
    ],
)
@pytest.mark.parametrize("root", ["/root", "/root/", "file:///root"])
def test_a_relative_path_goes_below_the_root(path: str, uri: str, is_directory_like: bool, root: str) -> None:
    location = resolve(path, default_root=root)
    assert (location.uri, location.is_directory_like) == (uri, is_directory_like)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "  ",
        "..",
        "../a.wav",
        "a/../../b.wav",
        "a/..",
        "a\\b.wav",
        "..\\a.wav",
        "a\0.wav",
        "a\n.wav",
        "~/a.wav",
        "C:\\a.wav",
        "C:/a.wav",
        "s3:/bucket/a.wav",
        "file:/data/a.wav",
        "file://host/data/a.wav",
        "x" * 256,
        "lone\ud800surrogate",
    ],
)
def test_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(DiffioInputError):
        resolve(path, default_root="/root")


@pytest.mark.parametrize("path", [None, 5, b"/data/a.wav", ["/data/a.wav"]])
def test_a_path_is_a_text(path: Any) -> None:
    with pytest.raises(DiffioInputError, match="text"):
        resolve(path)


def test_a_relative_path_without_a_root_says_what_to_set() -> None:
    with pytest.raises(DiffioInputError, match="Set the field 'output_path' of 'diffio_default'"):
        resolve("a.wav", default_root_name="the field 'output_path' of 'diffio_default'")


def test_a_root_has_to_be_absolute() -> None:
    with pytest.raises(DiffioConfigurationError, match=r"output_path.*no root"):
        resolve("a.wav", default_root="restored")


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside").mkdir()
    (root / "here").symlink_to(root / "inside")
    (root / "out").symlink_to(tmp_path)
    assert resolve("here/a.wav", default_root=str(root)).uri == f"{root}/here/a.wav"
    with pytest.raises(DiffioInputError, match="symbolic link"):
        resolve("out/a.wav", default_root=str(root))


@pytest.mark.parametrize("path", ["/root/../etc/a.wav", "file:///root/../etc/a.wav", "/root/.."])
def test_an_absolute_path_with_dots_is_refused_where_a_root_is_set(path: str, connect: Connect) -> None:
    with pytest.raises(DiffioInputError, match=r"'\.\.'"):
        resolve(path, default_root="/root")
    with pytest.raises(DiffioInputError, match=r"'\.\.'"):
        resolve(path, conn_id=connect("fs", extra={"path": "/root"}))
    assert resolve(path).is_local


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert resolve("a.wav", default_root=f"{tmp_path}/link").uri == f"{tmp_path}/link/a.wav"


class TestConnectionRoots:
    @pytest.mark.parametrize(
        ("conn_type", "extra"),
        [
            ("fs", {"path": "/root"}),
            ("fs", {"path": "file:///root"}),
            ("generic", {"path": "/root"}),
            ("diffio", {"output_path": "/root"}),
        ],
    )
    def test_a_local_root(self, connect: Connect, conn_type: str, extra: dict[str, Any]) -> None:
        location = resolve("2024/a.wav", conn_id=connect(conn_type, extra=extra), default_root="/elsewhere")
        assert location.uri == "/root/2024/a.wav"

    def test_a_bucket_root(self, connect: Connect, s3_connection: dict[str, Any]) -> None:
        extra = {**s3_connection["extra"], "service_config": {"s3": {"bucket_name": "audio"}}}
        conn_id = connect("aws", **{**s3_connection, "extra": extra})
        assert resolve("2024/a.wav", conn_id=conn_id).uri == "s3://audio/2024/a.wav"
        assert resolve("./", conn_id=conn_id).is_directory_like

    def test_a_url_root_is_opened_by_its_own_connection(
        self, connect: Connect, s3_connection: dict[str, Any], s3_endpoint: str
    ) -> None:
        extra = {**s3_connection["extra"], "path": "s3://audio/prefix/"}
        location = resolve("a.wav", conn_id=connect("aws", **{**s3_connection, "extra": extra}))
        assert isinstance(location, RemoteLocation)
        assert location.uri == "s3://audio/prefix/a.wav"
        assert location.fs.endpoint_url == s3_endpoint

    @pytest.mark.parametrize("conn_type", ["fs", "diffio"])
    def test_a_url_root_names_the_connection_that_opens_it(
        self, connect: Connect, conn_type: str, s3_conn_id: str, s3_endpoint: str
    ) -> None:
        conn_id = connect(conn_type, extra={"path": f"s3://{s3_conn_id}@audio"})
        location = resolve("a.wav", conn_id=conn_id)
        assert isinstance(location, RemoteLocation)
        assert location.fs.endpoint_url == s3_endpoint
        assert s3_conn_id not in location.uri

    def test_no_root(self, connect: Connect) -> None:
        conn_id = connect("aws")
        with pytest.raises(DiffioConfigurationError, match=rf"{conn_id}.*no root.*'path'"):
            resolve("a.wav", conn_id=conn_id, default_root="/elsewhere")

    def test_a_path_on_another_machine_is_not_taken_for_a_local_one(self, connect: Connect) -> None:
        with pytest.raises(DiffioConfigurationError, match="has to be a URL"):
            resolve("a.wav", conn_id=connect("sftp", extra={"path": "/upload"}))

    @pytest.mark.parametrize("path", ["../a.wav", "a/../b", "a\\b", "a\0"])
    def test_a_relative_path_does_not_leave_a_bucket_prefix(self, connect: Connect, path: str) -> None:
        conn_id = connect("aws", extra={"path": "s3://audio/prefix"})
        with pytest.raises(DiffioInputError):
            resolve(path, conn_id=conn_id)


class TestUrls:
    def test_the_connection_does_not_show(self, s3_conn_id: str, s3_endpoint: str) -> None:
        location = resolve(f"s3://{s3_conn_id}@audio/2024/a b#1?.wav")
        assert isinstance(location, RemoteLocation)
        assert location.uri == "s3://audio/2024/a b#1?.wav"
        assert (location.name, location.is_local, location.local_path) == ("a b#1?.wav", False, None)
        assert location.fs.endpoint_url == s3_endpoint
        assert s3_conn_id not in repr(location)

    def test_a_url_without_a_connection_borrows_one(self, s3_conn_id: str, s3_endpoint: str) -> None:
        location = resolve("s3://audio/a.wav", conn_id=s3_conn_id)
        assert isinstance(location, RemoteLocation)
        assert location.fs.endpoint_url == s3_endpoint

    def test_an_object_storage_path_keeps_its_connection(self, s3_conn_id: str, s3_endpoint: str) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        location = resolve(ObjectStoragePath(f"s3://{s3_conn_id}@audio/a.wav"))
        assert isinstance(location, RemoteLocation)
        assert (location.uri, location.fs.endpoint_url) == ("s3://audio/a.wav", s3_endpoint)

    @pytest.mark.parametrize("path", ["s3://audio", "s3://audio/", "s3://audio/2024/"])
    def test_buckets_and_closing_slashes_mean_directories(self, path: str, s3_conn_id: str) -> None:
        location = resolve(path, conn_id=s3_conn_id)
        assert location.is_directory_like
        assert location.child("a.wav").uri == f"{path.rstrip('/')}/a.wav"
        assert not location.child("a.wav").is_directory_like

    @pytest.mark.parametrize("path", ["s3://", "s3:///a.wav", "s3://audio/../a.wav", "s3://audio/a/.."])
    def test_a_bad_url_is_refused(self, path: str, s3_conn_id: str) -> None:
        with pytest.raises(DiffioInputError):
            resolve(path, conn_id=s3_conn_id)

    def test_a_secret_in_a_url_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(DiffioInputError) as caught:
            resolve("s3://AKIAEXAMPLE:s3cr3t@audio/a.wav")
        assert "s3cr3t" not in str(caught.value)
        assert "AKIAEXAMPLE" not in str(caught.value)

    @pytest.mark.parametrize(
        "path",
        [
            "s3://AKIAEXAMPLE:secr/et@audio/a.wav",
            "s3://AKIAEXAMPLE:se@cr/et@audio/a.wav",
            "s3://AKIAEXAMPLE:secr/et/a.wav",
            "sftp://user:secr/et@host/a.wav",
            "s3:/AKIAEXAMPLE:secr/et@audio/a.wav",
            "AKIAEXAMPLE:secr/et@audio/a.wav",
        ],
    )
    def test_a_secret_with_a_slash_is_not_repeated(self, path: str) -> None:
        with pytest.raises(DiffioInputError) as caught:
            resolve(path)
        for part in ("secr", "se@", "cr/et", "et@"):
            assert part not in str(caught.value)

    @pytest.mark.parametrize(
        "path",
        [
            "s3://audio/mail@example.com: 1.wav",
            "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/mine/a@b.wav",
        ],
    )
    def test_what_only_looks_like_a_secret_is_taken(self, path: str, s3_conn_id: str) -> None:
        assert resolve(path, conn_id=s3_conn_id).uri == path

    @pytest.mark.parametrize("name", ["v?versionId=abc.wav", "Who?.wav", "50%20off #1?.wav"])
    def test_a_name_is_no_url(self, name: str, s3_root: Location, s3_client: Any, bucket: str) -> None:
        with s3_root.child(name).writer() as writer:
            writer.write(b"one")
        (item,) = s3_client.list_objects_v2(Bucket=bucket)["Contents"]
        assert item["Key"] == f"dir/{name}"
        location = resolve(f"{s3_root.uri}{name}", conn_id="storage_tests_s3")
        assert location.open_read().read() == b"one"
        assert [found.name for found in s3_root.list_files()] == [name]

    def test_a_filesystem_that_cuts_names_is_refused(self, cutting: None) -> None:
        assert resolve("cutting://place/a.wav").name == "a.wav"
        with pytest.raises(DiffioConfigurationError, match="takes a part of the name"):
            resolve("cutting://place/Who?.wav")

    @pytest.mark.parametrize("path", ["s3://no_such@audio/a.wav", "s3://audio/a.wav", "a.wav"])
    def test_a_missing_connection_is_an_error(self, path: str) -> None:
        with pytest.raises(DiffioConfigurationError, match="no connection 'no_such'"):
            resolve(path, conn_id="no_such")

    def test_a_broken_connection_is_an_error(self, connect: Connect) -> None:
        conn_id = connect("aws", extra={"profile_name": "no_such_profile"})
        with pytest.raises(DiffioConfigurationError, match=conn_id):
            resolve("s3://audio/a.wav", conn_id=conn_id)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), DiffioTransferError),
            (TimeoutError(), DiffioTransferError),
            (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), DiffioTransferError),
            (ResponseError(503), DiffioTransferError),
            (ResponseError(403), DiffioConfigurationError),
            (ValueError("no such region"), DiffioConfigurationError),
        ],
    )
    def test_trouble_that_passes_is_no_fault_of_the_connection(
        self, s3_conn_id: str, mocker: MockerFixture, error: Exception, kind: type[DiffioError]
    ) -> None:
        mocker.patch("airflow_provider_diffio.storage.paths.attach", side_effect=error)
        with pytest.raises(kind, match=s3_conn_id) as caught:
            resolve("s3://audio/a.wav", conn_id=s3_conn_id)
        assert caught.value.final is (kind is DiffioConfigurationError)
        assert caught.value.transient is (kind is DiffioTransferError)

    @pytest.mark.parametrize(
        "authority", ["other", "other:22", "files.example:23", "files.example.org", "[::1]"]
    )
    def test_a_url_that_names_another_host_is_refused(self, connect: Connect, authority: str) -> None:
        conn_id = connect("sftp", host="files.example", login="me")
        with pytest.raises(DiffioInputError, match=r"leads to files\.example:22"):
            resolve(f"sftp://{conn_id}@{authority}/dir/a.wav")
        with pytest.raises(DiffioInputError, match=r"leads to files\.example:22"):
            resolve(f"sftp://{authority}/dir/a.wav", conn_id=conn_id)

    def test_a_connection_that_gives_no_access_is_an_error(self, connect: Connect) -> None:
        conn_id = connect("fs", extra={"path": "/data"})
        with pytest.raises(DiffioConfigurationError, match="no access to s3"):
            resolve(f"s3://{conn_id}@audio/a.wav")

    @pytest.mark.parametrize(
        ("scheme", "extra"), [("gs", "google"), ("abfs", "microsoft-azure"), ("sftp", "sftp")]
    )
    def test_a_store_that_is_not_installed_names_its_extra(self, scheme: str, extra: str) -> None:
        with pytest.raises(DiffioInputError, match=rf"{scheme}://.*airflow-provider-diffio\[{extra}\]"):
            resolve(f"{scheme}://place/a.wav")

    def test_an_unknown_scheme_is_named(self) -> None:
        with pytest.raises(DiffioInputError, match="https://"):
            resolve("https://example.com/a.wav")


def test_importing_loads_no_store() -> None:
    script = (
        "import sys, airflow_provider_diffio.storage as _;"
        "print([m for m in ('airflow', 'fsspec', 'upath', 'botocore', 'requests') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture, s3_conn_id: str) -> None:
    with caplog.at_level(logging.DEBUG, logger="airflow_provider_diffio"):
        resolve("s3://audio/a.wav", conn_id=s3_conn_id)
    assert "testing" not in caplog.text
