"""Write a file: count, digest, check, and only then publish."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from airflow_provider_diffio.api.errors import DiffioTransferError
from airflow_provider_diffio.storage.background import BackgroundWorker
from airflow_provider_diffio.storage.errors import store_failures

#: Most bytes passed to a store at a time; also the size of a part of an upload to an object store.
WRITE_BLOCK_BYTES = 8 * 2**20

#: Blocks of at least this size are hashed in another thread while they are written and the next one arrives.
#: Hashing takes about as long as those two together.
_HASH_IN_BACKGROUND_BYTES = 128 * 2**10

_PART_SUFFIX = ".part"
_LONGEST_STEM_BYTES = 200


class Sink(Protocol):
    """A way to write a file that stays invisible until it is published."""

    def open(self) -> None:
        """Prepare to write. Nothing becomes visible at the destination."""

    def write(self, block: bytes) -> None:
        """Append some bytes, at most :data:`WRITE_BLOCK_BYTES`."""

    def publish(self) -> None:
        """Make the whole file appear at the destination, in one step."""

    def discard(self) -> None:
        """Remove every trace, in any state. Never raises."""


class Writer:
    """
    Takes the bytes of one file. :meth:`Location.writer` makes one and publishes the file.

    :ivar uri: where the file will be.
    :ivar size_bytes: bytes written so far.
    """

    def __init__(self, sink: Sink, uri: str) -> None:
        self.uri = uri
        self.size_bytes = 0
        self._sink = sink
        self._digest = hashlib.sha256()
        self._hashing = BackgroundWorker("diffio-sha256")
        self._expected_size: int | None = None
        self._expected_sha256: str | None = None
        self._checks: list[Callable[[Writer], None]] = []
        self._open = True

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hexadecimal."""
        self._hashing.wait()
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """
        Append some bytes.

        :param data: any number of bytes.
        :return: the number of bytes: all are written.
        :raises DiffioError: when the store does not accept them.
        :raises ValueError: after the ``with`` block.
        """
        if not self._open:
            raise ValueError(f"{self.uri} is not open for writing any more.")
        if isinstance(data, bytes) and 0 < len(data) <= WRITE_BLOCK_BYTES:
            self._append(data)
            return len(data)
        with memoryview(data) as given, given.cast("B") as view:
            for start in range(0, view.nbytes, WRITE_BLOCK_BYTES):
                self._append(bytes(view[start : start + WRITE_BLOCK_BYTES]))
            return view.nbytes

    def expect(self, *, size_bytes: int | None = None, sha256: str | None = None) -> None:
        """
        State what the block has to write; otherwise nothing is published.

        :param size_bytes: the file's length, None if unknown.
        :param sha256: the file's SHA-256 in hexadecimal, None if unknown.
        """
        if size_bytes is not None:
            self._expected_size = size_bytes
        if sha256 is not None:
            self._expected_sha256 = sha256.lower()

    def check(self, check: Callable[[Writer], None]) -> None:
        """
        Add a function to call after all bytes are written and before they are published.

        :param check: gets this writer. If it raises, nothing is published and the error is passed on.
        """
        self._checks.append(check)

    def verify(self) -> None:
        """
        Compare what was written with :meth:`expect` and run :meth:`check`. The ``with`` block does this at
        its end.

        :raises DiffioTransferError: when something else was expected.
        """
        if self._expected_size not in (None, self.size_bytes):
            raise DiffioTransferError(
                f"{self.size_bytes} bytes arrived for {self.uri}, {self._expected_size} were expected;"
                " nothing was published."
            )
        if self._expected_sha256 not in (None, self.sha256):
            raise DiffioTransferError(
                f"The SHA-256 of {self.uri} would be {self.sha256}, {self._expected_sha256} was expected;"
                " nothing was published."
            )
        for check in self._checks:
            check(self)

    def _append(self, block: bytes) -> None:
        if len(block) >= _HASH_IN_BACKGROUND_BYTES:
            self._hashing.start(self._digest.update, block)
        else:
            self._hashing.wait()
            self._digest.update(block)
        with store_failures("write", self.uri):
            self._sink.write(block)
        self.size_bytes += len(block)

    def _close(self) -> None:
        self._open = False
        self._hashing.end()


@contextmanager
def publishing(sink: Sink, uri: str) -> Iterator[Writer]:
    """
    Write through a sink: publish when the block ends normally, discard when it ends in any other way.

    :param sink: writes the bytes.
    :param uri: the destination without credentials, for messages.
    """
    writer = Writer(sink, uri)
    try:
        with store_failures("write", uri):
            sink.open()
        yield writer
        writer.verify()
        with store_failures("publish", uri):
            sink.publish()
    except BaseException:  # also an interrupt, and a generator that is closed around the block
        sink.discard()
        raise
    finally:
        writer._close()


def part_name(name: str) -> str:
    """Return a hidden name beside ``name`` that no other writer uses."""
    return f".{_stem(name)}.{uuid.uuid4().hex}{_PART_SUFFIX}"


def is_part_name(candidate: str, name: str) -> bool:
    """Tell whether :func:`part_name` could have returned ``candidate`` for ``name``."""
    pattern = rf"\.{re.escape(_stem(name))}\.[0-9a-f]{{32}}{re.escape(_PART_SUFFIX)}"
    return re.fullmatch(pattern, candidate, re.DOTALL) is not None


def _stem(name: str) -> str:
    return name.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore")
