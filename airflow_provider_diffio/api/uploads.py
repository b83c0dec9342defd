"""
The two upload protocols: edge parts, and one signed PUT.

A recording is read through a :class:`Source`, several places at once where it can be opened several times, so
that memory holds blocks and not files.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, Protocol, cast

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.client import BLOCK_BYTES, DiffioClient, Options
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioInputError,
    DiffioSourceChangedError,
    DiffioTransferError,
)
from airflow_provider_diffio.api.media_types import DEFAULT_CONTENT_TYPE, media_type_of
from airflow_provider_diffio.api.models import CreatedProject, EdgeUpload, SignedPutUpload
from airflow_provider_diffio.api.readable import readable_size

log = logging.getLogger(__name__)

#: Parts of one upload that are under way at once.
UPLOAD_CONCURRENCY = 3
#: The limit of one upload that Diffio documents. The session of each upload names the one that is in force.
DOCUMENTED_LIMIT_BYTES = 2 * 1024**3
#: Diffio numbers parts up to here.
MAX_PARTS = 10_000

Moved = Callable[[int], None]


def _count_nothing(_: int) -> None:
    """Stand for somebody who counts bytes, where there is nobody."""


class Source(Protocol):
    """A recording that can be read in slices, by several threads at once."""

    name: str
    size_bytes: int

    def open(self) -> IO[bytes]:
        """Return a seekable stream of its own for the caller, who closes it."""

    def check_unchanged(self) -> None:
        """Raise :class:`DiffioSourceChangedError` when it is no longer what it was at first."""


class StreamSource:
    """
    A seekable binary stream that the caller owns; read from where it stands to its end.

    One stream has one position, so readers take turns and each takes its whole slice into memory.

    :param stream: the stream.
    :param name: the file name that Diffio is told.
    :raises DiffioInputError: when it cannot seek.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        if isinstance(cast("Any", stream), io.TextIOBase):
            raise DiffioInputError("The stream is a text stream; open the recording in binary mode.")
        if not stream.seekable():
            raise DiffioInputError("The stream cannot seek, so a failed part could not be sent again.")
        self.name = name
        self._stream = stream
        self._start = stream.tell()
        self._lock = threading.Lock()
        self.size_bytes = self._measure()

    def open(self) -> IO[bytes]:
        return io.BufferedReader(_SharedStream(self._stream, self._start, self._lock), BLOCK_BYTES)

    def check_unchanged(self) -> None:
        if self._measure() != self.size_bytes:
            raise DiffioSourceChangedError(f"The stream {self.name!r} changed its length while it was read.")

    def _measure(self) -> int:
        with self._lock:
            end = self._stream.seek(0, os.SEEK_END)
            # Left where it was, so that the same stream can be given again after a failure.
            self._stream.seek(self._start)
            return end - self._start


