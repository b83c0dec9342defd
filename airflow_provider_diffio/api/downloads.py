"""
Getting a restored file: a link when there is one, and all of its bytes even when the connection breaks.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import tenacity

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.client import DiffioClient, Options
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioLinkRefusedError,
    DiffioNotFoundError,
    DiffioNotReadyError,
    DiffioTranscriptUnavailableError,
    DiffioTransferError,
)
from airflow_provider_diffio.api.json_fields import presentable
from airflow_provider_diffio.api.media_stream import MediaStream, RangeRefusedError
from airflow_provider_diffio.api.models import GenerationDownload
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.api.polling import DEFAULT_READY_TIMEOUT

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Responses that leave it open whether the file is whole, in one download.
_MAX_UNCONFIRMED = 10
#: Families of media types that name what a file is; ``application/octet-stream`` and its like do not.
_MEDIA = frozenset({"audio", "video", "image", "font", "model", "multipart", "message"})
#: Ends of media types that no sound and no picture has.
_WRITTEN = ("json", "xml", "html", "javascript", "pdf", "zip")
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


def get_link(
    client: DiffioClient,
    generation_id: str,
    project_id: str,
    download_type: str | None,
    *,
    ready_timeout: float = DEFAULT_READY_TIMEOUT,
    options: Options = None,
) -> GenerationDownload:
    """
    Return a download link, waiting for a file that is still being put in place.

    Right after a generation completes, Diffio may respond with 409 or 404 for its files for a while, and a
    transcript may be pending longer than the audio. A generation that is not complete is not waited for.

    :param ready_timeout: seconds to wait for the file.
    :raises DiffioNotReadyError: when the generation is not complete, or the file did not appear in time.
    :raises DiffioGenerationFailedError: when the generation failed.
    :raises DiffioTranscriptUnavailableError: when there will be no transcript.
    :raises DiffioNotFoundError: when the generation does not exist.
    """
    call = endpoints.get_generation_download(generation_id, project_id, download_type)

    def ask() -> GenerationDownload:
        try:
            return client.call(call, options)
        except DiffioTranscriptUnavailableError:
            raise
        except (DiffioNotReadyError, DiffioNotFoundError) as error:
            _require_complete(client, error, generation_id, project_id, options)
            raise _NotThereYetError(error) from None

    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_NotThereYetError),
        wait=tenacity.wait_exponential_jitter(initial=1, max=10, jitter=1),
        stop=tenacity.stop_after_delay(ready_timeout),
        before_sleep=lambda _: log.info(
            "The file of generation %s is not there yet; waiting.", generation_id
        ),
        sleep=client.sleep,
        reraise=True,
    )
    try:
        return waiting(ask)
    except _NotThereYetError as gave_up:
        last = gave_up.error
    # A 404 is as little the last word as a 409 here: the generation exists and is complete.
    raise DiffioNotReadyError(
        last.message,
        status_code=last.status_code,
        code=last.code,
        endpoint=last.endpoint,
        project_id=project_id,
        generation_id=generation_id,
        may_be_billed=True,
        advice=(
            f"The generation is complete, but this file did not appear within {ready_timeout:g} s. It is paid"
            " for; a retry asks again and starts no new generation."
        ),
    )


class _NotThereYetError(Exception):
    def __init__(self, error: DiffioError) -> None:
        super().__init__(error.message)
        self.error = error


def _require_complete(
    client: DiffioClient, error: DiffioError, generation_id: str, project_id: str, options: Options
) -> None:
    """Tell *not there yet* from *never will be*, which the download endpoint's response alone does not."""
    progress = client.call(endpoints.get_generation_progress(generation_id, project_id), options)
    if progress.is_failed:
        said = progress.failure()
        raise DiffioGenerationFailedError(
            f"There is nothing to download: Diffio reports the generation as {progress.status}"
            f"{f': {said}' if said else ''}.",
            error=progress.error,
            error_details=progress.error_details,
            generation_id=generation_id,
            project_id=project_id,
            may_be_billed=True,
        )
    if not progress.is_complete:
        raise error


