"""What is refused before money is spent, and that the check leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api.errors import DiffioInputError, DiffioTransferError
from airflow_provider_diffio.storage import Location, resolve


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.rglob("*"))


class TestOnADisk:
    @pytest.mark.parametrize("path", ["a.wav", "new/deep/a.wav", "new/", ""])
    def test_a_writable_place_is_left_as_it_is(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "a.wav").write_bytes(b"old")
        resolve(f"{tmp_path}/{path}").check_writable()
        assert (tmp_path / "a.wav").read_bytes() == b"old"
        assert [name for name in names(tmp_path) if name not in ("new", "deep")] == ["a.wav"]

    def test_a_directory_without_its_slash(self, tmp_path: Path) -> None:
        with pytest.raises(DiffioInputError, match=r"Is a directory\. It is a directory: name a file in it"):
            resolve(str(tmp_path)).check_writable()

    @pytest.mark.parametrize("path", ["a.wav/b.wav", "a.wav/x/b.wav", "a.wav/", "a.wav/x/"])
    def test_a_parent_that_is_a_file(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "a.wav").write_bytes(b"old")
        location = resolve(f"{tmp_path}/{path}")
        with pytest.raises(DiffioInputError, match=r"a\.wav is a file, not a directory\. Correct the path"):
            location.check_writable()
        with pytest.raises(DiffioInputError, match="is a file, not a directory"), location.file("b").writer():
            pass

    def test_a_parent_that_is_a_dead_link(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nothing")
        with pytest.raises(DiffioInputError, match="link is a dead symbolic link"):
            resolve(f"{tmp_path}/link/a.wav").check_writable()

    def test_links_that_lead_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "one").symlink_to(tmp_path / "two")
        (tmp_path / "two").symlink_to(tmp_path / "one")
        with pytest.raises(DiffioInputError, match=r"Too many levels.*lead in a circle"):
            resolve(f"{tmp_path}/one/a.wav").check_writable()

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
    def test_a_directory_of_another_user(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        with pytest.raises(DiffioInputError, match=r"Permission denied\. Let"):
            resolve(f"{tmp_path}/a.wav").check_writable()

    def test_a_filesystem_of_the_kernel(self) -> None:
        with pytest.raises(DiffioInputError):
            resolve("/proc/self/a.wav").check_writable()

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.EROFS, "mounted read-only"),
            (errno.EACCES, "the worker's user"),
            (errno.ENAMETOOLONG, "shorter file name"),
        ],
    )
    def test_a_place_that_takes_no_file(
        self, tmp_path: Path, mocker: MockerFixture, number: int, advice: str
    ) -> None:
        mocker.patch.object(Path, "open", side_effect=OSError(number, os.strerror(number)))
        with pytest.raises(DiffioInputError, match=rf"{os.strerror(number)}\..*{advice}"):
            resolve(f"{tmp_path}/a.wav").check_writable()

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(DiffioInputError, match="shorter file name"):
            resolve(f"{tmp_path}/{'x' * 256}").check_writable()

    def test_a_filesystem_that_renames_nothing(self, tmp_path: Path, mocker: MockerFixture) -> None:
        mocker.patch.object(Path, "replace", side_effect=OSError(errno.ENOTSUP, "Operation not supported"))
        mocker.patch("time.sleep")
        with pytest.raises(DiffioInputError, match=r"renames no file.*another filesystem"):
            resolve(f"{tmp_path}/a.wav").check_writable()
        assert names(tmp_path) == []

    def test_a_full_disk_may_have_room_later(self, tmp_path: Path, mocker: MockerFixture) -> None:
        mocker.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(DiffioTransferError, match="No space left"):
            resolve(f"{tmp_path}/a.wav").check_writable()
        assert names(tmp_path) == []

    def test_an_interrupt_leaves_nothing(self, tmp_path: Path, mocker: MockerFixture) -> None:
        mocker.patch("os.fsync", side_effect=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            resolve(f"{tmp_path}/a.wav").check_writable()
        assert names(tmp_path) == []


class TestInABucket:
    @pytest.mark.parametrize("name", ["a.wav", ""])
    def test_a_writable_bucket(self, s3_root: Location, s3_client: Any, bucket: str, name: str) -> None:
        (s3_root.child(name) if name else s3_root).check_writable()
        assert "Contents" not in s3_client.list_objects_v2(Bucket=bucket)
        assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=bucket)

    @pytest.mark.parametrize("path", ["no-such-bucket/a.wav", "no-such-bucket/", "no-such-bucket"])
    def test_no_such_bucket(self, s3_conn_id: str, path: str) -> None:
        with pytest.raises(DiffioInputError, match="NoSuchBucket"):
            resolve(f"s3://{s3_conn_id}@{path}").check_writable()
