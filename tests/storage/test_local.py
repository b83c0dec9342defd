# ruff: noqa: PT012 -- what happens inside and at the end of a block is what is tested
from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError, DiffioTransferError
from airflow_provider_diffio.storage import Location, resolve

OLD = b"what was there before"
NEW = os.urandom(100_000)
LOCAL = "airflow_provider_diffio.storage.local"


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.rglob("*"))


@pytest.fixture
def target(tmp_path: Path) -> Location:
    """A file that exists."""
    (tmp_path / "a.wav").write_bytes(OLD)
    return resolve(str(tmp_path / "a.wav"))


class TestReading:
    def test_facts(self, target: Location) -> None:
        assert target.exists()
        assert target.size() == len(OLD)
        assert target.sha256() == hashlib.sha256(OLD).hexdigest()

    def test_every_handle_is_its_own(self, target: Location) -> None:
        with target.open_read() as first, target.open_read() as second:
            assert first.read(4) == OLD[:4]
            assert second.read() == OLD
            assert first.seek(-3, os.SEEK_END) == len(OLD) - 3
            assert first.read() == OLD[-3:]

    def test_the_fingerprint_changes_with_the_file(self, target: Location) -> None:
        before = target.fingerprint()
        assert target.fingerprint() == before
        path = target.local_path
        assert path is not None
        path.write_bytes(OLD + b"!")
        longer = target.fingerprint()
        path.write_bytes(OLD[:-1] + b"? ")
        os.utime(path, ns=(0, 1))
        assert len({before, longer, target.fingerprint()}) == 3

    def test_a_missing_file(self, tmp_path: Path) -> None:
        missing = resolve(str(tmp_path / "no" / "a.wav"))
        assert not missing.exists()
        for look in (missing.size, missing.fingerprint, missing.open_read, missing.sha256):
            with pytest.raises(DiffioInputError, match="No such file"):
                look()

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        for location in (resolve(str(tmp_path)), resolve(f"{tmp_path}/")):
            assert not location.exists()
            with pytest.raises(DiffioInputError, match="directory"):
                location.open_read()
            with pytest.raises(DiffioInputError, match="directory"), location.writer():
                pass
        assert names(tmp_path) == []

    def test_a_pipe_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DiffioInputError, match="pipe"):
            resolve(str(tmp_path / "pipe")).open_read()

    def test_no_permission(self, target: Location, mocker: MockerFixture) -> None:
        denied = PermissionError(errno.EACCES, "Permission denied", target.uri)
        mocker.patch.object(Path, "stat", side_effect=denied)
        with pytest.raises(DiffioInputError, match=r"Permission denied\. Let"):
            target.exists()


