# ruff: noqa: PT012, SIM117 -- what happens inside and at the end of a block is what is tested
from __future__ import annotations

import errno
import hashlib
import os

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError, DiffioTransferError
from airflow_provider_diffio.storage import resolve
from tests.storage.stores import LooseFileSystem, StubbornFileSystem

OLD = b"what was there before"
NEW = os.urandom(100_000)


class TestAStoreWithoutCommit:
    def test_it_publishes_half_a_file_when_left_to_itself(self, loose: LooseFileSystem) -> None:
        """The reason for all of this; should it fail, the store has learned to commit."""
        with pytest.raises(RuntimeError), loose.open("/place/a.wav", "wb", autocommit=False) as handle:
            handle.write(NEW)
            raise RuntimeError
        assert loose.contents() == {"/place/a.wav": NEW}

    def test_a_whole_file(self, loose: LooseFileSystem) -> None:
        location = resolve("loose://place/a[1]*.wav")
        with location.writer() as writer:
            writer.write(NEW)
            assert list(loose.contents()) != [location.uri]
            assert not location.exists()
        assert loose.contents() == {"/place/a[1]*.wav": NEW}
        assert location.sha256() == hashlib.sha256(NEW).hexdigest()

    @pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
    def test_an_exception_leaves_the_old_file(
        self, loose: LooseFileSystem, failure: type[BaseException]
    ) -> None:
        loose.pipe_file("/place/a.wav", OLD)
        with pytest.raises(failure), resolve("loose://place/a.wav").writer() as writer:
            writer.write(NEW)
            raise failure
        assert loose.contents() == {"/place/a.wav": OLD}

    def test_what_was_not_expected_is_not_published(self, loose: LooseFileSystem) -> None:
        with pytest.raises(DiffioTransferError), resolve("loose://place/a.wav").writer() as writer:
            writer.expect(sha256="0" * 64)
            writer.write(NEW)
        assert loose.contents() == {}

    def test_a_move_that_fails_leaves_the_old_file(self, loose: LooseFileSystem) -> None:
        loose.pipe_file("/place/a.wav", OLD)
        loose.copy_error = OSError(errno.EIO, "the line is dead")
        with pytest.raises(DiffioTransferError, match="the line is dead"):
            with resolve("loose://place/a.wav").writer() as writer:
                writer.write(NEW)
        assert loose.contents() == {"/place/a.wav": OLD}

    def test_a_store_that_loses_bytes_is_noticed(self, loose: LooseFileSystem) -> None:
        loose.loses_bytes = True
        with pytest.raises(DiffioTransferError, match="kept 99999 of 100000 bytes"):
            with resolve("loose://place/a.wav").writer() as writer:
                writer.write(NEW)
        assert loose.contents() == {}

    def test_a_file_that_appears_meanwhile_stays(self, loose: LooseFileSystem) -> None:
        location = resolve("loose://place/a.wav")
        with pytest.raises(DiffioInputError, match="already"), location.writer(overwrite=False) as writer:
            writer.write(NEW)
            loose.pipe_file("/place/a.wav", OLD)
        assert loose.contents() == {"/place/a.wav": OLD}

    def test_handles_are_independent_though_the_store_gives_one(self, loose: LooseFileSystem) -> None:
        loose.pipe_file("/place/a.wav", OLD)
        location = resolve("loose://place/a.wav")
        with location.open_read() as first, location.open_read() as second:
            assert first.read(5) == OLD[:5]
            assert second.read(3) == OLD[:3]
            assert first.read() == OLD[5:]

    def test_hidden_parts_are_not_listed(self, loose: LooseFileSystem) -> None:
        loose.pipe_file("/place/b.wav", OLD)
        with resolve("loose://place/a.wav").writer() as writer:
            writer.write(NEW)
            assert [f.uri for f in resolve("loose://place/").list_files()] == ["loose://place/b.wav"]


class TestAStoreThatDoesNotRenameOntoAFile:
    def test_directories_are_made(self, stubborn: StubbornFileSystem) -> None:
        with resolve("stubborn://place/2024/a.wav").writer() as writer:
            writer.write(NEW)
        assert stubborn.contents() == {"/place/2024/a.wav": NEW}

    def test_an_old_file_is_moved_aside_and_removed(self, stubborn: StubbornFileSystem) -> None:
        location = resolve("stubborn://place/a.wav")
        for content in (OLD, NEW):
            with location.writer() as writer:
                writer.write(content)
        assert stubborn.refused == 1
        assert stubborn.contents() == {"/place/a.wav": NEW}
