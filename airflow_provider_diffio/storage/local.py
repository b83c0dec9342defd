"""Files on this machine: written beside the destination, then renamed."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.storage.background import BackgroundWorker
from airflow_provider_diffio.storage.errors import already_there
from airflow_provider_diffio.storage.location import FileFacts, ListedFile, Location
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
#: The errors of filesystems that cannot sync; they write when they see fit.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
#: The errors of filesystems without hard links.
NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
#: Stands for the file that is to be written in a directory, where its name is not known yet.
_PROBE_NAME = ".diffio-probe"
#: Pauses in seconds before a rename is tried again: some mounts rename no open file, and learn late of a
#: close.
_RENAME_PAUSES = (0.0, 0.05, 0.2, 0.75)


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
        return _facts_of(self.path.stat())

    def _join(self, name: str) -> LocalLocation:
        return LocalLocation.of(self.path / name)

    def _parent(self) -> LocalLocation:
        return LocalLocation.of(self.path.parent, is_directory_like=True)

    def _walk(self, recursive: bool) -> Iterator[tuple[str, Location]]:
        if self.path.is_dir():
            yield from _files_below(self.path, self.path.resolve(), "", recursive)
            return
        self._stat()
        yield self.path.name, self

    def _scan(self, recursive: bool) -> Iterator[ListedFile]:
        for relative, location in self._walk(recursive):
            with suppress(FileNotFoundError):  # removed since it was listed
                yield location._describe()._replace(relative=relative)

    def _describe(self) -> ListedFile:
        status = self.path.stat()
        return ListedFile(self.name, self, _facts_of(status), status.st_mtime)

    def _open_read(self) -> io.BufferedIOBase:
        self._stat()  # before opening: opening a named pipe would wait for a writer
        return io.BufferedReader(io.FileIO(self.path), _READ_BUFFER_BYTES)

    def _sink(self, overwrite: bool) -> Sink:
        return LocalSink(self.path, overwrite=overwrite)

    def _probe(self) -> None:
        """Write a hidden file, rename it and remove it: what a download will do, without its bytes."""
        target = self.path / _PROBE_NAME if self.is_directory_like else self.path
        sink = LocalSink(target, overwrite=True)
        try:
            sink.open()
            sink.write(b"?")
            sink.try_rename()
        finally:
            sink.discard()


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
        self._file: io.BufferedWriter | io.FileIO | None = None
        self._created = False
        self._unsynced = 0
        self._syncing = BackgroundWorker("diffio-sync")

    def open(self) -> None:
        """Create the directories and the hidden file, with the permissions of the umask."""
        _remove_abandoned(self._target)
        self._check_target()
        _make_directories(self._target.parent)
        self._created = True  # from here on the file may exist, even if an interrupt hits in between
        self._file = self._part.open("xb")
        while not _lock(self._file.fileno(), self._part):
            # Another writer removed it between its creation and the lock.
            self.discard()
            self._part = self._target.with_name(part_name(self._target.name))
            self._created = True
            self._file = self._part.open("xb")

    def write(self, block: bytes) -> None:
        """Append to the hidden file."""
        with memoryview(block) as view:
            for start in range(0, len(block), _PIECE_BYTES):
                self._handle.write(view[start : start + _PIECE_BYTES])
        self._unsynced += len(block)
        if self._unsynced >= _SYNC_BYTES and not self._syncing.is_busy:
            self._unsynced = 0
            self._syncing.start(_start_write_back, self._handle.fileno())

    def publish(self) -> None:
        """Sync the bytes to the disk, close the file, then rename it."""
        self._finish()
        self._check_target()
        self._without_lock_if_need_be(self._replace if self._overwrite else self._link)
        self._created = False
        self._unlock()
        sync_directories(self._target.parent)

    def try_rename(self) -> None:
        """Rename the hidden file to another hidden name: no file of that name can exist."""
        self._finish()
        part, self._part = self._part, self._target.with_name(part_name(self._target.name))
        try:
            self._without_lock_if_need_be(lambda: part.replace(self._part))
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            if error.errno in NO_HARD_LINKS:
                raise OSError(error.errno, f"This filesystem renames no file ({error.strerror})") from error
            raise

    def _finish(self) -> None:
        """Sync and close. The file stays locked by a second descriptor, which another writer respects."""
        self._syncing.wait()  # the kernel reports a failed write-back once: the last fsync may not know of it
        self._syncing.end()
        self._handle.flush()
        with sync_is_optional():
            os.fsync(self._handle.fileno())
        holder = io.FileIO(os.dup(self._handle.fileno()))
        try:
            self._handle.close()  # some mounts report only here that the bytes did not arrive
        finally:
            self._file = holder

    def _without_lock_if_need_be(self, rename: Callable[[], object]) -> None:
        """Rename under the lock, or where a mount renames no open file, right after the lock is gone."""
        try:
            rename()
            return
        except (DiffioError, FileNotFoundError):
            raise
        except OSError:
            self._unlock()
        for pause in _RENAME_PAUSES:
            time.sleep(pause)
            with suppress(OSError):
                rename()
                return
        rename()

    def _unlock(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk: closing flushes
                self._file.close()

    def discard(self) -> None:
        """Remove the hidden file."""
        self._syncing.end()  # before the descriptor can be reused for another file
        self._unlock()
        if self._created:
            try:
                self._part.unlink(missing_ok=True)
            except OSError as error:
                log.warning("Could not remove the temporary file %s: %s", self._part, error)

    @property
    def _handle(self) -> io.BufferedWriter:
        if not isinstance(self._file, io.BufferedWriter):
            raise ValueError("The file is not open.")  # noqa: TRY004 -- as Python's own files do
        return self._file

    def _check_target(self) -> None:
        try:
            status = self._target.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._target))
        if not self._overwrite:
            raise already_there(str(self._target))

    def _replace(self) -> None:
        self._part.replace(self._target)

    def _link(self) -> None:
        """Give the file its name unless the name is taken. A rename would replace the other file."""
        try:
            self._target.hardlink_to(self._part)
        except FileExistsError:
            raise already_there(str(self._target)) from None
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            # The check a moment ago has to suffice: reserving the name first would show an empty file.
            self._replace()
            return
        try:
            self._part.unlink()
        except OSError as error:
            log.warning("Could not remove the temporary file %s: %s", self._part, error)


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


def _facts_of(status: os.stat_result) -> FileFacts:
    _require_regular(status.st_mode)
    return FileFacts(size_bytes=status.st_size, version=f"mtime_ns={status.st_mtime_ns}")


def _make_directories(directory: Path) -> None:
    """Make what is missing of a directory's path, and name what is in the way if it cannot be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        for parent in (directory, *directory.parents):
            if os.path.lexists(parent) and not parent.is_dir():
                kind = "a dead symbolic link" if parent.is_symlink() else "a file, not a directory"
                raise NotADirectoryError(errno.ENOTDIR, f"{parent} is {kind}") from None
        raise


@contextmanager
def sync_is_optional() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _start_write_back(descriptor: int) -> None:
    with sync_is_optional():
        _write_back(descriptor)


def sync_directories(directory: Path) -> None:
    """
    Make a new name survive a power cut: in its directory, and that directory in those above it.

    All up to the mount point, since a killed process may have made one of them and not synced it. To sync a
    directory that has not changed costs some microseconds.
    """
    current = Path(os.path.realpath(directory))
    for above in (current, *current.parents):
        _sync_directory(above)
        if above.is_mount():
            return


def _sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # it cannot be read, only be passed through
        return
    try:
        with sync_is_optional():
            os.fsync(descriptor)
    except OSError as error:
        log.warning(
            "A power cut may undo the last change in %s, which could not be synced: %s", directory, error
        )
    finally:
        os.close(descriptor)