class _SharedStream(io.RawIOBase):
    """One reader's own position in a stream that several readers share."""

    def __init__(self, stream: IO[bytes], start: int, lock: threading.Lock) -> None:
        self._stream, self._start, self._lock, self._at = stream, start, lock, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            with self._lock:
                offset += self._stream.seek(0, os.SEEK_END) - self._start
                self._stream.seek(self._start)
        self._at = max(offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._lock:
            self._stream.seek(self._start + self._at)
            try:
                block = self._stream.read(len(buffer))
            finally:
                self._stream.seek(self._start)
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


def source_of(source: IO[bytes] | Source, file_name: str | None = None) -> Source:
    """
    Return a source from a source or a seekable binary stream.

    :param source: what to upload.
    :param file_name: the name Diffio is told; the source's own when not given.
    :raises DiffioInputError: when it is empty, or nothing of the kind.
    """
    found: Source
    if hasattr(source, "check_unchanged"):
        found = cast("Source", source)
    elif hasattr(source, "read"):
        own_name = getattr(source, "name", None)
        found = StreamSource(source, PurePath(own_name).name if isinstance(own_name, str) else "recording")
    else:
        raise DiffioInputError(f"source must be a path or a binary stream, not {type(source).__name__}.")
    if file_name is not None:
        found.name = file_name
    if found.size_bytes <= 0:
        raise DiffioInputError(f"{found.name} is empty; there is nothing to restore.")
    if found.size_bytes > DOCUMENTED_LIMIT_BYTES:
        log.warning(
            "%s has %d bytes (%s), which is over Diffio's documented limit of %d."
            " The upload session decides.",
            found.name,
            found.size_bytes,
            readable_size(found.size_bytes),
            DOCUMENTED_LIMIT_BYTES,
        )
    return found


def check_size(source: Source, session: EdgeUpload) -> None:
    """
    Refuse a recording that is longer than its upload may be.

    :raises DiffioInputError: before a byte is sent.
    """
    if source.size_bytes > session.max_bytes:
        raise DiffioInputError(
            f"{source.name} has {source.size_bytes} bytes ({readable_size(source.size_bytes)});"
            f" Diffio takes {session.max_bytes} at most ({readable_size(session.max_bytes)}).",
            advice="Split the recording.",
        )


def check_stored(source: Source, stored_bytes: int | None) -> None:
    """
    Check that Diffio holds as many bytes as the recording has, where it says.

    :raises DiffioTransferError: when it holds more or fewer.
    """
    if stored_bytes is not None and stored_bytes != source.size_bytes:
        raise DiffioTransferError(
            f"Diffio stored {stored_bytes} bytes of {source.name}, which has {source.size_bytes}."
        )


def guess_content_type(file_name: str) -> str:
    """Return the media type that the name's ending stands for, ``application/octet-stream`` if unknown."""
    return media_type_of(file_name) or DEFAULT_CONTENT_TYPE


def upload(
    client: DiffioClient,
    project: CreatedProject,
    source: Source,
    content_type: str,
    *,
    concurrency: int = UPLOAD_CONCURRENCY,
    options: Options = None,
    moved: Moved = _count_nothing,
) -> None:
    """
    Send a recording by the protocol that the ``create_project`` response asks for.

    :param client: carries the bytes.
    :param project: the response of ``create_project``.
    :param source: what to send.
    :param content_type: as announced to ``create_project``.
    :param concurrency: parts under way at once.
    :param options: what the calls do differently.
    :param moved: told how many bytes were sent, and below zero how many are sent again. Called by threads.
    :raises DiffioSourceChangedError: when the recording changed meanwhile.
    :raises DiffioError: when it did not arrive whole; a multipart upload is given up first.
    """
    try:
        if isinstance(project.upload, SignedPutUpload):
            with source.open() as stream:
                content = Slice(stream, 0, source.size_bytes, source.name, moved=moved)
                client.put_file(project.upload, content, content_type, options)
            source.check_unchanged()
        else:
            check_size(source, project.upload)
            _EdgeTransfer(client, project.upload, source, concurrency, options, moved).run()
    except DiffioError as error:
        error.project_id = project.api_project_id
        raise


@dataclass
class _EdgeTransfer:
    client: DiffioClient
    session: EdgeUpload
    source: Source
    concurrency: int
    options: Options
    moved: Moved

    def run(self) -> None:
        start = self.client.call_edge(endpoints.start_edge_upload(self.session), self.options)
        try:
            etags = self._send_parts(start.upload_id, start.part_size_bytes or self.session.part_size_bytes)
            self.source.check_unchanged()
            end = self.client.call_edge(
                endpoints.complete_edge_upload(self.session, start.upload_id, etags), self.options
            )
        except BaseException:
            self._abort(start.upload_id)
            raise
        check_stored(self.source, end.size_bytes)

    def _send_parts(self, upload_id: str, part_size: int) -> dict[int, str]:
        starts = range(0, self.source.size_bytes, part_size)
        if len(starts) > MAX_PARTS:
            raise DiffioInputError(
                f"{self.source.name} would need {len(starts)} parts of {part_size} bytes; Diffio takes"
                f" {MAX_PARTS}."
            )
        spans = {
            number: (at, min(part_size, self.source.size_bytes - at))
            for number, at in enumerate(starts, start=1)
        }
        stop = threading.Event()

        def send(number: int) -> str:
            try:
                return self._send_part(upload_id, number, *spans[number], stop)
            except BaseException:
                # Set here, before this lane takes up the next part.
                stop.set()
                raise

        with ThreadPoolExecutor(
            min(self.concurrency, len(spans)), thread_name_prefix="diffio-upload"
        ) as pool:
            sent = {number: pool.submit(send, number) for number in spans}
            try:
                wait(sent.values(), return_when=FIRST_EXCEPTION)
            finally:
                # What is left is not worth sending, whether a part failed or we are interrupted. After a
                # success nothing is left.
                stop.set()
                for future in sent.values():
                    future.cancel()
        _raise_first(sent)
        return {number: future.result() for number, future in sent.items()}

    def _send_part(self, upload_id: str, number: int, at: int, size: int, stop: threading.Event) -> str:
        def sleep(seconds: float) -> None:
            # In steps, so that one failed part does not wait for another one's Retry-After.
            while seconds > 0 and not stop.is_set():
                self.client.sleep(min(seconds, 1.0))
                seconds -= 1.0

        _check_going_on(stop)
        with self.source.open() as stream:
            content = Slice(stream, at, size, self.source.name, stop, self.moved)
            call = endpoints.send_edge_part(self.session, upload_id, number, content)
            return self.client.call_edge(call, self.options, sleep=sleep).etag

    def _abort(self, upload_id: str) -> None:
        try:
            self.client.call_edge(endpoints.abort_edge_upload(self.session, upload_id), {"timeout": 10})
        except DiffioError as error:
            # The first error is the one to know about.
            log.warning("The unfinished upload could not be given up, and expires at Diffio: %s", error)


class _StoppedError(DiffioTransferError):
    """A part that was not sent on because another one failed; never the error that a user sees."""

    transient = False


def _check_going_on(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise _StoppedError("Not sent on, since another part failed.")


def _raise_first(sent: dict[int, Future[str]]) -> None:
    """Raise the failure that stopped the others, not the one of a part that was stopped."""
    errors = [e for future in sent.values() if not future.cancelled() and (e := future.exception())]
    if errors:
        raise next((e for e in errors if not isinstance(e, _StoppedError)), errors[0])


class Slice(io.RawIOBase):
    """
    A span of a stream, as a request body that knows its length and can start over.

    :param stream: the stream; no other code may use it meanwhile.
    :param start: where the span begins.
    :param size: its length in bytes.
    :param name: for messages.
    :param stop: when set, reading ends with an error, which ends the request.
    :param moved: told of what is read.
    """

    def __init__(
        self,
        stream: IO[bytes],
        start: int,
        size: int,
        name: str,
        stop: threading.Event | None = None,
        moved: Moved = _count_nothing,
    ) -> None:
        self._stream, self._start, self._size, self._name = stream, start, size, name
        self._stop, self._moved = stop, moved
        self._at = 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset != 0:
            raise io.UnsupportedOperation("a span only starts over")
        _check_going_on(self._stop)
        self._moved(-self._at)
        self._at = 0
        return 0

    def read(self, size: int | None = -1) -> bytes:
        _check_going_on(self._stop)
        left = self._size - self._at
        if left <= 0:
            return b""
        block = self._read_at(min(left, size if size and size > 0 else left))
        if not block:
            raise DiffioSourceChangedError(f"{self._name} became shorter while it was read.")
        self._at += len(block)
        self._moved(len(block))
        return block

    def _read_at(self, size: int) -> bytes:
        try:
            self._stream.seek(self._start + self._at)
            return self._stream.read(size) or b""
        except OSError as error:
            # As an OSError, the HTTP library would take it for trouble with the network.
            raise DiffioTransferError(
                f"{self._name} could not be read: {error.strerror or type(error).__name__}."
            ) from None