@dataclass
class Fetch:
    """
    One download, resumed where it broke.

    What is there is added to only under a strong ETag that the rest repeats. Without one, the server sends
    everything again; the part that is already there is then compared instead of written, so that two versions
    of a file are never mixed. A file whose end does not show (no length, no chunks) is asked for again until
    the server confirms that nothing is missing.

    :param client: carries the bytes.
    :param get_link: asks for a link; asked again when the media host refuses the last one.
    :param write: takes the bytes, in order.
    :param expect_size: told the file's length as soon as it is known.
    :param options: what the requests do differently.
    :param written_sha256: returns the SHA-256 in hexadecimal of all that was written, where the destination
        knows it anyway; otherwise it is computed here.
    :param moved: told how many bytes were written now, and how long the file is as far as known.
    """

    client: DiffioClient
    get_link: Callable[[], GenerationDownload]
    write: Callable[[bytes], Any]
    expect_size: Callable[[int], None] = lambda _: None
    options: Options = None
    written_sha256: Callable[[], str] | None = None
    moved: Callable[[int, int | None], Any] = lambda *_: None
    size_bytes: int = 0
    total_bytes: int | None = None
    _link: GenerationDownload | None = None
    #: The strong ETag of what is written.
    _validator: str | None = None
    #: False once the server has shown that its ranges are of no use.
    _use_ranges: bool = True
    #: How long the file was when a response without a visible end was over.
    _ended_at: int | None = None
    _unconfirmed: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def run(self, link: GenerationDownload | None = None) -> GenerationDownload:
        """
        Fetch everything and return the link's facts.

        Each time the policy's tries are used up, there must have been progress, or the error is raised.

        :param link: a link that was asked for already.
        :return: the link that the file came by.
        :raises DiffioTransferError: when the file could not be fetched whole.
        """
        self._link = link
        try:
            with after_start(None, None):
                return self._run()
        except DiffioError as error:
            if self._link is not None:
                error.generation_id = self._link.generation_id
                error.project_id = self._link.api_project_id
            raise

    def _run(self) -> GenerationDownload:
        policy = self.client.settings.with_options(self.options).retry
        while True:
            before = self.size_bytes
            try:
                return policy.retrying(repeatable=True, sleep=self.client.sleep)(self._try)
            except _WriteFailedError as failed:
                cause = failed.cause
                break
            except DiffioError as error:
                if self.size_bytes == before or not policy.should_try_again(error):
                    raise
        raise cause

    def _try(self) -> GenerationDownload:
        link = self._link = self._link or self.get_link()
        while not self._request(link):
            self._unconfirmed += 1
            if self._unconfirmed > _MAX_UNCONFIRMED:
                raise _changed("its end does not show, and it is longer each time")
        return link

    def _request(self, link: GenerationDownload) -> bool:
        """Send one request, and return whether the file is whole now."""
        if self.size_bytes and self.size_bytes == self.total_bytes:
            # It broke after the last byte; a server has no range to send from there.
            return True
        # Without an ETag, a range can still show that nothing is missing.
        ranged = self._use_ranges and (self._validator or self._ended_at == self.size_bytes)
        try:
            with self.client.open_media(
                link.download_url,
                offset=self.size_bytes if ranged else 0,
                validator=self._validator,
                options=self.options,
            ) as stream:
                return self._take(stream, link)
        except RangeRefusedError as error:
            self._use_ranges = False
            return error.total_bytes is not None and error.total_bytes == self.size_bytes == self._ended_at
        except DiffioLinkRefusedError:
            # Its hours may be over. The next try asks for a new one.
            self._link = None
            raise

    def _take(self, stream: MediaStream, link: GenerationDownload) -> bool:
        check_media_type(stream.media_type, link)
        if stream.offset and not self._continues(stream):
            self._use_ranges = False
            return False
        if stream.total_bytes is not None:
            if self.total_bytes not in (None, stream.total_bytes):
                raise _changed(f"it had {self.total_bytes} bytes and has {stream.total_bytes} now")
            self.total_bytes = stream.total_bytes
            self.expect_size(stream.total_bytes)
        if not stream.offset:
            self._validator = stream.validator
        for block in self._beyond_what_is_there(stream):
            if not self.size_bytes:
                check_beginning(block, stream.media_type, link)
            self._write(block)
        return self._is_whole(stream)

    def _continues(self, stream: MediaStream) -> bool:
        """Return whether a range is of the file that is there, and not just of one at the same address."""
        if self._validator and stream.validator not in (None, self._validator):
            # A server that does not know If-Range sends the range of whatever is there now.
            raise _changed("it has another ETag now")
        return self._validator is not None and stream.validator == self._validator

    def _write(self, block: bytes) -> None:
        if self.total_bytes is not None and self.size_bytes + len(block) > self.total_bytes:
            raise _changed(f"it goes on after the {self.total_bytes} bytes that were announced")
        try:
            self.write(block)
        except Exception as error:
            raise _WriteFailedError(error) from None
        if self.written_sha256 is None:
            self._digest.update(block)
        self.size_bytes += len(block)
        self.moved(len(block), self.total_bytes)

    def _is_whole(self, stream: MediaStream) -> bool:
        if self.total_bytes is not None and self.size_bytes != self.total_bytes:
            raise DiffioTransferError(
                f"The media host announced {self.total_bytes} bytes and sent {self.size_bytes}."
            )
        if not self.size_bytes:
            raise DiffioTransferError("The media host sent an empty file.")
        if self.total_bytes is not None or stream.shows_its_end:
            return True
        # It ended twice at the same place, from its first byte.
        confirmed = not stream.offset and self._ended_at == self.size_bytes
        self._ended_at = self.size_bytes
        return confirmed

    def _beyond_what_is_there(self, stream: MediaStream) -> Iterator[bytes]:
        repeated = self.size_bytes - stream.offset
        if not repeated:
            yield from stream.blocks()
            return
        check = hashlib.sha256()
        for block in stream.blocks():
            known, new = block[:repeated], block[repeated:]
            check.update(known)
            repeated -= len(known)
            if repeated == 0 and known and check.hexdigest() != self._known_sha256():
                raise _changed("its first bytes are not what they were")
            if new:
                yield new
        if repeated and not stream.shows_its_end:
            raise DiffioTransferError("The download broke off earlier than the last time.")
        if repeated:
            raise _changed("it is shorter than what has come already")

    def _known_sha256(self) -> str:
        return str(self._digest.hexdigest()) if self.written_sha256 is None else self.written_sha256()


