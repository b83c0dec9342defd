"""What a store's listing says of a file: its length, its version, and when it was written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_diffio.storage.location import FileFacts

#: The keys of ``info()`` that hold a file's version, the most reliable first.
_VERSION_KEYS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "created",
)
#: Those that hold the time of its last change.
_TIME_KEYS = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


def facts_of(info: Mapping[str, Any]) -> FileFacts:
    """
    Return what is known of a file.

    :param info: what fsspec says of it, by ``info`` or in a listing.
    """
    settings = info.get("content_settings") or {}
    encoding = info.get("contentEncoding") or settings.get("content_encoding")
    media_type = info.get("ContentType") or info.get("contentType") or settings.get("content_type")
    return FileFacts(
        size_bytes=int(info["size"]),
        version=_version(info),
        encoding=encoding or None,
        media_type=media_type if isinstance(media_type, str) else None,
    )


def modified_of(info: Mapping[str, Any]) -> float | None:
    """
    Return when a file was written last, in seconds since the epoch; None where the store does not tell.

    :param info: as for :func:`facts_of`.
    """
    for key in _TIME_KEYS:
        moment = _seconds(info.get(key))
        if moment is not None:
            return moment
    return None


def _seconds(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _version(info: Mapping[str, Any]) -> str:
    for key in _VERSION_KEYS:
        value = info.get(key)
        if value not in (None, ""):
            return f"{key.lower()}={value}"
    return "version=unknown"
