"""Files on an SFTP server: a connection that is renewed, waits that end, and the protocol's own rename."""

from __future__ import annotations

import errno
import io
import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow_provider_diffio.storage.background import within
from airflow_provider_diffio.storage.errors import already_there
from airflow_provider_diffio.storage.location import FileFacts
from airflow_provider_diffio.storage.remote import READ_BLOCK_BYTES, RemoteLocation, RemoteReader
from airflow_provider_diffio.storage.sftp_session import (
    SessionLostError,
    SftpStore,
    SilentServerError,
)
from airflow_provider_diffio.storage.writer import Sink, is_part_name, part_name

log = logging.getLogger(__name__)

#: Seconds for a request that moves no content, for a block of content, for a listing, and for tidying up.
_REQUEST_SECONDS = 60
_BLOCK_SECONDS = 300
_LISTING_SECONDS = 600
_TIDY_SECONDS = 10
#: A hidden file is abandoned when nothing was written to it for so many seconds of the server's clock.
_ABANDONED_SECONDS = 15 * 60
#: No more names of a directory are searched for abandoned files than these.
_MOST_NAMES = 5_000
_OLD_SUFFIX = ".old"


class SftpLocation(RemoteLocation):
    """A file or directory on an SFTP server."""

    store: SftpStore

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.store.use(lambda fs: fs.info(self.key, timeout=_REQUEST_SECONDS))
        return info

    def _find(self, recursive: bool) -> dict[str, dict[str, Any]]:
        depth = None if recursive else 1
        found = self.store.use(
            lambda fs: fs.find(self.key, maxdepth=depth, timeout=_LISTING_SECONDS, detail=True)
        )
        return dict(found)

    def _open_read(self) -> io.BufferedIOBase:
        self._facts()  # sshfs opens a directory as an empty file
        store = self.store
        return RemoteReader(store.use(lambda fs: _BoundedFile(store, fs.open(self.key, "rb"))), self.uri)

    def _sink(self, overwrite: bool) -> Sink:
        return SftpSink(self, overwrite=overwrite)

    def _probe(self) -> None:
        key = posixpath.join(self.key, _PROBE_NAME) if self.is_directory_like else self.key
        sink = SftpSink(replace(self, key=key, is_directory_like=False), overwrite=True)
        try:
            sink.open()
            sink.write(b"?")
            sink.try_rename()
        finally:
            sink.discard()

    def facts_if_any(self) -> FileFacts | None:
        """Return what is known of the file, None when it does not exist."""
        with suppress(FileNotFoundError):
            return self._stat()
        return None


_PROBE_NAME = ".diffio-probe"


class _BoundedFile:
    """sshfs's open file, each of whose calls ends in time."""

    def __init__(self, store: SftpStore, handle: Any) -> None:
        self._store = store
        self._handle = handle

    def read(self, size: int) -> bytes:
        """Read some bytes, or all the rest with -1, in blocks."""
        blocks = []
        left = size
        while left != 0:
            with self._store.failures():
                wanted = READ_BLOCK_BYTES if left < 0 else min(left, READ_BLOCK_BYTES)
                block = self._handle.read(wanted, timeout=_BLOCK_SECONDS)
            if not block:
                break
            blocks.append(block)
            left -= len(block) if left > 0 else 0
        return b"".join(blocks)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        with self._store.failures():
            return int(self._handle.seek(offset, whence, timeout=_REQUEST_SECONDS))

    def write(self, block: bytes) -> None:
        """Append a block."""
        with self._store.failures():
            self._handle.write(block, timeout=_BLOCK_SECONDS)

    def sync(self) -> None:
        """Have the server sync the file to its disk, if it can."""
        with suppress(OSError), self._store.failures():
            self._handle.fsync(timeout=_BLOCK_SECONDS)

    def close(self, seconds: float) -> None:
        """Close the file on the server."""
        with self._store.failures():
            self._handle._close(timeout=seconds)
            self._handle._closed = True


