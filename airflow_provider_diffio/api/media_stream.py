"""An open download, as the media host's headers describe it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from airflow_provider_diffio.api.errors import DiffioLinkRefusedError, DiffioTransferError
from airflow_provider_diffio.api.held_errors import hold
from airflow_provider_diffio.api.http_failures import describe_failure
from airflow_provider_diffio.api.retry import parse_retry_after

#: Bytes of a download handed on at once. Memory for more comes from the kernel, cleared, with every block.
_MEDIA_BLOCK_BYTES = 512 * 1024
_LINK_REFUSED = frozenset({401, 403, 404, 410})


@dataclass(frozen=True)
class MediaStream:
    """
    An open download.

    :ivar total_bytes: length of the whole file, where the server says.
    :ivar offset: where in the file the first byte stands: what was asked for, or 0 when the
        server starts over.
    :ivar validator: the file's strong ETag, where the server says; None for an encoded body, whose ranges are
        not those of the file.
    :ivar shows_its_end: whether a body that was cut off can be told from a whole one.
    :ivar media_type: the media type, in lower case and without parameters; empty when the server names none.
    """

    response: requests.Response
    total_bytes: int | None
    offset: int
    validator: str | None
    shows_its_end: bool
    media_type: str

    def blocks(self) -> Iterator[bytes]:
        """
        Return the bytes in blocks of up to 512 KiB.

        :raises DiffioTransferError: when the connection breaks or the body ends early.
        """
        with hold(requests.RequestException) as held:
            yield from self.response.iter_content(_MEDIA_BLOCK_BYTES)
        if held.failed:
            raise DiffioTransferError(
                f"The download broke off: {describe_failure(held.error, 0)}.",
                endpoint="get_generation_download",
            )


class RangeRefusedError(DiffioTransferError):
    """
    There is nothing after the bytes that are there already, says the media host (HTTP 416).

    :ivar total_bytes: length of the whole file, where the server says.
    """

    def __init__(self, message: str, *, total_bytes: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.total_bytes = total_bytes


def media_stream(response: requests.Response, offset: int) -> MediaStream:
    """
    Return an open download.

    :param response: what the media host sent, with its body unread.
    :param offset: what was asked for: where in the file the first byte stands.
    :raises DiffioTransferError: when it is not the file that was asked for.
    """
    status, headers = response.status_code, response.headers
    if status in _LINK_REFUSED:
        raise DiffioLinkRefusedError("The media host refused the download link.", status_code=status)
    if status == 416 and offset:
        total = _content_range(headers.get("content-range"))[1]
        raise RangeRefusedError("The media host has no such range.", status_code=status, total_bytes=total)
    if status not in (200, 206):
        raise DiffioTransferError(
            "The media host did not send the file.",
            status_code=status,
            retry_after=parse_retry_after(headers.get("retry-after"), time.time()),
        )
    encoded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    # The length of an encoded body says nothing about the file.
    chunked = bool(getattr(response.raw, "chunked", False))
    length = None if encoded or chunked else _whole(headers.get("content-length"))
    etag = headers.get("etag")
    # A weak ETag does not promise the same bytes.
    strong = etag is not None and etag.startswith('"') and not encoded
    start, total = (0, length) if status == 200 else _content_range(headers.get("content-range"))
    if status == 206 and (not offset or start != offset or encoded):
        raise DiffioTransferError("The media host sent another range than was asked for.", status_code=status)
    return MediaStream(
        response,
        total_bytes=total,
        offset=start or 0,
        validator=etag if strong else None,
        # What is left out after a range does not show in the range.
        shows_its_end=total is not None or (chunked and status == 200),
        media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
    )


def _content_range(value: str | None) -> tuple[int | None, int | None]:
    """Return start and total length of ``bytes 10-19/20``; of ``bytes */20`` the length alone."""
    unit, _, rest = (value or "").partition(" ")
    span, _, total = rest.partition("/")
    return (_whole(span.partition("-")[0]), _whole(total)) if unit == "bytes" else (None, None)


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