class TestWriting:
    def test_a_whole_file(self, tmp_path: Path) -> None:
        location = resolve("2024/05/a.wav", default_root=str(tmp_path))
        with location.writer() as writer:
            assert writer.write(NEW[:10]) == 10
            assert writer.write(memoryview(NEW)[10:20]) == 10
            assert writer.write(bytearray(NEW[20:])) == len(NEW) - 20
            assert names(tmp_path / "2024" / "05") != ["a.wav"]
        assert (writer.size_bytes, writer.sha256) == (len(NEW), hashlib.sha256(NEW).hexdigest())
        assert (tmp_path / "2024" / "05" / "a.wav").read_bytes() == NEW
        assert names(tmp_path / "2024" / "05") == ["a.wav"]

    def test_blocks_of_all_sizes(self, tmp_path: Path) -> None:
        """Large ones are hashed beside the writing, and what can change is copied first."""
        location = resolve(str(tmp_path / "a.wav"))
        whole = bytearray()
        changing = bytearray(NEW * 4)
        with location.writer() as writer:
            for count in (1, 0, 300_000, 17, 2**20, 9 * 2**20, 5):
                block = os.urandom(count)
                whole += block
                writer.write(block)
                assert writer.sha256 == hashlib.sha256(whole).hexdigest()
                whole += changing
                writer.write(changing)
                changing[:] = os.urandom(len(changing))
        assert (writer.size_bytes, writer.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
        assert (tmp_path / "a.wav").read_bytes() == whole

    def test_an_old_file_is_replaced_at_once(self, target: Location, tmp_path: Path) -> None:
        with target.open_read() as reader, target.writer() as writer:
            writer.write(NEW)
            assert target.sha256() == hashlib.sha256(OLD).hexdigest()
            assert reader.read() == OLD
        assert target.sha256() == hashlib.sha256(NEW).hexdigest()
        assert names(tmp_path) == ["a.wav"]

    def test_the_umask_is_honoured(self, tmp_path: Path) -> None:
        previous = os.umask(0o027)
        try:
            with resolve(str(tmp_path / "a.wav")).writer() as writer:
                writer.write(NEW)
        finally:
            os.umask(previous)
        assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o640

    def test_an_empty_file(self, tmp_path: Path) -> None:
        with resolve(str(tmp_path / "a.wav")).writer():
            pass
        assert (tmp_path / "a.wav").read_bytes() == b""

    def test_the_longest_name(self, tmp_path: Path) -> None:
        name = "ä" * 127
        with resolve(str(tmp_path / name)).writer() as writer:
            writer.write(NEW)
        assert names(tmp_path) == [name]

    @pytest.mark.usefixtures("target")
    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "a.wav")
        with resolve(str(tmp_path / "link")).writer() as writer:
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert not (tmp_path / "link").is_symlink()

    def test_the_writer_is_over_with_the_block(self, target: Location) -> None:
        with target.writer() as writer:
            pass
        with pytest.raises(ValueError, match="not open"):
            writer.write(b"late")