def check_media_type(media_type: str, link: GenerationDownload) -> None:
    """
    Refuse a body that says of itself that it is something else than the file, such as a block page.

    :param media_type: of the body, in lower case and without parameters; empty when unknown.
    :param link: what was asked for.
    :raises DiffioTransferError: when the two contradict each other.
    """
    family, _, kind = media_type.partition("/")
    written = kind.endswith(_WRITTEN) or family == "text"
    if link.download_type == "transcript":
        fits = family not in _MEDIA and (not written or kind.endswith("json") or media_type == "text/plain")
    else:
        wanted = (link.mime_type or "").partition("/")[0].strip().lower()
        wanted = wanted if wanted in ("audio", "video") else link.download_type
        fits = (not written or media_type.endswith("json")) and (
            family not in _MEDIA or family in (wanted, link.download_type)
        )
    if media_type and not fits:
        raise _wrong_file(f"of the type {presentable(media_type):.80}")


def check_beginning(block: bytes, media_type: str, link: GenerationDownload) -> None:
    """
    Refuse a web page, whatever it says of itself, and an error in JSON.

    :param block: the first bytes of a file.
    :param media_type: of the body.
    :param link: what was asked for.
    :raises DiffioTransferError: when they are not the beginning of the file.
    """
    beginning = block[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith(_PAGE):
        raise _wrong_file("that begins like a web page")
    # Hosts label files carelessly, but what says that it is JSON and looks like it is JSON.
    looks_like_json = beginning[:1] in (b"{", b"[", b'"') or beginning.strip() in (b"null", b"true", b"false")
    if link.download_type != "transcript" and media_type.endswith("json") and looks_like_json:
        raise _wrong_file(f"of the type {presentable(media_type):.80}")


def _wrong_file(how: str) -> DiffioTransferError:
    return DiffioTransferError(
        f"The media host sent a file {how} in place of the restored one.",
        advice="A gateway or proxy may have sent a page of its own. A retry asks for the file again.",
    )


class _WriteFailedError(Exception):
    """
    The destination failed, not the download, whatever its error looks like.

    It is unknown how much of the block was written, so it must not be written again.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _ChangedError(DiffioTransferError):
    """Sent on from here, the file would be a mixture; only a fresh start helps."""

    transient = False


def _changed(how: str) -> _ChangedError:
    return _ChangedError(f"The file changed at the media host while it was fetched: {how}.")
