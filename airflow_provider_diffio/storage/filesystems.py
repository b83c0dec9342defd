"""fsspec's filesystems behind Airflow connections, in the form that this package needs."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Protocol

from airflow_provider_diffio._compat import open_filesystem
from airflow_provider_diffio.api.errors import DiffioConfigurationError


class Store(Protocol):
    """What a remote location is in."""

    @property
    def fs(self) -> Any:
        """The filesystem, connected."""


class FixedStore:
    """
    A store whose client connects by itself whenever it has to.

    :param fs: fsspec's filesystem.
    """

    def __init__(self, fs: Any) -> None:
        self.fs = fs


def attach(scheme: str, conn_id: str | None) -> Any:
    """
    Return Airflow's filesystem for a connection, which takes every key literally.

    :param scheme: the part of a URL before ``://``.
    :param conn_id: an Airflow connection; None for the worker's own credentials.
    :raises Exception: whatever the store's library raises.
    """
    return literal(open_filesystem(scheme, conn_id))


def kind_of(fs: Any) -> str:
    """Return the full name of a filesystem's class; of one that :func:`literal` made, the original's."""
    return getattr(fs, "literal_of", None) or full_name(type(fs))


def full_name(cls: type) -> str:
    """Return the module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def literal(fs: Any) -> Any:
    """
    Return a filesystem to which a key is no URL.

    Some filesystems cut a key at ``?``, or take ``?versionId=`` or ``#`` in it for a version: they would read
    and write another file. Their filesystems are made again, as a subclass that leaves keys alone.

    :param fs: a filesystem of any class.
    :return: the same for a class that is not known to do that.
    """
    kind = full_name(type(fs))
    if kind in _MIXINS:
        if "_literal" not in vars(fs):
            fs._literal = _literal_class(kind, type(fs))(*fs.storage_args, **fs.storage_options)
        return fs._literal
    if getattr(fs, "version_aware", False) and kind.startswith("gcsfs."):
        return type(fs)(*fs.storage_args, **{**fs.storage_options, "version_aware": False})
    return fs


def _literal_class(kind: str, cls: Any) -> Any:
    return type(f"Literal{cls.__name__}", (_MIXINS[kind], cls), {"literal_of": kind})


class _LiteralS3:
    def split_path(self, path: str) -> tuple[str, str, None]:
        """Split a path into bucket and key, without a version."""
        bucket, key, _ = super().split_path(path.replace("?", _STAND_IN))  # type: ignore[misc]
        return bucket.replace(_STAND_IN, "?"), key.replace(_STAND_IN, "?"), None


class _LiteralAzure:
    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        stripped = super()._strip_protocol(_without(path))  # type: ignore[misc]
        return stripped.replace(_STAND_IN, "?").replace(_HASH_STAND_IN, "#")

    def split_path(
        self, path: str, delimiter: str = "/", return_container: bool = False, **options: Any
    ) -> tuple[str, str, None]:
        """Split a path into container and key, without a version."""
        stripped = self._strip_protocol(path).lstrip(delimiter)
        container, _, key = stripped.partition(delimiter)
        return container, key, None


#: Private characters of Unicode, which no library takes for the beginning of a query or a fragment.
_STAND_IN, _HASH_STAND_IN = "\U0010fffd", "\U0010fffc"
_MIXINS: Mapping[str, type] = {
    "s3fs.core.S3FileSystem": _LiteralS3,
    "adlfs.spec.AzureBlobFileSystem": _LiteralAzure,
}


def _without(path: str) -> str:
    return path.replace("?", _STAND_IN).replace("#", _HASH_STAND_IN)


def literal_key(fs: Any, uri: str, rest: str) -> str:
    """
    Return a filesystem's own name for the path of a URL.

    :param fs: a filesystem that is not among those that this package knows.
    :param uri: the URL.
    :param rest: the part after ``://``.
    :raises DiffioConfigurationError: when the filesystem would take a part of the name for something else.
    """
    key = str(fs._strip_protocol(uri))
    name = posixpath.basename(rest.rstrip("/"))
    if name and posixpath.basename(key.rstrip("/")) != name and "/" in rest.rstrip("/"):
        raise DiffioConfigurationError(
            f"The filesystem of {uri} takes a part of the name {name!r} for something else.",
            advice="Use a name without '?', '#' and '%' there.",
        )
    return key
