"""Small objects on an SFTP server, each made by one process alone."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_diffio.storage.object_directory import ObjectDirectory
from airflow_provider_diffio.storage.writer import part_name

if TYPE_CHECKING:
    from airflow_provider_diffio.storage.sftp import SftpLocation

_REQUEST_SECONDS = 60
_LISTING_SECONDS = 600


class SftpObjects(ObjectDirectory):
    """On an SFTP server: by hard links as on a disk, or by opening exclusively where there are none."""

    def __init__(self, location: SftpLocation) -> None:
        super().__init__(location.uri)
        self._store = location.store
        self._key = location.key.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._key}/{name}"

    def _create(self, name: str, data: bytes) -> bool:
        part = self._write_part(name, data)
        try:
            try:
                self._run(lambda channel: channel.link(part, self._at(name)))
                return True
            except OSError as error:
                if self._exists(name):
                    return False
                if error.errno not in (errno.ENOTSUP, errno.EIO, errno.EPERM):
                    raise
        finally:
            with suppress(OSError):
                self._run(lambda channel: channel.remove(part))
        return self._create_in_place(name, data)

    def _create_in_place(self, name: str, data: bytes) -> bool:
        try:
            self._write_file(self._at(name), data)
            return True
        except OSError:
            # "Failure" is all that a server says.
            if not self._exists(name):
                raise
            return False

    def _read(self, name: str) -> bytes | None:
        try:
            return cast(
                "bytes", self._store.use(lambda fs: fs.cat_file(self._at(name), timeout=_REQUEST_SECONDS))
            )
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        part = self._write_part(name, data)
        target = self._at(name)
        try:
            self._run(lambda channel: channel.posix_rename(part, target))
        except OSError:
            # A server without that extension renames to free names alone.
            with suppress(OSError):
                self._run(lambda channel: channel.remove(target))
            self._run(lambda channel: channel.rename(part, target))

    def _delete(self, name: str) -> None:
        self._run(lambda channel: channel.remove(self._at(name)))

    def _names(self, directory: str, prefix: str) -> list[str]:
        inside = prefix.rpartition("/")[0]
        top = self._at(directory).rstrip("/")
        where = f"{top}/{inside}" if inside else top
        try:
            keys = self._store.use(lambda fs: fs.find(where, timeout=_LISTING_SECONDS))
        except FileNotFoundError:
            return []
        start = top.strip("/") + "/"
        names = (key.strip("/").removeprefix(start) for key in keys)
        return [name for name in names if name.startswith(prefix)]

    def _exists(self, name: str) -> bool:
        try:
            self._store.use(lambda fs: fs.info(self._at(name), timeout=_REQUEST_SECONDS))
        except FileNotFoundError:
            return False
        return True

    def _write_part(self, name: str, data: bytes) -> str:
        directory = posixpath.dirname(self._at(name))
        part = posixpath.join(directory, part_name("diffio"))
        try:
            self._write_file(part, data)
        except FileNotFoundError:
            self._make_directories(directory)
            self._write_file(part, data)
        except OSError:
            if self._is_directory(directory):
                raise
            self._make_directories(directory)
            self._write_file(part, data)
        return part

    def _make_directories(self, directory: str) -> None:
        def make(fs: Any) -> None:
            fs.makedirs(directory, exist_ok=True, timeout=_REQUEST_SECONDS)

        try:
            self._store.use(make)
        except OSError:
            # Another process may have made one of them in between.
            self._store.use(make)

    def _is_directory(self, directory: str) -> bool:
        try:
            info = self._store.use(lambda fs: fs.info(directory, timeout=_REQUEST_SECONDS))
        except FileNotFoundError:
            return False
        return bool(info["type"] == "directory")

    def _write_file(self, key: str, data: bytes) -> None:
        async def write(channel: Any) -> None:
            async with channel.open(key, "xb") as file:
                await file.write(data)

        self._run(write)

    def _run(self, action: Callable[[Any], Any]) -> None:
        fs = self._store.fs
        from fsspec.asyn import sync

        async def run() -> None:
            async with fs._pool.get() as channel:
                await action(channel)

        with self._store.failures():
            sync(fs.loop, run, timeout=_REQUEST_SECONDS)
