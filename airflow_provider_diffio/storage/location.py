"""A file or directory, the same for every kind of store."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, NamedTuple

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.storage.errors import store_failures
from airflow_provider_diffio.storage.file_names import check_component
from airflow_provider_diffio.storage.writer import Sink, Writer, publishing

_HASH_BLOCK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """
    What a store says about a file without reading it.

    :ivar size_bytes: its length.
    :ivar version: what the store changes with the content: an ETag, a generation or a time.
    :ivar encoding: the content encoding that the store removes when the file is read, such as ``gzip``; None
        where it gives the bytes as they are.
    :ivar media_type: what the store was told of the content; None where it was told nothing.
    """

    size_bytes: int
    version: str
    encoding: str | None = None
    media_type: str | None = None

    @property
    def fingerprint(self) -> str:
        """What :meth:`Location.fingerprint` returns for the file."""
        return f"size={self.size_bytes};{self.version}"


class ListedFile(NamedTuple):
    """
    A file as a listing shows it.

    :ivar relative: its path below the directory that was listed.
    :ivar location: the file.
    :ivar facts: what :meth:`Location.fingerprint` would ask for.
    :ivar modified: when it was written last, in seconds since the epoch; None where the store does not tell.
    """

    relative: str
    location: Location
    facts: FileFacts
    modified: float | None


@dataclass(frozen=True)
class Location(ABC):
    """
    A file or directory on the local disk or in an object store. Get one from :func:`resolve`.

    :ivar uri: the place without credentials and connection ids; a plain path for local files.
    :ivar is_directory_like: the path ended with ``/`` (or is a root): add a file name with
        :meth:`child`.
    """

    uri: str
    is_directory_like: bool

    is_local: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The last part of the path: the file's own name. Empty for the root of a store."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def local_path(self) -> Path | None:
        """The path on this machine, or None when the location is elsewhere."""
        return None

    @property
    def address(self) -> str:
        """What resolves to this place again: the :attr:`uri` with the id of its store's connection."""
        return self.uri

    def __str__(self) -> str:
        return self.uri

    def exists(self) -> bool:
        """
        Tell whether a file exists here. False for a directory.

        :raises DiffioError: when the store does not tell, for instance for lack of permission.
        """
        if self.is_directory_like:
            return False
        with store_failures("check", self.uri):
            try:
                self._stat()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return False
            return True

    def size(self) -> int:
        """
        Return the file's length in bytes.

        :raises DiffioInputError: when it does not exist or is a directory.
        """
        return self._facts().size_bytes

    def media_type(self) -> str | None:
        """
        Return the media type that the store was told when the file was written; None where there is none.

        :raises DiffioInputError: when it does not exist or is a directory.
        """
        return self._facts().media_type

    def fingerprint(self) -> str:
        """
        Identify the content cheaply: the text stays the same until the file is written to or replaced.

        It holds the length and the store's own version of the file (ETag, generation or time of change).
        Compare it before and after reading to notice a source that changed meanwhile. It is not secret.

        :raises DiffioInputError: when it does not exist or is a directory.
        """
        return self._facts().fingerprint

    def sha256(self) -> str:
        """
        Read the whole file and return its SHA-256 in hexadecimal.

        :raises DiffioError: when it cannot be read.
        """
        digest = hashlib.sha256()
        with self.open_read() as handle:
            while block := handle.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def child(self, name: str) -> Location:
        """
        Return the file ``name`` in this directory.

        :param name: one plain file name. For untrusted names see :func:`safe_file_name`.
        :raises DiffioInputError: when it is not one plain name and could lead somewhere else.
        """
        check_component(name)
        return self._join(name)

    def parent(self) -> Location:
        """Return the directory that the file is in."""
        return self._parent()

    def file(self, name: str) -> Location:
        """
        Return the file to write: this one, or the file ``name`` in this directory.

        :param name: as for :meth:`child`.
        :raises DiffioInputError: as :meth:`child` does.
        """
        return self.child(name) if self.is_directory_like else self

    def list_files(
        self, pattern: str = "*", *, recursive: bool = True, missing_ok: bool = False
    ) -> Iterator[Location]:
        """
        Find the files in this directory. A location that is a file finds itself.

        Hidden files (``.name``) are found only by a pattern that starts with a dot, as in a shell.

        :param pattern: a shell pattern such as ``*.wav``. It is compared with the path below this directory
            if it has a ``/``, otherwise with the file's name.
        :param recursive: True to search the directories below as well.
        :param missing_ok: True to find nothing, instead of raising, when this place does not exist.
        :return: the files, sorted by name.
        :raises DiffioInputError: when this place does not exist.
        """
        with store_failures("list", self.uri):
            for relative, location in self._found(recursive, missing_ok):
                subject = relative if "/" in pattern else location.name
                hidden = location.name.startswith(".") and not pattern.rpartition("/")[2].startswith(".")
                if not hidden and fnmatchcase(subject, pattern):
                    yield location

    def _found(self, recursive: bool, missing_ok: bool) -> Iterator[tuple[str, Location]]:
        try:
            yield from self._walk(recursive)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def scan(self, *, recursive: bool = True, missing_ok: bool = False) -> Iterator[ListedFile]:
        """
        Find the files in this directory, hidden ones too, with what :meth:`fingerprint` would ask for.

        It costs a store one request for each page of its listing (1,000 names), and none for a file.

        :param recursive: True to search the directories below as well.
        :param missing_ok: True to find nothing, instead of raising, when this place does not exist.
        :return: the files, sorted by name. A location that is a file finds itself.
        :raises DiffioInputError: when this place does not exist.
        """
        with store_failures("list", self.uri):
            try:
                yield from self._scan(recursive)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def describe(self) -> ListedFile:
        """
        Return what a listing would tell of this file, by one request.

        :raises DiffioInputError: when it does not exist or is a directory.
        """
        self._require_file()
        with store_failures("check", self.uri):
            return self._describe()

    def open_read(self) -> io.BufferedIOBase:
        """
        Open the file for reading. Every call returns a new handle.

        :return: a seekable binary handle that buffers a few MiB. Close it, or use it in ``with``.
        :raises DiffioInputError: when it does not exist or is a directory.
        """
        self._require_file()
        with store_failures("read", self.uri):
            return self._open_read()

    def writer(self, *, overwrite: bool = True) -> AbstractContextManager[Writer]:
        """
        Write the file: all of it, or nothing.

        The file appears when the ``with`` block ends normally and the content passes the checks of
        :meth:`Writer.expect`. When the block ends in any other way, an older file stays untouched. Missing
        directories are created. A symbolic link is replaced, not followed.

        :param overwrite: False to never replace a file, even one that appears meanwhile. The default is True.
        :return: a context manager that yields a :class:`Writer`.
        :raises DiffioInputError: when it cannot work (no permission, no such bucket, a directory, the file
            exists).
        :raises DiffioTransferError: when it may work later, or when a check fails.
        """
        self._require_file()
        return publishing(self._sink(overwrite), self.uri)

    def check_writable(self) -> None:
        """
        Make sure that a file can be written here, as far as that can be known without writing it.

        Call it before money is spent. It does what costs little and is undone at once: on a disk or an SFTP
        server it makes missing directories, writes a hidden file of one byte, renames it and removes it; of
        an object store it asks whether the bucket exists. A file that exists here is left alone.

        :raises DiffioInputError: when it cannot be written: a directory without a final ``/``, a file in
            place of a directory, no permission, a read-only or unsuitable filesystem, no such bucket.
        :raises DiffioTransferError: when it may be possible later: a full disk, a store that is away.
        """
        with store_failures("write", self.uri):
            self._probe()

    def _facts(self) -> FileFacts:
        self._require_file()
        with store_failures("check", self.uri):
            facts = self._stat()
        if facts.encoding not in (None, "identity"):
            raise DiffioInputError(
                f"{self.uri} has the content encoding {facts.encoding!r}, so its real length is unknown.",
                advice="Store it again without that encoding.",
            )
        return facts

    def _require_file(self) -> None:
        if self.is_directory_like:
            raise DiffioInputError(
                f"{self.uri} is a directory, not a file.", advice="Add a file name to the path."
            )

    @abstractmethod
    def _stat(self) -> FileFacts:
        """Ask the store, not a cache. Raise FileNotFoundError or IsADirectoryError when it is no file."""

    @abstractmethod
    def _join(self, name: str) -> Location: ...

    @abstractmethod
    def _parent(self) -> Location: ...

    @abstractmethod
    def _walk(self, recursive: bool) -> Iterator[tuple[str, Location]]:
        """Yield the files with their paths below this directory."""

    @abstractmethod
    def _scan(self, recursive: bool) -> Iterator[ListedFile]:
        """Yield the files with what a listing tells of them."""

    @abstractmethod
    def _describe(self) -> ListedFile: ...

    @abstractmethod
    def _open_read(self) -> io.BufferedIOBase: ...

    @abstractmethod
    def _sink(self, overwrite: bool) -> Sink: ...

    @abstractmethod
    def _probe(self) -> None:
        """Try cheaply whether a file can be written here; raise if not."""
