"""A connection to an SFTP server that is renewed when it is lost, and whose errors say what they mean."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow_provider_diffio._compat import filesystem_factories
from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A connection that is silent for ``interval * (count + 1)`` seconds is closed, and what waits for it fails.
_CONNECTION_OPTIONS: dict[str, Any] = {
    "connect_timeout": 30,
    "login_timeout": 30,
    "keepalive_interval": 15,
    "keepalive_count_max": 3,
}
#: asyncssh's errors, by name: importing it takes its time. Others have no better reason than their text.
_ERRNOS = {
    "SFTPNoSuchFile": errno.ENOENT,
    "SFTPNoSuchPath": errno.ENOENT,
    "SFTPPermissionDenied": errno.EACCES,
    "SFTPOpUnsupported": errno.ENOTSUP,
    "SFTPFileAlreadyExists": errno.EEXIST,
    "SFTPWriteProtect": errno.EROFS,
    "SFTPNoSpaceOnFilesystem": errno.ENOSPC,
    "SFTPQuotaExceeded": errno.EDQUOT,
    "SFTPNotADirectory": errno.ENOTDIR,
    "SFTPLinkLoop": errno.ELOOP,
    "SFTPFileIsADirectory": errno.EISDIR,
    "SFTPInvalidFilename": errno.EINVAL,
    "SFTPBadMessage": errno.EINVAL,
}
_LOST = frozenset(
    {
        "BrokenPipeError",
        "ChannelOpenError",
        "ConnectionLost",
        "ConnectionResetError",
        "SFTPConnectionLost",
        "SFTPNoConnection",
    }
)
#: What sshfs raises as a ValueError when the server opens no more sessions, or the connection is gone.
_NO_SESSION = "Can't create any SFTP connections"


class SessionLostError(ConnectionError):
    """The connection to the server broke, or the server no longer responds."""


class SilentServerError(SessionLostError):
    """The server did not respond in time. To ask it again at once would double the wait."""


class SftpStore:
    """
    The connection to a server, shared by all locations of this process and renewed when it is lost.

    :param scheme: the part of a URL before ``://``.
    :param conn_id: an Airflow connection of type ``sftp`` or ``ssh``.
    """

    _stores: dict[tuple[int, str, str], SftpStore] = {}

    def __init__(self, scheme: str, conn_id: str) -> None:
        self._scheme = scheme
        self._conn_id = conn_id
        self._fs: Any = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, scheme: str, conn_id: str | None, uri: str) -> SftpStore:
        """
        Return the connected store.

        :param scheme: the part of a URL before ``://``.
        :param conn_id: the Airflow connection.
        :param uri: the place, for messages.
        :raises DiffioInputError: without a connection.
        :raises Exception: whatever connecting raises.
        """
        if conn_id is None:
            if not _has_fs(scheme):
                raise ValueError(f"No filesystem registered for scheme {scheme}")
            raise DiffioInputError(
                f"{uri} names no Airflow connection.",
                advice=f"Write its id in front of the host, as in {scheme}://conn_id@host/directory/file.",
            )
        # A forked process cannot use the connection of its parent.
        store = cls._stores.setdefault((os.getpid(), scheme, conn_id), cls(scheme, conn_id))
        with translated():
            store.fs  # noqa: B018 -- connects, so that a wrong password is known at once
        return store

    @property
    def fs(self) -> Any:
        """The filesystem, over a connection that is open as far as anybody knows."""
        with self._lock:
            if self._fs is None or self._fs.client.is_closed():
                self._fs = self._connect()
            return self._fs

    def use(self, action: Callable[[Any], T]) -> T:
        """
        Run something that may be repeated; once more on a new connection when the old one turns out lost.

        :param action: is given the filesystem.
        """
        try:
            with self.failures():
                return action(self.fs)
        except SilentServerError:
            raise
        except SessionLostError:
            with self.failures():
                return action(self.fs)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what asyncssh and sshfs raise into OSErrors; forget a connection that is lost."""
        try:
            with translated():
                yield
        except SessionLostError:
            self._fs = None
            raise

    def _connect(self) -> Any:
        get_fs, _ = filesystem_factories()
        # fsspec would return the instance whose connection is lost.
        options = {**_CONNECTION_OPTIONS, **self._key(), "skip_instance_cache": True}
        return get_fs(self._scheme, self._conn_id, options)

    def _key(self) -> dict[str, Any]:
        """Read the extra ``private_key``, which the provider would take for the name of a file."""
        from airflow.providers.common.compat.sdk import BaseHook

        extra = BaseHook.get_connection(self._conn_id).extra_dejson
        text = extra.get("private_key")
        if not text:
            return {}
        from asyncssh import KeyEncryptionError, KeyImportError, import_private_key

        passphrase = extra.get("private_key_passphrase") or None
        try:
            return {"client_keys": [import_private_key(str(text), passphrase)]}
        except (KeyEncryptionError, KeyImportError) as error:
            raise DiffioConfigurationError(
                f"Could not read 'private_key' in the extra of connection {self._conn_id!r}:"
                f" {type(error).__name__}.",
                advice="Give the text of a key in OpenSSH or PEM form, and its 'private_key_passphrase'.",
            ) from None


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        name = type(error).__name__
        if name == "FSTimeoutError":
            raise SilentServerError(errno.ETIMEDOUT, "The SFTP server did not respond in time") from error
        if name in _LOST or _NO_SESSION in str(error):
            message = f"The connection to the SFTP server is lost: {str(error) or name}"
            raise SessionLostError(errno.ECONNRESET, message) from error
        if name in _ERRNOS:
            number = _ERRNOS[name]
            raise OSError(number, f"{os.strerror(number)} (the server says: {_reason(error)})") from error
        if name == "SFTPFailure":
            raise OSError(errno.EIO, f"The server says: {_reason(error)}") from error
        raise


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "")) or type(error).__name__


def _has_fs(scheme: str) -> bool:
    _, has_fs = filesystem_factories()
    return bool(has_fs(scheme))
