"""A recording in a store, as the upload protocols read it."""

from __future__ import annotations

import hashlib
import io
from typing import IO, Any, cast

from airflow_provider_diffio.api.errors import DiffioSourceChangedError
from airflow_provider_diffio.storage import Location

#: A recording's digest is one of the digests of its blocks, so that parts that are read side by side can
#: each add theirs. Stored digests depend on this size: it never changes.
BLOCK_BYTES = 2**20


class LocationSource:
    """
    A file at a location, opened as often as there are readers.

    :param location: where it is, kept as ``location``.
    :raises DiffioInputError: when there is no readable file.
    """

    def __init__(self, location: Location) -> None:
        self.name = location.name
        self.size_bytes = location.size()
        self.location = location
        self._fingerprint = location.fingerprint()
        self._blocks: dict[int, bytes] = {}

    def open(self) -> IO[bytes]:
        """Return a seekable stream of its own for the caller, who closes it."""
        return cast("IO[bytes]", _DigestedStream(self.location.open_read(), self.size_bytes, self._blocks))

    def check_unchanged(self) -> None:
        """Raise :class:`DiffioSourceChangedError` when it is not what it was when it was opened first."""
        if self.location.fingerprint() != self._fingerprint:
            raise DiffioSourceChangedError(f"{self.location.uri} changed while it was read.")

    @property
    def content_digest(self) -> str | None:
        """
        The digest of the content that was uploaded; None when there is another one by now.

        It costs no reading of its own where every block was read in one go. Parts whose size is no multiple
        of a block's cut blocks in two; then the file is read once more.
        """
        count = -(-self.size_bytes // BLOCK_BYTES)
        if len(self._blocks) == count:
            return _digest_of(self._blocks[number] for number in range(count))
        digest = content_digest(self.location)
        return digest if self.location.fingerprint() == self._fingerprint else None


def content_digest(location: Location) -> str:
    """
    Read a whole file, and return the digest of its content.

    :param location: the file.
    :raises DiffioError: when it cannot be read.
    """
    return stream_digest(location.open_read())


def stream_digest(stream: IO[bytes] | io.BufferedIOBase) -> str:
    """
    Read a whole stream, close it, and return the digest of its content, as :func:`content_digest` does.

    :param stream: the stream, at its beginning.
    """
    blocks = []
    with stream:
        while block := _read_block(stream):
            blocks.append(hashlib.sha256(block).digest())
    return _digest_of(blocks)


def _read_block(stream: IO[bytes] | io.BufferedIOBase) -> bytes:
    """Read a whole block; a stream may return fewer bytes than it is asked for."""
    block = b""
    while len(block) < BLOCK_BYTES and (piece := stream.read(BLOCK_BYTES - len(block))):
        block += piece
    return block


def _digest_of(blocks: Any) -> str:
    return hashlib.sha256(b"".join(blocks)).hexdigest()


class _DigestedStream(io.RawIOBase):
    """Notes the digest of each block that is read from its beginning to its end."""

    def __init__(self, stream: io.BufferedIOBase, size_bytes: int, blocks: dict[int, bytes]) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._blocks = blocks
        self._at = 0
        #: How far the block under way has been read without a gap; None outside of any such block.
        self._digested: int | None = None
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = self._stream.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._note(data)
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _note(self, data: bytes) -> None:
        with memoryview(data) as view:
            start = 0
            while start < len(view):
                at = self._at + start
                left = BLOCK_BYTES - at % BLOCK_BYTES
                self._add(at, view[start : start + left])
                start += left

    def _add(self, at: int, piece: memoryview) -> None:
        if at % BLOCK_BYTES == 0:
            self._digest, self._digested = hashlib.sha256(), at
        if self._digested != at:
            self._digested = None
            return
        self._digest.update(piece)
        self._digested = end = at + len(piece)
        if end % BLOCK_BYTES == 0 or end == self._size_bytes:
            self._blocks[at // BLOCK_BYTES] = self._digest.digest()
