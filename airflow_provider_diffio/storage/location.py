"""One place that bytes come from or go to, whatever kind of store it is on."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

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
    :ivar version: whatever the store changes when the content changes: an ETag, a generation, a time.
    """

    size_bytes: int
    version: str


@dataclass(frozen=True)
class Location(ABC):
    """
    A file or directory on the local disk or in an object store. Get one from :func:`resolve`.

    :ivar uri: the place, free of credentials and connection ids; a plain path for local files.
    :ivar is_directory_like: the path ended with ``/`` (or is a root): a file name has to be added by
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

    def __str__(self) -> str:
        return self.uri

    def exists(self) -> bool:
        """
        Tell whether there is a file (a directory is none).

        :raises DiffioError: when the store does not say, for lack of permission for instance.
        """
        if self.is_directory_like:
            return False
        with store_failures("look at", self.uri):
            try:
                self._look()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return False
            return True

    def size(self) -> int:
        """
        Give the file's length in bytes.

        :raises DiffioInputError: when there is no such file, or it is a directory.
        """
        return self._facts().size_bytes

    def fingerprint(self) -> str:
        """
        Identify the content cheaply: the same text as long as the file was not written to or replaced.

        It is the length with the store's own version of the file (ETag, generation or time of change).
        Compare it before and after reading to notice a source that changed meanwhile. It is no secret.

        :raises DiffioInputError: when there is no such file, or it is a directory.
        """
        facts = self._facts()
        return f"size={facts.size_bytes};{facts.version}"

    def sha256(self) -> str:
        """
        Read the whole file and give its SHA-256 in hexadecimal.

        :raises DiffioError: when it can not be read.
        """
        digest = hashlib.sha256()
        with self.open_read() as handle:
            while block := handle.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def child(self, name: str) -> Location:
        """
        Give the file ``name`` in this directory.

        :param name: one plain file name; see :func:`safe_file_name` for names that somebody else chose.
        :raises DiffioInputError: when it is not one plain name, so that it could lead somewhere else.
        """
        check_component(name)
        return self._join(name)

    def file(self, name: str) -> Location:
        """
        Give the file to write: this one, or in a directory the file ``name``.

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

        :param pattern: a shell pattern such as ``*.wav``; held against the path below this directory if it
            has a ``/``, otherwise against the file's name.
        :param recursive: also look in directories below.
        :param missing_ok: find nothing, instead of raising, when there is nothing at all at this place.
        :return: the files, in the order of their names.
        :raises DiffioInputError: when there is nothing at all at this place.
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

    def open_read(self) -> io.BufferedIOBase:
        """
        Open the file for reading; every call gives a handle of its own.

        :return: a seekable binary handle that keeps a few MiB in memory. Close it, or use it in ``with``.
        :raises DiffioInputError: when there is no such file, or it is a directory.
        """
        self._require_file()
        with store_failures("read", self.uri):
            return self._open_read()

    def writer(self, *, overwrite: bool = True) -> AbstractContextManager[Writer]:
        """
        Write the file: all of it, or nothing.

        Nothing appears at the location before the ``with`` block ends normally and what was written passes
        the checks that were asked for (:meth:`Writer.expect`). When the block ends in any other way, what
        was there before is still there, untouched. Missing directories are created. A symbolic link is
        replaced, not followed.

        :param overwrite: False to refuse to replace a file, even one that appears meanwhile.
        :return: a context manager that gives a :class:`Writer`.
        :raises DiffioInputError: when it can not work (no permission, no such bucket, a directory, file
            exists).
        :raises DiffioTransferError: when it may work later, and when a check fails.
        """
        self._require_file()
        return publishing(self._sink(overwrite), self.uri)

    def _facts(self) -> FileFacts:
        self._require_file()
        with store_failures("look at", self.uri):
            return self._look()

    def _require_file(self) -> None:
        if self.is_directory_like:
            raise DiffioInputError(
                f"{self.uri} is a directory, not a file.", advice="Add a file name to the path."
            )

    @abstractmethod
    def _look(self) -> FileFacts:
        """Ask the store, not a cache; raise FileNotFoundError or IsADirectoryError when it is no file."""

    @abstractmethod
    def _join(self, name: str) -> Location: ...

    @abstractmethod
    def _walk(self, recursive: bool) -> Iterator[tuple[str, Location]]:
        """Give the files with their paths below this directory."""

    @abstractmethod
    def _open_read(self) -> io.BufferedIOBase: ...

    @abstractmethod
    def _sink(self, overwrite: bool) -> Sink: ...
