"""Turn what a user writes into a location: absolute paths, URLs, paths relative to a connection's root."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioError,
    DiffioInputError,
    DiffioTransferError,
)
from airflow_provider_diffio.storage.errors import cause_of, is_lasting, reason_of
from airflow_provider_diffio.storage.file_names import check_printable, relative_parts
from airflow_provider_diffio.storage.filesystems import FixedStore, Store, attach, literal_key
from airflow_provider_diffio.storage.local import LocalLocation
from airflow_provider_diffio.storage.location import Location
from airflow_provider_diffio.storage.remote import RemoteLocation
from airflow_provider_diffio.storage.sftp import SftpLocation
from airflow_provider_diffio.storage.sftp_session import SftpStore

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/@]*)@)?(?P<rest>.*)", re.DOTALL)
#: ``s3:/bucket``, ``C:/data``: neither a URL nor meant as a relative path.
_ALMOST_A_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]")

_EXTRAS_BY_SCHEME = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "amazon"),
    **dict.fromkeys(("gs", "gcs"), "google"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "microsoft-azure"),
    **dict.fromkeys(("sftp", "ssh"), "sftp"),
}
#: In these the first part of the path is a bucket or container.
_BUCKET_SCHEMES = frozenset(scheme for scheme, extra in _EXTRAS_BY_SCHEME.items() if extra != "sftp")
_SFTP_SCHEMES = frozenset(_EXTRAS_BY_SCHEME) - _BUCKET_SCHEMES
#: What follows the host in ``sftp://host:2222``, and an access point of S3: other colons hint at a secret.
_COLON_OF_A_PLACE = re.compile(r"[^:]*:\d+|arn:[\w:.-]+|\[[0-9A-Fa-f:.]+\](:\d+)?")
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d+))?")
_ADVICE_FIELDS = {
    "sftp": "Check the connection's host, port and login, and its password, or in the extra 'key_file' or"
    " 'private_key'.",
    "microsoft-azure": "Set in the connection's extra 'connection_string'; or 'account_name' and, beside it,"
    " 'account_key', 'sas_token', or 'tenant_id' with the client's id and secret as login and password.",
}
#: These connections say where files are, but hold no credentials of a store.
_TYPES_WITHOUT_ACCESS = frozenset({"fs", "diffio"})
#: These connections stand for another machine, so a plain path as their root is ambiguous.
_REMOTE_TYPES = frozenset(
    {"aws", "google_cloud_platform", "wasb", "adls", "azure_data_lake", "sftp", "ssh", "ftp", "samba"}
)

DEFAULT_ROOT_NAME = "'output_path' in the extra of the Diffio connection"


def resolve(
    path: str | os.PathLike[str],
    *,
    conn_id: str | None = None,
    default_root: str | None = None,
    default_root_name: str = DEFAULT_ROOT_NAME,
    connect: bool = True,
) -> Location:
    """
    Find the place that a path means. This reads and writes nothing, but looks up the store's credentials.

    ============================  =================================================================
    ``path``                      meaning
    ============================  =================================================================
    ``/data/a.wav``               this file on the worker, whatever ``conn_id`` is
    ``file:///data/a.wav``        the same; literally: ``%20`` is not a space
    ``s3://minio@bucket/a.wav``   this key, through the connection ``minio``
    ``s3://bucket/a.wav``         this key, through ``conn_id`` or else the worker's own credentials
    ``2024/a.wav``                below the root
    ``2024/``                     a directory below the root: take ``.child(name)`` of it
    ============================  =================================================================

    If ``conn_id`` is given, the root is that connection's: ``path`` or ``output_path`` in its extra, or the
    bucket of an ``aws`` connection (``service_config.s3.bucket_name``). Otherwise it is ``default_root``. A
    root is an absolute local directory or a URL. A URL that names no connection is opened through
    ``conn_id``, unless that is a ``fs`` or ``diffio`` connection, which holds no credentials.

    :param path: what the user wrote, as in the table.
    :param conn_id: an Airflow connection with a root, with credentials for a URL, or both. The default is
        None.
    :param default_root: the root of relative paths without ``conn_id``. The default is None: they are
        refused.
    :param default_root_name: the setting that holds ``default_root``, for messages.
    :param connect: False to not connect to the store. Then only ``uri``, ``name`` and ``child`` of a remote
        location work. The default is True.
    :raises DiffioInputError: when the path cannot work or leaves its root.
    :raises DiffioConfigurationError: when the connection or the root cannot work.
    """
    text = _text(path)
    if url := _URL.fullmatch(text):
        if url["scheme"].lower() == "file":
            return _local(_file_path(url), has_root=bool(conn_id or default_root))
        return _resolve_url(url, conn_id, connect=connect)
    if _ALMOST_A_URL.match(text):
        raise DiffioInputError(
            f"{_without_secret(text)!r} is neither a URL nor a path on this machine.",
            advice="A URL has two slashes after the colon, as in s3://bucket/key.",
        )
    if text.startswith("/"):
        return _local(text, has_root=bool(conn_id or default_root))
    root = _root_of_connection(conn_id) if conn_id else _default_root(default_root, default_root_name)
    if root is None:
        raise DiffioInputError(
            f"{_without_secret(text)!r} is a relative path, and no root is set.",
            advice=f"Set {default_root_name}, name a connection with a root, or write an absolute path.",
        )
    return _below(root, text, connect=connect)


@dataclass(frozen=True, slots=True)
class _Root:
    """Where relative paths start, and the setting that says so."""

    text: str
    name: str
    conn_id: str | None


def _text(path: object) -> str:
    if isinstance(path, str):
        text = path
    elif hasattr(path, "protocol"):  # an ObjectStoragePath, whose text has its connection in it
        text = str(path)
    elif isinstance(path, os.PathLike):
        text = os.fspath(path)
    else:
        raise DiffioInputError(f"A path is a text, not {type(path).__name__}.")
    if not text.strip():
        raise DiffioInputError("The path is empty.", advice="Check the template that it comes from.")
    check_printable(text)
    return text


def _local(text: str, *, has_root: bool) -> LocalLocation:
    if has_root and ".." in text.split("/"):
        raise DiffioInputError(
            f"{text!r} holds '..', which could lead anywhere.", advice="Write the path without it."
        )
    return LocalLocation.of(Path(text), is_directory_like=text.endswith("/"))


def _below(root: _Root, text: str, *, connect: bool) -> Location:
    """Add a relative path to a root."""
    parts = relative_parts(text)
    is_directory_like = text.endswith("/") or not parts
    url = _URL.fullmatch(root.text)
    if url and url["scheme"].lower() != "file":
        closing = "/" if is_directory_like else ""
        joined = "/".join((root.text.rstrip("/"), *parts)) + closing
        return _resolve_url(_match_url(joined), root.conn_id, connect=connect)
    directory = Path(_file_path(url) if url else root.text)
    if not directory.is_absolute():
        raise DiffioConfigurationError(
            f"{root.name} is {root.text!r}, which is no root.",
            advice="Give an absolute directory or a URL such as s3://my_conn@bucket/prefix.",
        )
    target = directory.joinpath(*parts)
    if not target.resolve().is_relative_to(directory.resolve()):
        raise DiffioInputError(f"{text!r} leaves its root {directory} through a symbolic link.")
    return LocalLocation.of(target, is_directory_like=is_directory_like)


def _resolve_url(url: re.Match[str], conn_id: str | None, *, connect: bool) -> Location:
    scheme, rest = url["scheme"].lower(), url["rest"]
    user = _checked_user(url)
    uri = f"{scheme}://{rest}"
    _check_key(scheme, rest, uri)
    lender = user or (_lent(conn_id) if connect else None)
    store = _store(scheme, lender, rest, uri, stated=bool(user)) if connect else None
    key = _key(scheme, rest, uri, store)
    bucket_alone = scheme in _BUCKET_SCHEMES and "/" not in rest
    kind = SftpLocation if isinstance(store, SftpStore) else RemoteLocation
    return kind(
        uri=uri,
        is_directory_like=uri.endswith("/") or bucket_alone,
        key=key.rstrip("/") or "/",
        store=store,
        conn_id=lender,
    )


def _key(scheme: str, rest: str, uri: str, store: Store | None) -> str:
    if scheme in _SFTP_SCHEMES:
        return "/" + rest.partition("/")[2]
    if store is None or scheme in _BUCKET_SCHEMES:
        return rest
    return literal_key(store.fs, uri, rest)


def _match_url(text: str) -> re.Match[str]:
    url = _URL.fullmatch(text)
    if url is None:
        raise DiffioInputError(f"{text!r} is not a URL.")
    return url


def _file_path(url: re.Match[str]) -> str:
    path = url["rest"].removeprefix("localhost")
    if not path.startswith("/"):
        raise DiffioInputError(
            f"file://{url['rest']} names another machine.",
            advice="A file URL has three slashes: file:///data/a.wav.",
        )
    return path


def _checked_user(url: re.Match[str]) -> str | None:
    user, authority = url["user"], url["rest"].partition("/")[0]
    # A secret may hold '/' and '@' itself, so nothing of the URL is shown.
    if (user and ":" in user) or (":" in authority and not _COLON_OF_A_PLACE.fullmatch(authority)):
        raise DiffioInputError(
            f"A {url['scheme']}:// URL seems to hold a key or password.",
            advice="Put it into an Airflow connection and write that connection's id before the @.",
        )
    return user or None


def _without_secret(text: str) -> str:
    """Hide what may be a password: all between the first ':' and the last '@'."""
    return re.sub(r":.*@", ":...@", text, flags=re.DOTALL)


def _check_key(scheme: str, rest: str, uri: str) -> None:
    if not rest or (scheme in _BUCKET_SCHEMES and rest.startswith("/")):
        raise DiffioInputError(f"{uri} names no bucket.")
    if ".." in rest.split("/"):
        raise DiffioInputError(
            f"{uri} holds '..', which means nothing in a URL.", advice="Write the path without it."
        )


def _lent(conn_id: str | None) -> str | None:
    """Return the connection that opens a URL without one."""
    if conn_id is None or _connection(conn_id).conn_type in _TYPES_WITHOUT_ACCESS:
        return None
    return conn_id


def _store(scheme: str, conn_id: str | None, rest: str, uri: str, *, stated: bool) -> Store:
    """
    Connect to a store with the connection's credentials.

    ``ObjectStoragePath`` would continue without credentials when this fails, and the amazon provider when the
    connection does not exist.
    """
    if stated and conn_id and _connection(conn_id).conn_type in _TYPES_WITHOUT_ACCESS:
        raise DiffioConfigurationError(
            f"The connection {conn_id!r} in {scheme}://{conn_id}@... is a {_connection(conn_id).conn_type!r}"
            f" connection, which gives no access to {scheme}.",
            advice="Name a connection that holds the store's credentials.",
        )
    if scheme in _SFTP_SCHEMES and conn_id:
        _check_host(_connection(conn_id), rest.partition("/")[0])
    try:
        if scheme in _SFTP_SCHEMES:
            return SftpStore.of(scheme, conn_id, uri)
        return FixedStore(attach(scheme, conn_id))
    except DiffioError:
        raise
    except ImportError as error:
        raise _unserved(scheme, f"its library is missing: {error}") from error
    except ValueError as error:
        if "No filesystem registered" in str(error):
            raise _unserved(scheme, "no installed provider serves it") from None
        raise _unusable(scheme, conn_id, uri, error) from cause_of(error)
    except Exception as error:
        raise _unusable(scheme, conn_id, uri, error) from cause_of(error)


def _check_host(connection: Any, stated: str) -> None:
    """Refuse a URL whose host is not the connection's, to which it would go all the same."""
    parts = _HOST.fullmatch(stated)
    host, port = (parts["host"].strip("[]"), parts["port"]) if parts else (stated, None)
    own_port = connection.port or 22
    if (host and host.lower() != str(connection.host).lower()) or (port and int(port) != own_port):
        place = f"{connection.host}:{own_port}"
        raise DiffioInputError(
            f"The URL names the host {stated!r}, but the connection {connection.conn_id!r} leads to {place}.",
            advice=f"Leave the host out, as in sftp://{connection.conn_id}@/directory/file, or name another"
            " connection.",
        )


