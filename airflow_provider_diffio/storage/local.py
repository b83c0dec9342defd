"""Files on this machine: written beside the destination, then renamed."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airflow_provider_diffio.storage.background import BackgroundWorker
from airflow_provider_diffio.storage.errors import already_there
from airflow_provider_diffio.storage.location import FileFacts, Location
from airflow_provider_diffio.storage.writer import Sink, is_part_name, part_name

log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 2**20
#: Bytes per system call. For larger calls the kernel allocates larger pages. A virtual machine may have
#: returned those to its host, and getting them back takes several times as long as the writing (measured: 2.4
#: s per GiB in calls of 1 MiB, 0.7 s in small ones).
_PIECE_BYTES = 32 * 2**10
#: Write-back to the disk starts after this many bytes, instead of with all of them at the end.
_SYNC_BYTES = 64 * 2**20
_write_back = getattr(os, "fdatasync", os.fsync)  # macOS lacks the former
#: The errors of filesystems without hard links.
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)


@dataclass(frozen=True)
class LocalLocation(Location):
    """A file or directory on this machine."""

    path: Path

    is_local: ClassVar[bool] = True

    @property
    def local_path(self) -> Path:
        """The path on this machine."""
        return self.path

    @classmethod
    def of(cls, path: Path, *, is_directory_like: bool = False) -> LocalLocation:
        """
        Make one from an absolute path.

        :param path: the path.
        :param is_directory_like: True for a directory, to which a file name has to be added.
        """
        uri = str(path)
        if is_directory_like and not uri.endswith("/"):
            uri += "/"
        return cls(uri=uri, is_directory_like=is_directory_like, path=path)

    def _stat(self) -> FileFacts:
        status = self.path.stat()
        _require_regular(status.st_mode)
        return FileFacts(size_bytes=status.st_size, version=f"mtime_ns={status.st_mtime_ns}")

    def _join(self, name: str) -> LocalLocation:
        return LocalLocation.of(self.path / name)

    def _walk(self, recursive: bool) -> Iterator[tuple[str, Location]]:
        if self.path.is_dir():
            yield from _files_below(self.path, self.path.resolve(), "", recursive)
            return
        self._stat()
        yield self.path.name, self

    def _open_read(self) -> io.BufferedIOBase:
        self._stat()  # before opening: opening a named pipe would wait for a writer
        return io.BufferedReader(io.FileIO(self.path), _READ_BUFFER_BYTES)

    def _sink(self, overwrite: bool) -> Sink:
        return LocalSink(self.path, overwrite=overwrite)


class LocalSink:
    """
    Writes a hidden file in the destination's own directory and renames it, which is one atomic step.

    The writer holds a lock on the hidden file. A killed process cannot remove its file, but it loses the
    lock: the next writer of the same destination removes the file.

    :param target: the destination.
    :param overwrite: whether an existing file may be replaced.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        self._part = target.with_name(part_name(target.name))
        self._file: io.BufferedWriter | None = None
        self._created = False
        self._unsynced = 0
        self._syncing = BackgroundWorker("diffio-sync")

    def open(self) -> None:
        """Create the directories and the hidden file, with the permissions of the umask."""
        _remove_abandoned(self._target)
        self._check_target()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._created = True  # from here on the file may exist, even if an interrupt hits in between
        self._file = self._part.open("xb")
        while not _lock(self._file.fileno(), self._part):
            # Another writer removed it between its creation and the lock.
            self.discard()
            self._part = self._target.with_name(part_name(self._target.name))
            self._file = self._part.open("xb")

    def write(self, block: bytes) -> None:
        """Append to the hidden file."""
        with memoryview(block) as view:
            for start in range(0, len(block), _PIECE_BYTES):
                self._handle.write(view[start : start + _PIECE_BYTES])
        self._unsynced += len(block)
        if self._unsynced >= _SYNC_BYTES and not self._syncing.is_busy:
            self._unsynced = 0
            self._syncing.start(_write_back, self._handle.fileno())

    def publish(self) -> None:
        """Sync the bytes to the disk, then rename the file."""
        self._syncing.wait()  # the kernel reports a failed write-back once: the last fsync may not know of it
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._check_target()
        if self._overwrite:
            self._part.replace(self._target)
        else:
            self._link()
        self._created = False
        self._syncing.end()
        self._handle.close()  # this releases the lock, which the file needs until it has its name
        _sync_directory(self._target.parent)

    def discard(self) -> None:
        """Remove the hidden file."""
        self._syncing.end()  # before the descriptor can be reused for another file
        if self._file is not None:
            with suppress(OSError):  # a full disk: closing flushes
                self._file.close()
        if self._created:
            try:
                self._part.unlink(missing_ok=True)
            except OSError as error:
                log.warning("Could not remove the temporary file %s: %s", self._part, error)

    @property
    def _handle(self) -> io.BufferedWriter:
        if self._file is None:
            raise ValueError("The file is not open.")
        return self._file

    def _check_target(self) -> None:
        if self._target.is_dir() and not self._target.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._target))
        if not self._overwrite and os.path.lexists(self._target):
            raise already_there(str(self._target))

    def _link(self) -> None:
        """Give the file its name unless the name is taken. A rename would replace the other file."""
        try:
            self._target.hardlink_to(self._part)
        except FileExistsError:
            raise already_there(str(self._target)) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # The check a moment ago has to suffice: reserving the name first would show an empty file.
            self._part.replace(self._target)
        else:
            self._part.unlink()


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a new file. False if another writer removed it or is about to."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A filesystem without locks: no writer can lock there, so none takes the file for abandoned.
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_abandoned(target: Path) -> None:
    """Remove the hidden files that killed writers of ``target`` left, as far as that is certain."""
    try:
        with os.scandir(target.parent) as entries:
            parts = [entry.path for entry in entries if is_part_name(entry.name, target.name)]
    except OSError:  # the directory does not exist yet, or cannot be listed
        return
    for part in parts:
        with suppress(OSError):  # locked and so in use; or another user's; or gone
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(part).unlink()
                log.info("Removed %s, which a killed process left behind.", part)
            finally:
                os.close(descriptor)


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a device, pipe or socket, not a file")


def _files_below(directory: Path, root: Path, prefix: str, recursive: bool) -> Iterator[tuple[str, Location]]:
    """Yield files sorted by name. Skip links to directories and links that lead out of the root."""
    with os.scandir(directory) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = directory / entry.name
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from _files_below(path, root, f"{prefix}{entry.name}/", recursive)
        elif entry.is_symlink() and not path.resolve().is_relative_to(root):
            log.warning("Skipped %s: it is a link that leads out of %s.", path, root)
        elif entry.is_file():
            yield f"{prefix}{entry.name}", LocalLocation.of(path)


def _sync_directory(directory: Path) -> None:
    """Make the new name survive a power cut, where the filesystem supports that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
