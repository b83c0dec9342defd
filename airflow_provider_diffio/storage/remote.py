"""Files in an object store or on another machine, through fsspec."""

from __future__ import annotations

import errno
import io
import logging
import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_diffio.storage.background import within
from airflow_provider_diffio.storage.errors import already_there, store_failures
from airflow_provider_diffio.storage.filesystems import Store, full_name, kind_of
from airflow_provider_diffio.storage.location import FileFacts, ListedFile, Location
from airflow_provider_diffio.storage.remote_facts import facts_of, modified_of
from airflow_provider_diffio.storage.writer import WRITE_BLOCK_BYTES, Sink, part_name

log = logging.getLogger(__name__)

#: Read ahead per open file. The default of S3's filesystem is 50 MiB.
READ_BLOCK_BYTES = 4 * 2**20

#: Filesystems whose open file is an upload that stays invisible until it is finished, and whether finishing
#: takes ``commit()`` after ``close()``. They have to be listed: ``commit`` and ``discard`` of fsspec's base
#: class do nothing, and those of other filesystems publish at once. Subclasses may differ, so they are not
#: included.
_UPLOADING = {
    "s3fs.core.S3FileSystem": True,
    "gcsfs.core.GCSFileSystem": True,
    "gcsfs.extended_gcsfs.ExtendedGcsFileSystem": True,
    "adlfs.spec.AzureBlobFileSystem": False,
}

#: The classes of their open files. For zonal buckets Google's filesystem has another class, whose files are
#: visible while they are written.
_UPLOADS = frozenset({"s3fs.core.S3File", "gcsfs.core.GCSFile", "adlfs.spec.AzureBlobFile"})

#: The longest wait for a store that has to remove what a failed write left, in seconds.
_TIDY_SECONDS = 10

#: Stands for the file that is to be written in a directory, where its name is not known yet.
_PROBE_NAME = ".diffio-probe"