def _unserved(scheme: str, reason: str) -> DiffioInputError:
    extra = _EXTRAS_BY_SCHEME.get(scheme)
    advice = (
        f"Install airflow-provider-diffio[{extra}]."
        if extra
        else f"Install an Airflow provider for {scheme}://, or use another store or a local path."
    )
    return DiffioInputError(f"{scheme}:// paths do not work here: {reason}.", advice=advice)


def _connection(conn_id: str) -> Any:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.providers.common.compat.sdk import BaseHook

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise DiffioConfigurationError(
            f"There is no connection {conn_id!r}.", advice="Create it, or correct the id where it is written."
        ) from error


def _default_root(text: str | None, name: str) -> _Root | None:
    return _Root(text=text, name=name, conn_id=None) if text else None


def _root_of_connection(conn_id: str) -> _Root:
    connection = _connection(conn_id)
    extra = connection.extra_dejson
    lender = None if connection.conn_type in _TYPES_WITHOUT_ACCESS else conn_id
    for name in ("path", "output_path"):
        if text := extra.get(name):
            root = _Root(
                text=str(text), name=f"{name!r} in the extra of connection {conn_id!r}", conn_id=lender
            )
            _check_kind(root, connection.conn_type)
            return root
    if connection.conn_type == "aws" and (bucket := _aws_bucket(extra)):
        return _Root(text=f"s3://{bucket}", name=f"the bucket of connection {conn_id!r}", conn_id=lender)
    raise DiffioConfigurationError(
        f"The connection {conn_id!r} ({connection.conn_type}) has no root for relative paths.",
        advice="Set 'path' in its extra to a directory or a URL, or write an absolute path or a URL.",
    )


def _check_kind(root: _Root, conn_type: str | None) -> None:
    if conn_type in _REMOTE_TYPES and not _URL.fullmatch(root.text):
        raise DiffioConfigurationError(
            f"{root.name} is {root.text!r}; for a connection of type {conn_type!r} it has to be a URL.",
            advice="Write for instance s3://bucket/prefix, or sftp:///directory.",
        )


def _aws_bucket(extra: dict[str, Any]) -> str | None:
    service_config = extra.get("service_config")
    s3 = service_config.get("s3") if isinstance(service_config, dict) else None
    bucket = s3.get("bucket_name") if isinstance(s3, dict) else None
    return str(bucket) if bucket else None


def _unusable(scheme: str, conn_id: str | None, uri: str, error: Exception) -> DiffioError:
    way = f"the connection {conn_id!r}" if conn_id else "the worker's own credentials"
    message = f"Could not reach the store of {uri} by {way}: {reason_of(error)}."
    if not is_lasting(error):
        return DiffioTransferError(message, advice="Check whether the store is up; a retry connects again.")
    advice = _ADVICE_FIELDS.get(_EXTRAS_BY_SCHEME.get(scheme, ""), "Check the connection's fields.")
    return DiffioConfigurationError(message, advice=advice)