class TestBreaking:
    @pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_an_exception_leaves_the_old_file(
        self, target: Location, tmp_path: Path, failure: type[BaseException]
    ) -> None:
        with pytest.raises(failure), target.writer() as writer:
            writer.write(NEW)
            raise failure
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_a_closed_generator_leaves_the_old_file(self, target: Location, tmp_path: Path) -> None:
        def copy() -> Iterator[None]:
            with target.writer() as writer:
                writer.write(NEW)
                yield
                writer.write(NEW)

        generator = copy()
        next(generator)
        generator.close()  # type: ignore[attr-defined]
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    @pytest.mark.parametrize(
        "expected", [{"size_bytes": len(NEW) + 1}, {"size_bytes": 0}, {"sha256": "0" * 64}]
    )
    def test_what_was_not_expected_is_not_published(
        self, target: Location, tmp_path: Path, expected: dict[str, int | str]
    ) -> None:
        with pytest.raises(DiffioTransferError, match="nothing was published"), target.writer() as writer:
            writer.expect(**expected)  # type: ignore[arg-type]
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_what_was_expected_is_published(self, target: Location) -> None:
        with target.writer() as writer:
            writer.write(NEW)
            writer.expect(size_bytes=len(NEW))
            writer.expect(sha256=hashlib.sha256(NEW).hexdigest().upper())
        assert target.size() == len(NEW)

    def test_a_failing_check_is_passed_on(self, target: Location, tmp_path: Path) -> None:
        def refuse(_: object) -> None:
            raise LookupError("not what it should be")

        with pytest.raises(LookupError), target.writer() as writer:
            writer.check(refuse)
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == OLD

    def test_a_killed_process_leaves_the_old_file(self, target: Location, tmp_path: Path) -> None:
        with writer_process(target.uri) as process:
            process.send_signal(signal.SIGKILL)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert [location.name for location in resolve(f"{tmp_path}/").list_files()] == ["a.wav"]

    def test_a_full_disk_may_have_room_later(
        self, target: Location, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device"))
        with (
            pytest.raises(DiffioTransferError, match=r"No space left.*Free some space"),
            target.writer() as writer,
        ):
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_a_failure_to_write_back_early_is_not_forgotten(
        self, target: Location, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch(f"{LOCAL}._SYNC_BYTES", len(NEW))
        # the kernel tells a failure once: the fsync at the end succeeds
        mocker.patch(f"{LOCAL}._write_back", side_effect=OSError(errno.EIO, "Input/output error"))
        with pytest.raises(DiffioTransferError, match="Input/output error"), target.writer() as writer:
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_nothing_goes_on_when_the_block_is_over(
        self, target: Location, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch(f"{LOCAL}._SYNC_BYTES", len(NEW))
        begun, may_end = threading.Event(), threading.Event()
        open_at_the_end = []

        def sync(descriptor: int) -> None:
            begun.set()
            may_end.wait(20)
            open_at_the_end.append(os.fstat(descriptor).st_size)

        mocker.patch(f"{LOCAL}._write_back", side_effect=sync)
        with pytest.raises(ValueError, match="stop at once"), target.writer() as writer:
            writer.write(NEW * 5)
            assert begun.wait(20)
            threading.Timer(0.05, may_end.set).start()
            raise ValueError("stop at once")
        assert len(open_at_the_end) == 1
        assert names(tmp_path) == ["a.wav"]
        left = [thread.name for thread in threading.enumerate()]
        assert not [name for name in left if name.startswith(("diffio-sync", "diffio-sha256"))]

    def test_a_parent_that_is_a_file(self, target: Location) -> None:
        with pytest.raises(DiffioInputError), resolve(f"{target.uri}/b.wav").writer():
            pass


class TestOnUnusualMounts:
    """What some mounts do, by their own words; tests/stores has such mounts."""

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
    def test_one_that_cannot_sync(
        self, target: Location, tmp_path: Path, mocker: MockerFixture, number: int
    ) -> None:
        mocker.patch(f"{LOCAL}._SYNC_BYTES", len(NEW))
        refusal = OSError(number, os.strerror(number))
        mocker.patch(f"{LOCAL}._write_back", side_effect=refusal)
        mocker.patch("os.fsync", side_effect=refusal)
        with target.writer() as writer:
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == NEW

    def test_one_whose_close_fails(self, target: Location, tmp_path: Path, mocker: MockerFixture) -> None:
        class Quota(io.BufferedWriter):
            def close(self) -> None:
                was_open = not self.closed
                super().close()
                if was_open:
                    raise OSError(errno.EDQUOT, "Disk quota exceeded")

        mocker.patch.object(Path, "open", lambda path, mode: Quota(io.FileIO(path, mode.replace("b", ""))))
        with pytest.raises(DiffioTransferError, match="Disk quota exceeded"), target.writer() as writer:
            writer.write(NEW)
        mocker.stopall()
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_one_that_renames_no_open_file(
        self, target: Location, tmp_path: Path, mocker: MockerFixture, overwrite: bool
    ) -> None:
        if not overwrite:
            (tmp_path / "a.wav").unlink()

        def only_closed(path: str) -> None:
            for descriptor in Path("/proc/self/fd").iterdir():
                if os.path.realpath(descriptor) == path:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        replace, link = Path.replace, Path.hardlink_to

        def replacing(path: Path, other: Path) -> object:
            only_closed(str(path))
            return replace(path, other)

        def linking(path: Path, other: Path) -> None:
            only_closed(str(other))
            link(path, other)

        mocker.patch.object(Path, "replace", replacing)
        mocker.patch.object(Path, "hardlink_to", linking)
        with target.writer(overwrite=overwrite) as writer:
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == NEW
        assert names(tmp_path) == ["a.wav"]


def test_a_new_name_and_each_directory_above_it_are_synced(tmp_path: Path, mocker: MockerFixture) -> None:
    """A power cut may otherwise take a directory that was made, and the file in it."""
    synced: list[str] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    mocker.patch("os.fsync", recording)
    (tmp_path / "made_before").mkdir()  # perhaps by a process that was killed before it synced it
    with resolve(f"{tmp_path}/made_before/new/deep/a.wav").writer() as writer:
        writer.write(NEW)
    for path in ("made_before/new/deep", "made_before/new", "made_before", ""):
        assert str(tmp_path / path) in synced
    assert synced[0].endswith(".part")


def test_a_directory_that_cannot_be_synced_is_told(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    mocker.patch("os.fsync", failing)
    with resolve(f"{tmp_path}/a.wav").writer() as writer:
        writer.write(NEW)
    assert f"A power cut may undo the last change in {tmp_path}" in caplog.text


class TestWhatKilledWritersLeave:
    @pytest.fixture
    def abandoned(self, target: Location, tmp_path: Path) -> Path:
        """A hidden file whose writer was killed while it wrote to the target."""
        with writer_process(target.uri) as process:
            process.send_signal(signal.SIGKILL)
        (part,) = tmp_path.glob(".a.wav.*.part")
        return part

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_the_next_writer_removes_it(
        self, target: Location, abandoned: Path, tmp_path: Path, overwrite: bool
    ) -> None:
        if not overwrite:
            (tmp_path / "a.wav").unlink()
        with target.writer(overwrite=overwrite) as writer:
            assert not abandoned.exists()
            writer.write(NEW)
        assert names(tmp_path) == ["a.wav"]

    @pytest.mark.usefixtures("abandoned")
    def test_also_where_the_name_is_taken_already(self, target: Location, tmp_path: Path) -> None:
        with pytest.raises(DiffioInputError, match="already"), target.writer(overwrite=False):
            pass
        assert names(tmp_path) == ["a.wav"]

    def test_the_writer_of_another_file_leaves_it(self, abandoned: Path, tmp_path: Path) -> None:
        for name in ("b.wav", "a.wav.bak", "wav"):
            with resolve(str(tmp_path / name)).writer() as writer:
                writer.write(NEW)
        assert abandoned.exists()

    def test_what_is_still_written_stays(self, target: Location, tmp_path: Path) -> None:
        with writer_process(target.uri) as process:
            with target.writer() as writer:
                writer.write(NEW)
                assert len(list(tmp_path.glob(".a.wav.*.part"))) == 2
            assert len(list(tmp_path.glob(".a.wav.*.part"))) == 1
            assert (tmp_path / "a.wav").read_bytes() == NEW
            process.send_signal(signal.SIGTERM)

    def test_two_writers_at_once_both_publish(self, target: Location, tmp_path: Path) -> None:
        with target.writer() as first:
            first.write(OLD)
            with target.writer() as second:
                second.write(NEW)
            assert (tmp_path / "a.wav").read_bytes() == NEW
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_a_file_that_was_removed_before_its_lock_is_made_anew(
        self, target: Location, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        lock = fcntl.flock
        removed: list[Path] = []

        def too_late(descriptor: int, operation: int) -> None:
            if not removed:
                (part,) = tmp_path.glob(".a.wav.*.part")
                part.unlink()
                removed.append(part)
            lock(descriptor, operation)

        mocker.patch("fcntl.flock", too_late)
        with target.writer() as writer:
            writer.write(NEW)
        assert removed
        assert (tmp_path / "a.wav").read_bytes() == NEW
        assert names(tmp_path) == ["a.wav"]

    def test_a_new_file_that_is_being_removed_is_made_anew(
        self, target: Location, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch("fcntl.flock", side_effect=[BlockingIOError(errno.EWOULDBLOCK, "locked"), None])
        with target.writer() as writer:
            writer.write(NEW)
        assert (tmp_path / "a.wav").read_bytes() == NEW
        assert names(tmp_path) == ["a.wav"]

    def test_without_locks_nothing_is_taken_for_abandoned(
        self, target: Location, abandoned: Path, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available"))
        with target.writer() as writer:
            writer.write(NEW)
        assert names(tmp_path) == [abandoned.name, "a.wav"]


@contextmanager
def writer_process(uri: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing to a location; waited for at the end."""
    script = textwrap.dedent(
        f"""
        import time
        from airflow_provider_diffio.storage import resolve
        with resolve({uri!r}).writer() as writer:
            for _ in range(64):
                writer.write(b"x" * 2**20)
            print("written", flush=True)
            time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process


class TestNotOverwriting:
    def test_a_new_file_is_written(self, tmp_path: Path) -> None:
        with resolve(str(tmp_path / "a.wav")).writer(overwrite=False) as writer:
            writer.write(NEW)
        assert names(tmp_path) == ["a.wav"]
        assert (tmp_path / "a.wav").stat().st_nlink == 1

    def test_a_file_that_is_there_is_refused_before_a_byte(self, target: Location) -> None:
        with pytest.raises(DiffioInputError, match="already a file"), target.writer(overwrite=False):
            pytest.fail("the block must not run")

    def test_a_dead_link_is_something_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").symlink_to(tmp_path / "nothing")
        with pytest.raises(DiffioInputError), resolve(str(tmp_path / "a.wav")).writer(overwrite=False):
            pass

    @pytest.mark.parametrize("links", [True, False])
    def test_a_file_that_appears_meanwhile_stays(
        self, tmp_path: Path, mocker: MockerFixture, links: bool
    ) -> None:
        if not links:
            mocker.patch.object(Path, "hardlink_to", side_effect=OSError(errno.EPERM, "no links here"))
        location = resolve(str(tmp_path / "a.wav"))
        with pytest.raises(DiffioInputError, match="already"), location.writer(overwrite=False) as writer:
            writer.write(NEW)
            (tmp_path / "a.wav").write_bytes(OLD)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_a_file_that_appears_in_the_last_instant_stays(
        self, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        location = resolve(str(tmp_path / "a.wav"))
        mocker.patch("os.path.lexists", return_value=False)
        with pytest.raises(DiffioInputError, match="already"), location.writer(overwrite=False) as writer:
            writer.write(NEW)
            (tmp_path / "a.wav").write_bytes(OLD)
        assert (tmp_path / "a.wav").read_bytes() == OLD
        assert names(tmp_path) == ["a.wav"]

    def test_without_hard_links_it_is_renamed(self, tmp_path: Path, mocker: MockerFixture) -> None:
        mocker.patch.object(Path, "hardlink_to", side_effect=OSError(errno.EPERM, "no links here"))
        with resolve(str(tmp_path / "a.wav")).writer(overwrite=False) as writer:
            writer.write(NEW)
        assert names(tmp_path) == ["a.wav"]


class TestListing:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Location:
        for name in ("b.wav", "a.wav", "c.txt", ".hidden.wav", "sub/d.wav", "sub/deep/e[1].wav"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(OLD)
        return resolve(f"{tmp_path}/")

    @pytest.mark.parametrize(
        ("pattern", "recursive", "found"),
        [
            ("*", True, ["a.wav", "b.wav", "c.txt", "d.wav", "e[1].wav"]),
            ("*.wav", True, ["a.wav", "b.wav", "d.wav", "e[1].wav"]),
            ("*.wav", False, ["a.wav", "b.wav"]),
            ("sub/*.wav", True, ["d.wav", "e[1].wav"]),
            (".*", True, [".hidden.wav"]),
            ("*.flac", True, []),
        ],
    )
    def test_patterns(self, tree: Location, pattern: str, recursive: bool, found: list[str]) -> None:
        assert [location.name for location in tree.list_files(pattern, recursive=recursive)] == found

    def test_what_is_found_can_be_read(self, tree: Location) -> None:
        assert {location.sha256() for location in tree.list_files()} == {hashlib.sha256(OLD).hexdigest()}

    def test_links_do_not_lead_out(self, tree: Location, tmp_path_factory: pytest.TempPathFactory) -> None:
        outside = tmp_path_factory.mktemp("outside")
        (outside / "secret.wav").write_bytes(OLD)
        root = tree.local_path
        assert root is not None
        (root / "linked.wav").symlink_to(outside / "secret.wav")
        (root / "linked").symlink_to(outside)
        (root / "inner.wav").symlink_to(root / "a.wav")
        assert [f.name for f in tree.list_files("*.wav", recursive=False)] == ["a.wav", "b.wav", "inner.wav"]
        assert "secret.wav" not in [f.name for f in tree.list_files()]

    def test_a_file_finds_itself(self, tree: Location) -> None:
        assert list(tree.child("a.wav").list_files()) == [tree.child("a.wav")]

    def test_nothing_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DiffioError, match="No such file"):
            list(resolve(f"{tmp_path}/missing/").list_files())