class SftpSink:
    """
    Writes a hidden file beside the destination and renames it.

    A server with OpenSSH's ``posix-rename`` replaces an older file in one step. The protocol's own rename
    never replaces one, so on other servers the older file is renamed first and removed last.

    :param location: the destination.
    :param overwrite: whether an existing file may be replaced. If not, the protocol's own rename refuses.
    """

    def __init__(self, location: SftpLocation, *, overwrite: bool) -> None:
        self._location = location
        self._store = location.store
        self._overwrite = overwrite
        self._parent = posixpath.dirname(location.key)
        self._name = posixpath.basename(location.key)
        self._part = self._beside(part_name(self._name))
        self._handle: _BoundedFile | None = None
        self._created = False
        self._size_bytes = 0

    def open(self) -> None:
        """Create the hidden file, and the directories that are missing."""
        self._check_target()
        self._created = True
        self._handle = self._store.use(self._create)
        self._sweep()

    def write(self, block: bytes) -> None:
        """Append to the hidden file."""
        self._file.write(block)
        self._size_bytes += len(block)

    def publish(self) -> None:
        """Close the hidden file, check that it is whole, and rename it."""
        self._finish()
        self._check_target()
        if self._overwrite:
            self._replace()
        else:
            self._rename_to_free_name()
        self._created = False

    def try_rename(self) -> None:
        """Rename the hidden file to another hidden name."""
        self._finish()
        other = self._beside(part_name(self._name))
        self._rename(self._part, other)
        self._part = other

    def discard(self) -> None:
        """Remove the hidden file, unless the server no longer responds."""
        handle, self._handle = self._handle, None
        if not self._created:
            return
        try:
            within(_TIDY_SECONDS, lambda: self._withdraw(handle))
        except FileNotFoundError:
            pass
        except Exception as error:
            log.warning(
                "Could not remove the temporary file %s (%s). The next writer of the same file removes it"
                " after %d minutes.",
                self._part,
                type(error).__name__,
                _ABANDONED_SECONDS // 60,
            )

    def _withdraw(self, handle: _BoundedFile | None) -> None:
        try:
            if handle is not None:
                handle.close(_TIDY_SECONDS / 2)
        except SilentServerError:
            raise  # a new connection would take longer than a task whose time is over may wait
        except OSError:
            pass
        self._remove(self._part, _TIDY_SECONDS / 2)

    @property
    def _file(self) -> _BoundedFile:
        if self._handle is None:
            raise ValueError("The file is not open.")
        return self._handle

    def _beside(self, name: str) -> str:
        return posixpath.join(self._parent, name)

    def _check_target(self) -> None:
        try:
            facts = self._location.facts_if_any()
        except IsADirectoryError:
            raise
        except OSError as error:
            self._blame_parents(error)
            raise
        if facts is not None and not self._overwrite:
            raise already_there(self._location.uri)

    def _create(self, fs: Any) -> _BoundedFile:
        try:
            with self._store.failures():
                return _BoundedFile(self._store, fs.open(self._part, "wb"))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._blame_parents(error)
        try:
            with self._store.failures():
                fs.makedirs(self._parent, exist_ok=True, timeout=_REQUEST_SECONDS)
                return _BoundedFile(self._store, fs.open(self._part, "wb"))
        except OSError as error:
            self._blame_parents(error)
            raise

    def _blame_parents(self, error: OSError) -> None:
        """Raise what is wrong: the protocol has one word for most failures."""
        if isinstance(error, SessionLostError):
            raise error
        for parent in _parents(self._parent):
            try:
                with self._store.failures():
                    info = self._store.fs.info(parent, timeout=_REQUEST_SECONDS)
            except SessionLostError:
                raise
            except OSError:
                continue
            if info["type"] != "directory":
                raise NotADirectoryError(errno.ENOTDIR, f"{parent} is a file, not a directory") from error
        if error.errno in (errno.EINVAL, errno.EIO) and len(self._name.encode()) > _LONGEST_NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from error
        raise error

    def _finish(self) -> None:
        file = self._file
        file.sync()
        file.close(_REQUEST_SECONDS)
        with self._store.failures():
            arrived = self._store.fs.info(self._part, timeout=_REQUEST_SECONDS)["size"]
        if arrived != self._size_bytes:
            raise OSError(errno.EIO, f"The server kept {arrived} of {self._size_bytes} bytes")

    def _replace(self) -> None:
        try:
            self._rename(self._part, self._location.key, replace=True)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EIO, errno.EEXIST):
                raise
            if self._location.facts_if_any() is None:
                self._rename(self._part, self._location.key)
            else:
                self._replace_in_steps()

    def _replace_in_steps(self) -> None:
        """Replace a file on a server that renames only to free names. Put the old one back if that fails."""
        displaced = self._part.removesuffix(".part") + _OLD_SUFFIX
        self._rename(self._location.key, displaced)
        try:
            self._rename(self._part, self._location.key)
        except BaseException:
            self._rename(displaced, self._location.key)
            raise
        try:
            self._remove(displaced, _REQUEST_SECONDS)
        except OSError as error:
            log.warning("Could not remove %s, the file that was replaced: %s", displaced, error)

    def _rename_to_free_name(self) -> None:
        try:
            self._rename(self._part, self._location.key)
        except OSError:
            if self._location.facts_if_any() is not None:
                raise already_there(self._location.uri) from None
            raise

    def _rename(self, source: str, target: str, *, replace: bool = False) -> None:
        fs = self._store.fs

        async def rename() -> None:
            async with fs._pool.get() as channel:
                await (channel.posix_rename if replace else channel.rename)(source, target)

        self._run(fs, rename, _REQUEST_SECONDS)

    def _remove(self, key: str, seconds: float) -> None:
        fs = self._store.fs
        with self._store.failures():
            fs.rm_file(key, timeout=seconds)

    def _run(self, fs: Any, action: Callable[[], Any], seconds: float) -> Any:
        from fsspec.asyn import sync

        with self._store.failures():
            return sync(fs.loop, action, timeout=seconds)

    def _sweep(self) -> None:
        """Remove what killed writers of the same file left; put an older file back that one had renamed."""
        fs = self._store.fs

        async def names() -> list[tuple[str, float]]:
            found = []
            async with fs._pool.get() as channel:
                searched = 0
                async for entry in channel.scandir(self._parent):
                    searched += 1
                    if self._is_ours(entry.filename):
                        found.append((entry.filename, entry.attrs.mtime or 0))
                    if searched == _MOST_NAMES:
                        break
            return found

        with suppress(OSError):
            ages = {self._beside(name): time for name, time in self._run(fs, names, _REQUEST_SECONDS)}
            now = ages.pop(self._part, 0)  # by the server's own clock
            for key, time in ages.items():
                if now - time > _ABANDONED_SECONDS:
                    self._tidy(key)

    def _is_ours(self, candidate: str) -> bool:
        return is_part_name(re.sub(rf"{re.escape(_OLD_SUFFIX)}$", ".part", candidate), self._name)

    def _tidy(self, key: str) -> None:
        if key.endswith(_OLD_SUFFIX) and self._location.facts_if_any() is None:
            self._rename(key, self._location.key)
            log.info("Renamed %s back, which a killed process left behind.", key)
        else:
            self._remove(key, _REQUEST_SECONDS)
            log.info("Removed %s, which a killed process left behind.", key)


#: The longest name that common filesystems accept.
_LONGEST_NAME_BYTES = 255


def _parents(path: str) -> Iterator[str]:
    while path not in ("", "/"):
        yield path
        path = posixpath.dirname(path)
