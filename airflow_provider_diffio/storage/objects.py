"""Small objects on a disk and in object stores, each made by one process alone."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.storage.filesystems import kind_of
from airflow_provider_diffio.storage.object_directory import ObjectDirectory
from airflow_provider_diffio.storage.writer import part_name

if TYPE_CHECKING:
    from airflow_provider_diffio.storage.location import Location
    from airflow_provider_diffio.storage.remote import RemoteLocation

#: The filesystems whose ``pipe_file`` asks the store itself to refuse a name that is taken. fsspec's base
#: class looks first and writes then.
_EXCLUSIVE = frozenset(
    {
        "s3fs.core.S3FileSystem",
        "gcsfs.core.GCSFileSystem",
        "gcsfs.extended_gcsfs.ExtendedGcsFileSystem",
        "adlfs.spec.AzureBlobFileSystem",
    }
)
#: How often a creation is tried again that the store could not decide on (S3: 409
#: ConditionalRequestConflict).
_UNDECIDED = 5


def objects_at(location: Location) -> ObjectDirectory:
    """
    Return the objects below a location.

    :param location: a directory on whatever store.
    :raises DiffioInputError: for a store that is not known to create a name for one process alone.
    """
    from airflow_provider_diffio.storage.remote import RemoteLocation
    from airflow_provider_diffio.storage.sftp import SftpLocation
    from airflow_provider_diffio.storage.sftp_objects import SftpObjects

    path = location.local_path
    if path is not None:
        return LocalObjects(location.uri, path)
    if isinstance(location, SftpLocation):
        return SftpObjects(location)
    if isinstance(location, RemoteLocation) and kind_of(location.fs) in _EXCLUSIVE:
        return CloudObjects(location)
    raise DiffioInputError(
        f"{location.uri} is in a store that is not known to create a name for one process alone.",
        advice="Choose a directory on a local or shared disk, S3, Google Cloud Storage, Azure or SFTP.",
    )


class LocalObjects(ObjectDirectory):
    """On a disk: a hidden file gets the name by a hard link, which fails where the name is taken."""

    def __init__(self, uri: str, path: Path) -> None:
        super().__init__(uri)
        self._path = path

    def _create(self, name: str, data: bytes) -> bool:
        with self._part(name, data) as part:
            try:
                os.link(part, self._path / name)
            except FileExistsError:
                return False
            except OSError as error:
                from airflow_provider_diffio.storage.local import NO_HARD_LINKS

                if error.errno not in NO_HARD_LINKS:
                    raise
                return self._create_in_place(name, data)
        self._sync(name)
        return True

    def _create_in_place(self, name: str, data: bytes) -> bool:
        """Create it where there are no hard links: for an instant the file is there, and empty."""
        try:
            with (self._path / name).open("xb") as file:
                file.write(data)
                _sync_file(file.fileno())
        except FileExistsError:
            return False
        self._sync(name)
        return True

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, data: bytes) -> None:
        with self._part(name, data) as part:
            part.replace(self._path / name)
        self._sync(name)

    def _delete(self, name: str) -> None:
        (self._path / name).unlink()

    def _names(self, directory: str, prefix: str) -> list[str]:
        inside, _, beginning = prefix.rpartition("/")
        top = self._path / directory
        return list(_files_below(top / inside, f"{inside}/" if inside else "", beginning))

    @contextmanager
    def _part(self, name: str, data: bytes) -> Iterator[Path]:
        target = self._path / name
        part = target.with_name(part_name("diffio"))
        try:
            self._write_part(part, data)
            yield part
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _write_part(self, part: Path, data: bytes) -> None:
        for attempt in (1, 2, 3):
            try:
                with part.open("xb") as file:
                    file.write(data)
                    file.flush()
                    _sync_file(file.fileno())
                return
            except FileNotFoundError:
                if attempt == 3:
                    raise
                part.parent.mkdir(parents=True, exist_ok=True)

    def _sync(self, name: str) -> None:
        from airflow_provider_diffio.storage.local import sync_directories

        sync_directories((self._path / name).parent)


class CloudObjects(ObjectDirectory):
    """In an object store, which shows an object when it is whole, and refuses a name that is taken."""

    def __init__(self, location: RemoteLocation) -> None:
        super().__init__(location.uri)
        self._fs = location.fs
        self._key = location.key.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._key}/{name}"

    def _create(self, name: str, data: bytes) -> bool:
        for attempt in range(1, _UNDECIDED + 1):
            try:
                self._fs.pipe_file(self._at(name), data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if _is_taken(error):
                    return False
                if error.errno != errno.EBUSY or attempt == _UNDECIDED:
                    raise
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _read(self, name: str) -> bytes | None:
        self._forget(name)
        try:
            return cast("bytes", self._fs.cat_file(self._at(name)))
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(self._at(name), data)

    def _delete(self, name: str) -> None:
        self._fs.rm_file(self._at(name))
        self._forget(name)

    def _names(self, directory: str, prefix: str) -> list[str]:
        top = self._at(directory).rstrip("/")
        self._fs.invalidate_cache(top)
        inside, _, beginning = prefix.rpartition("/")
        where = f"{top}/{inside}" if inside else top
        self._fs.invalidate_cache(where)
        try:
            keys = self._fs.find(where, prefix=beginning) if beginning else self._fs.find(where)
        except FileNotFoundError:
            keys = []
        self._fs.invalidate_cache(where)  # or else a hundred thousand names stay in memory
        start = top.strip("/") + "/"
        names = (key.strip("/").removeprefix(start) for key in keys if not key.endswith("/"))
        return [name for name in names if name.startswith(prefix) and name != top.strip("/")]

    def _forget(self, name: str) -> None:
        """Drop cached listings, by which even the reading of an object goes."""
        key = self._at(name)
        self._fs.invalidate_cache(key)
        self._fs.invalidate_cache(posixpath.dirname(key))


def _files_below(directory: Path, prefix: str, beginning: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            inside = []
            for entry in entries:
                if not entry.name.startswith(beginning):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inside.append(entry.name)
                else:
                    yield prefix + entry.name
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in inside:
        yield from _files_below(directory / name, f"{prefix}{name}/", "")


def _sync_file(descriptor: int) -> None:
    from airflow_provider_diffio.storage.local import sync_is_optional

    with sync_is_optional():
        os.fsync(descriptor)


def _is_taken(error: OSError) -> bool:
    """Tell whether a store refused a name that is taken, in whatever words."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412)
        cause = cause.__cause__
    return False
