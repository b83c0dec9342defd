"""Mounts with one quirk each, as those of network filesystems have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError, DiffioTransferError
from airflow_provider_diffio.storage import Location, resolve
from tests.stores import quirks

OLD = b"what was there before"
NEW = os.urandom(3 * 2**20)
#: With these a file is written as anywhere.
HARMLESS = ("no rename of open files", "no fsync", "no hard links", "no locks")
FULL = ("full at write", "full at close")


@contextmanager
def mount(home: Path, quirk: str) -> Iterator[tuple[Path, Path]]:
    """Mount a directory with a quirk; gives the mount and the directory."""
    behind, shown = home / "behind", home / "shown"
    behind.mkdir()
    shown.mkdir()
    process = subprocess.Popen([sys.executable, quirks.__file__, str(behind), str(shown), quirk])
    try:
        give_up = time.monotonic() + 60
        while not shown.is_mount():
            assert process.poll() is None, "FUSE does not work here"
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield shown, behind
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(shown)], check=False)
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session", params=quirks.QUIRKS)
def mounted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, Path]]:
    """A mount with each quirk."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None:
        pytest.skip("no FUSE here")
    pytest.importorskip("mfusepy")
    with mount(tmp_path_factory.mktemp("mount"), request.param) as (shown, behind):
        yield request.param, shown, behind


@pytest.fixture
def place(mounted: tuple[str, Path, Path], request: pytest.FixtureRequest) -> tuple[str, Location, Path]:
    """The quirk, a file on the mount that exists, and the same file behind the mount."""
    quirk, shown, behind = mounted
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    (behind / name).mkdir()
    (behind / name / "a.wav").write_bytes(OLD)
    return quirk, resolve(f"{shown}/{name}/a.wav"), behind / name / "a.wav"


def left(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def test_replacing_a_file(place: tuple[str, Location, Path]) -> None:
    quirk, location, behind = place
    if quirk in HARMLESS:
        with location.writer() as writer:
            writer.write(NEW)
        assert behind.read_bytes() == NEW
    else:
        kind = DiffioTransferError if quirk in FULL else DiffioInputError
        with pytest.raises(kind), location.writer() as writer:
            writer.write(NEW)
        assert behind.read_bytes() == OLD
    assert left(behind) == ["a.wav"]


def test_a_new_file_that_must_not_replace_one(place: tuple[str, Location, Path]) -> None:
    quirk, location, behind = place
    with pytest.raises(DiffioInputError, match="already"), location.writer(overwrite=False):
        pytest.fail("the block must not run")
    assert location.local_path is not None
    location.local_path.unlink()
    if quirk not in HARMLESS:
        return
    with location.writer(overwrite=False) as writer:
        writer.write(NEW)
    assert behind.read_bytes() == NEW
    assert left(behind) == ["a.wav"]


def test_what_is_said_before_money_is_spent(place: tuple[str, Location, Path]) -> None:
    quirk, location, behind = place
    if quirk in HARMLESS:
        location.check_writable()
    elif quirk in FULL:
        with pytest.raises(DiffioTransferError, match="Free some space"):
            location.check_writable()
    else:
        with pytest.raises(DiffioInputError, match=r"renames no file.*another filesystem"):
            location.check_writable()
    assert behind.read_bytes() == OLD
    assert left(behind) == ["a.wav"]


def test_a_mount_for_reading_alone(tmp_path: Path) -> None:
    """By the kernel itself, where we may mount."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], check=False)
    if made.returncode:
        pytest.skip("this container may not mount")
    try:
        for action in (resolve(f"{tmp_path}/a.wav").check_writable, resolve(f"{tmp_path}/x/").check_writable):
            with pytest.raises(DiffioInputError, match=r"Read-only file system\. It is mounted read-only"):
                action()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
