"""
A directory of small objects, of which each is made whole, and by one process alone.

:meth:`ObjectDirectory.create` is the one thing that no store offers in the same way: of several processes
that create the same name, one succeeds. What holds on which store was tried, see ``docs/guides/ledger.md``.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from contextlib import suppress

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError
from airflow_provider_diffio.storage.errors import store_failures

_PROBE_NAME = ".diffio-exclusive"


class ObjectDirectory(ABC):
    """
    Small objects below one directory or prefix. ``objects_at`` makes one.

    It blocks, and threads may share it.

    :ivar uri: the directory, without credentials and with a final ``/``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") + "/"

    def create(self, name: str, data: bytes) -> bool:
        """
        Create a whole object, unless the name is taken.

        :param name: below the directory, with ``/`` between its parts.
        :param data: its content, which has to be unlike that of every other process.
        :return: True if this call created it, also where the store's refusal was the echo of its own success.
        :raises DiffioError: when the store did not tell; the object may exist then.
        """
        with store_failures("write", self.uri + name):
            return self._create(name, data) or self._read(name) == data

    def read(self, name: str) -> bytes | None:
        """
        Return an object's content as it is now; None when there is no such object.

        :raises DiffioError: when the store did not tell.
        """
        with store_failures("read", self.uri + name):
            return self._read(name)

    def write(self, name: str, data: bytes) -> None:
        """
        Create or replace an object, whole.

        :raises DiffioError: when that did not work.
        """
        with store_failures("write", self.uri + name):
            self._write(name, data)

    def delete(self, name: str) -> None:
        """
        Remove an object, if it is there.

        :raises DiffioError: when that did not work.
        """
        with store_failures("delete", self.uri + name), suppress(FileNotFoundError):
            self._delete(name)

    def names(self, directory: str, prefix: str = "") -> list[str]:
        """
        List the objects below a directory, however deep, as they are now. Hidden ones are left out.

        An object store is asked once for each 1,000 names.

        :param directory: below this one.
        :param prefix: what the paths below ``directory`` begin with.
        :return: their paths below ``directory``, in no particular order; none where it does not exist.
        :raises DiffioError: when the store did not tell.
        """
        with store_failures("list", self.uri + directory):
            found = self._names(directory, prefix)
        return [name for name in found if not _is_hidden(name)]

    def check_exclusive(self) -> None:
        """
        Try whether a name that is taken is refused.

        :raises DiffioInputError: when the store lets a second creation replace the first one.
        :raises DiffioError: when nothing can be written there.
        """
        name = f"{_PROBE_NAME}-{uuid.uuid4().hex}"
        try:
            created = [self.create(name, uuid.uuid4().bytes) for _ in range(2)]
        finally:
            with suppress(DiffioError):
                self.delete(name)
        if created != [True, False]:
            raise DiffioInputError(
                f"The store of {self.uri} lets a second writer replace what a first one has created.",
                advice="No claim would hold there. Choose another store; local and shared disks, SFTP, and"
                " the S3, Google and Azure services themselves do it right.",
            )

    @abstractmethod
    def _create(self, name: str, data: bytes) -> bool: ...

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def _delete(self, name: str) -> None: ...

    @abstractmethod
    def _names(self, directory: str, prefix: str) -> list[str]: ...


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