@dataclass(frozen=True)
class RemoteLocation(Location):
    """A file or directory in a store that fsspec serves."""

    key: str
    store: Store | None = field(repr=False, compare=False)
    conn_id: str | None = field(default=None, repr=False, compare=False)

    @property
    def fs(self) -> Any:
        """fsspec's filesystem; None for a location that is not connected."""
        return None if self.store is None else self.store.fs

    @property
    def address(self) -> str:
        """The URI with the id of the connection that opens the store."""
        scheme, _, rest = self.uri.partition("://")
        return f"{scheme}://{self.conn_id}@{rest}" if self.conn_id else self.uri

    def _stat(self) -> FileFacts:
        return self._describe().facts

    def _join(self, name: str) -> RemoteLocation:
        return self._at(f"{self.key.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    def _parent(self) -> RemoteLocation:
        uri, key = self.uri.rstrip("/").rpartition("/")[0], posixpath.dirname(self.key)
        return replace(self, key=key, uri=f"{uri}/", is_directory_like=True)

    def _walk(self, recursive: bool) -> Iterator[tuple[str, Location]]:
        for relative, location, _ in self._entries(recursive):
            yield relative, location

    def _scan(self, recursive: bool) -> Iterator[ListedFile]:
        for relative, location, info in self._entries(recursive):
            # What is a link is described for itself, and not for the file that it leads to.
            facts = facts_of(info) if info.get("type") == "file" else location._stat()
            yield ListedFile(relative, location, facts, modified_of(info))

    def _entries(self, recursive: bool) -> Iterator[tuple[str, RemoteLocation, dict[str, Any]]]:
        found = self._find(recursive)
        # What the filesystem has kept of the listing would be stale soon, and is large.
        self.fs.invalidate_cache()
        if not found and self._info().get("type") != "directory":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        top = self.key.strip("/")
        for key in sorted(found):
            if key.strip("/") == top:
                yield self.name, self, found[key]
            elif not key.endswith("/"):  # a marker that stands for a directory
                relative = key.strip("/").removeprefix(f"{top}/")
                yield relative, self._at(key, f"{self.uri.rstrip('/')}/{relative}"), found[key]

    def _find(self, recursive: bool) -> dict[str, dict[str, Any]]:
        self._forget()
        return dict(self.fs.find(self.key, maxdepth=None if recursive else 1, detail=True))

    def _describe(self) -> ListedFile:
        info = self._info()
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return ListedFile(self.name, self, facts_of(info), modified_of(info))

    def _open_read(self) -> io.BufferedIOBase:
        self._facts()  # some stores open a directory as an empty file
        return RemoteReader(self.fs.open(self.key, "rb", **_blocks(self.fs, READ_BLOCK_BYTES)), self.uri)

    def _sink(self, overwrite: bool) -> Sink:
        commits = _UPLOADING.get(kind_of(self.fs))
        if commits is None:
            return MoveSink(self, overwrite=overwrite)
        return UploadSink(self, overwrite=overwrite, commits=commits)

    def _probe(self) -> None:
        """Begin an upload and abort it, or ask for the container, whichever the store offers."""
        target = self._join(_PROBE_NAME) if self.is_directory_like else self
        sink = target._sink(overwrite=True)
        try:
            sink.open()
            if isinstance(sink, UploadSink):
                sink.begin()
        finally:
            sink.discard()

    def _at(self, key: str, uri: str) -> RemoteLocation:
        return replace(self, key=key, uri=uri, is_directory_like=False)

    def _info(self) -> dict[str, Any]:
        self._forget()
        info: dict[str, Any] = self.fs.info(self.key)
        return info

    def _forget(self) -> None:
        """Drop cached listings, from which ``info`` would return old facts."""
        self.fs.invalidate_cache(self.key)
        self.fs.invalidate_cache(posixpath.dirname(self.key))


class RemoteReader(io.BufferedIOBase):
    """
    A seekable handle on a remote file that turns failures into this package's errors.

    :param handle: fsspec's own handle; closed with this one.
    :param uri: the file without credentials, for messages.
    """

    def __init__(self, handle: Any, uri: str) -> None:
        self._handle = handle
        self._uri = uri
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer at the end of the file; all the rest if it is negative or None."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        with store_failures("read", self._uri):
            self._handle.seek(self._position)
            data: bytes = self._handle.read(-1 if size is None else size)
        self._position += len(data)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """Read like :meth:`read`, but never more than one block."""
        return self.read(READ_BLOCK_BYTES if size < 0 else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in the file, as for any file."""
        with store_failures("read", self._uri):
            self._handle.seek(self._position)
            self._position = int(self._handle.seek(offset, whence))
        return self._position

    def tell(self) -> int:
        """Return the position in the file."""
        return self._position

    def close(self) -> None:
        """Release the connection and the buffer."""
        if not self.closed:
            with suppress(Exception):  # everything that mattered has been read
                self._handle.close()
        super().close()


class _RemoteSink:
    """The common part of both ways to write to a store."""

    def __init__(self, location: RemoteLocation, *, overwrite: bool) -> None:
        self._location = location
        self._fs = location.fs
        self._overwrite = overwrite
        self._handle: Any = None

    def write(self, block: bytes) -> None:
        """Pass some bytes to the store."""
        self._handle.write(block)

    def _refuse_to_replace(self) -> None:
        if not self._overwrite and self._location.exists():
            raise already_there(self._location.uri)


class UploadSink(_RemoteSink):
    """
    Writes to a store in which an upload is invisible until it is finished.

    A killed process leaves an unfinished upload, which no listing shows. A lifecycle rule of the bucket (such
    as S3's ``AbortIncompleteMultipartUpload``) removes it.

    :param location: the destination.
    :param overwrite: whether an existing file may be replaced. If not, the store itself refuses when it
        finishes the upload, so that no other file is lost in a race.
    :param commits: whether ``commit()`` finishes the open file; otherwise ``close()`` does.
    """

    def __init__(self, location: RemoteLocation, *, overwrite: bool, commits: bool) -> None:
        super().__init__(location, overwrite=overwrite)
        self._commits = commits

    def open(self) -> None:
        """Get ready. The upload itself starts when the first block is full."""
        self._refuse_to_replace()
        options = {"autocommit": False} if self._commits else {}
        mode = "wb" if self._overwrite else "xb"
        self._handle = self._fs.open(self._location.key, mode, block_size=WRITE_BLOCK_BYTES, **options)
        with suppress(ValueError):  # it joins the filesystem's transaction, whose end would publish it
            self._fs.transaction.files.remove(self._handle)
        kind = full_name(type(self._handle))
        if kind not in _UPLOADS:
            raise NotImplementedError(f"this kind of bucket ({kind}) has no uploads that can be aborted")

    def begin(self) -> None:
        """Start the upload, or ask for the container: a store refuses that where it refuses the file."""
        if self._commits:
            self._handle._initiate_upload()
            return
        container = self._location.key.partition("/")[0]
        with suppress(PermissionError):  # of which a credential for some blobs alone may not know
            self._fs.info(container)

    def publish(self) -> None:
        """Send the last block and finish the upload."""
        if not self._commits:
            self._refuse_to_replace()
            self._handle.close()
            return
        self._handle.close()
        self._refuse_to_replace()  # for an empty file s3fs does not ask the store to refuse
        self._handle.commit()

    def discard(self) -> None:
        """Abort the upload."""
        if self._handle is None:
            return
        try:
            if self._commits:
                within(_TIDY_SECONDS, self._handle.discard)
        except Exception as error:
            log.warning(
                "Could not abort the upload to %s (%s). It stays invisible, but the store may charge for it"
                " until a lifecycle rule of the bucket removes it.",
                self._location.uri,
                type(error).__name__,
            )
        finally:
            self._handle.closed = (
                True  # or else the garbage collector closes it, which would start an upload anew
            )


class MoveSink(_RemoteSink):
    """
    Writes to a store that shows a file while it is written: under a hidden name that is moved when complete.

    :param location: the destination.
    :param overwrite: whether an existing file may be replaced. If not, a file that appears in the instant
        between the last check and the move is lost: these stores offer nothing better.
    """

    def __init__(self, location: RemoteLocation, *, overwrite: bool) -> None:
        super().__init__(location, overwrite=overwrite)
        self._parent = posixpath.dirname(location.key)
        self._part = self._beside()
        self._size_bytes = 0

    def open(self) -> None:
        """Create the hidden file, and the directory if the store needs one."""
        self._refuse_to_replace()
        try:
            self._handle = self._fs.open(self._part, "wb", **_blocks(self._fs, WRITE_BLOCK_BYTES))
        except FileNotFoundError:
            self._fs.makedirs(self._parent, exist_ok=True)
            self._handle = self._fs.open(self._part, "wb", **_blocks(self._fs, WRITE_BLOCK_BYTES))

    def write(self, block: bytes) -> None:
        """Append to the hidden file."""
        super().write(block)
        self._size_bytes += len(block)

    def publish(self) -> None:
        """Close the hidden file, check that it is whole, and move it."""
        self._handle.close()
        self._fs.invalidate_cache(self._parent)
        arrived = self._fs.info(self._part)["size"]
        if arrived != self._size_bytes:
            raise OSError(errno.EIO, f"The store kept {arrived} of {self._size_bytes} bytes")
        self._refuse_to_replace()
        try:
            self._move(self._part, self._location.key)
        except Exception:
            if not self._overwrite or not self._location.exists():
                raise
            self._move_around()
        self._fs.invalidate_cache(self._parent)

    def discard(self) -> None:
        """Remove the hidden file."""
        if self._handle is None:
            return
        with suppress(Exception):  # closing sends the buffer, which is useless now
            within(_TIDY_SECONDS, self._handle.close)
        self._remove(self._part)

    def _move_around(self) -> None:
        """Replace a file in a store that cannot move onto one. Put the old one back if that fails."""
        displaced = self._beside()
        self._move(self._location.key, displaced)
        try:
            self._move(self._part, self._location.key)
        except BaseException:
            self._move(displaced, self._location.key)
            raise
        self._remove(displaced)

    def _move(self, source: str, target: str) -> None:
        """Rename if the store can, but not with fsspec's own ``mv``, which takes ``[1]`` for a pattern."""
        from fsspec import AbstractFileSystem

        if type(self._fs).mv is not AbstractFileSystem.mv or hasattr(self._fs, "_mv"):
            self._fs.mv(source, target)
        else:
            self._fs.cp_file(source, target)
            self._fs.rm_file(source)

    def _remove(self, key: str) -> None:
        try:
            within(_TIDY_SECONDS, lambda: self._fs.rm_file(key))
        except FileNotFoundError:
            pass
        except Exception as error:
            log.warning("Could not remove the temporary file %s: %s", key, type(error).__name__)

    def _beside(self) -> str:
        return f"{self._parent}/{part_name(posixpath.basename(self._location.key))}"


def _blocks(fs: Any, size_bytes: int) -> dict[str, int]:
    """Set the size of blocks where that means a buffer: S3's default costs 50 MiB per file."""
    is_buffered = any(full_name(cls) in _UPLOADING for cls in type(fs).__mro__)
    return {"block_size": size_bytes} if is_buffered else {}
