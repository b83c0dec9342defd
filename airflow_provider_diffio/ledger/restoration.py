"""
The record of one restoration: what a task instance knows of it over all of its tries.

:class:`Restoration` is pure: it asks nobody, and stores nothing. Each thing that happens is a method that
returns the next record; whoever calls it hands the record to a :class:`RestorationStore`, before the thing
happens where money or a file is at stake (an intent), otherwise after it (a result).

Records are read by other versions of this package than wrote them. So a record names its schema, its fields
one by one, and leaves out what is not set; fields that are not known here are passed over; and an input is
known by the digests of its fields, by name, so that a new field changes no old record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.models import DownloadedFile, Generation, Project

if TYPE_CHECKING:
    # Making a protocol costs several classes, and whatever parses DAG files would pay for it.
    class RestorationStore(Protocol):
        """Where a record outlives the try that wrote it."""

        @property
        def outlives_the_try(self) -> bool:
            """Whether a later try finds what this one stores."""

        def load(self) -> Restoration:
            """
            Return the record; an empty one where nothing was recorded.

            :raises DiffioError: when it could not be read, which is never taken for *nothing was recorded*.
            """

        def save_intent(self, restoration: Restoration) -> None:
            """
            Store what is about to happen.

            :raises DiffioError: when that did not work; then it must not happen.
            """

        def save_result(self, restoration: Restoration) -> None:
            """Store what has happened. It has happened in any case, so a failure is only logged."""


T = TypeVar("T", Project, Generation, DownloadedFile)

#: A digest for each field of an input that is set, by its name.
Fingerprint = Mapping[str, str]

#: The form of the records that this version writes. Higher ones are not guessed at.
SCHEMA = 1
_DIGEST_LENGTH = 32


class UnreadableRecordError(ValueError):
    """A record that no version of this package up to this one has written."""


class Upload(NamedTuple):
    """
    The upload of a recording.

    :ivar given: what was to be uploaded, but for its content.
    :ivar version: what the store said of the content: its size with ETag, generation or time.
    :ivar content: digest of the content; None where it is not known.
    :ivar begun: the project whose file may have arrived without being confirmed; None where the protocol
        knows no confirmation.
    :ivar project: the project that holds the file, once it does.
    """

    given: Fingerprint
    version: str
    content: str | None = None
    begun: Project | None = None
    project: Project | None = None


class Start(NamedTuple):
    """
    One generation that was started, or that was about to be.

    :ivar request: what was asked for.
    :ivar counter: which one for this request, from 0; part of its idempotency key.
    :ivar generation: what Diffio created; None as long as that is not known.
    :ivar failed: Diffio reported it as failed.
    """

    request: Fingerprint
    counter: int
    generation: Generation | None = None
    failed: bool = False


class Download(NamedTuple):
    """
    The download of a restored file.

    :ivar given: what was to be written where.
    :ivar file: what was about to get its name there.
    :ivar written: whether it got it.
    """

    given: Fingerprint
    file: DownloadedFile
    written: bool = False


class Restoration(NamedTuple):
    """
    What is recorded of one restoration.

    :ivar upload: the last upload that began.
    :ivar starts: every generation that was started or about to be, the oldest first.
    :ivar download: the last file that was written or about to be.
    """

    upload: Upload | None = None
    starts: tuple[Start, ...] = ()
    download: Download | None = None

    # --- what happens ---

    def upload_begun(self, upload: Upload) -> Restoration:
        """A project exists, and its file is about to be sent."""
        return self._replace(upload=upload)

    def uploaded(self, upload: Upload) -> Restoration:
        """The project holds the whole file."""
        return self._replace(upload=upload._replace(begun=None))

    def start_intended(self, request: Fingerprint, counter: int) -> Restoration:
        """A generation is about to be started. What is known of the same start is kept."""
        if self.start_of(request, counter):
            return self
        return self._replace(starts=(*self.starts, Start(request, counter)))

    def started(self, request: Fingerprint, counter: int, generation: Generation) -> Restoration:
        """Diffio has created the generation of an intended start, or had done so before."""
        return self._changed(request, counter, generation=generation)

    def start_failed(self, request: Fingerprint, counter: int) -> Restoration:
        """Diffio has reported the generation of a start as failed."""
        return self._changed(request, counter, failed=True)

    def download_ready(self, given: Fingerprint, file: DownloadedFile) -> Restoration:
        """A restored file has arrived whole, and is about to get its name."""
        return self._replace(download=Download(given, file))

    def downloaded(self, given: Fingerprint, file: DownloadedFile) -> Restoration:
        """The restored file has its name."""
        return self._replace(download=Download(given, file, written=True))

    # --- what is known ---

    def start_of(self, request: Fingerprint, counter: int) -> Start | None:
        """Return one start of this very request, if it was intended."""
        return next(
            (start for start in self.starts if (start.request, start.counter) == (request, counter)), None
        )

    def last_start(self, request: Fingerprint) -> Start | None:
        """Return the last start of this very request."""
        return next((start for start in reversed(self.starts) if start.request == request), None)

    def download_of(self, given: Fingerprint) -> Download | None:
        """Return the download of this very file to this very place."""
        return self.download if self.download and self.download.given == given else None

    def _changed(self, request: Fingerprint, counter: int, **changes: Any) -> Restoration:
        return self._replace(
            starts=tuple(
                start._replace(**changes) if (start.request, start.counter) == (request, counter) else start
                for start in self.starts
            )
        )

    # --- what is stored ---

    def to_record(self) -> dict[str, Any]:
        """Return what to store: plain JSON without secrets, only what is set."""
        record: dict[str, Any] = {"schema": SCHEMA}
        if self.upload:
            record["upload"] = _set(
                given=dict(self.upload.given),
                version=self.upload.version,
                content=self.upload.content,
                begun=_value(self.upload.begun),
                project=_value(self.upload.project),
            )
        if self.starts:
            record["starts"] = [
                _set(
                    request=dict(start.request),
                    counter=start.counter,
                    generation=_value(start.generation),
                    failed=start.failed or None,
                )
                for start in self.starts
            ]
        if self.download:
            record["download"] = _set(
                given=dict(self.download.given),
                file=_value(self.download.file),
                written=self.download.written or None,
            )
        return record

    @classmethod
    def from_record(cls, record: Any) -> Restoration:
        """
        Read what this or an older version stored.

        :param record: what was stored; None when nothing was.
        :raises UnreadableRecordError: when it is no such record, or a newer version's.
        """
        if record is None:
            return cls()
        try:
            if record["schema"] > SCHEMA:
                raise UnreadableRecordError(
                    f"it has schema {record['schema']}, of a newer version of the provider"
                )
            upload, download = record.get("upload"), record.get("download")
            return cls(
                upload=None if upload is None else _read_upload(upload),
                starts=tuple(_read_start(start) for start in record.get("starts") or ()),
                download=None if download is None else _read_download(download),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UnreadableRecordError):
                raise
            raise UnreadableRecordError(f"it is damaged ({type(error).__name__})") from None


def fingerprint(**fields: Any) -> dict[str, str]:
    """
    Return the digests of an input's fields, by their names. A field that is None counts as not given.

    :raises DiffioInputError: when a field is not plain JSON, and so could not be sent either.
    """
    return {name: digest(value)[:_DIGEST_LENGTH] for name, value in fields.items() if value is not None}


def digest(value: Any) -> str:
    """
    Return the SHA-256 of a value in hexadecimal, whatever the order of its keys.

    :raises DiffioInputError: when it is not plain JSON.
    """
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DiffioInputError(f"An argument cannot be sent as JSON: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def changed_fields(before: Fingerprint, now: Fingerprint) -> list[str]:
    """Return the names of the fields that differ between two inputs."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _set(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _value(part: Project | Generation | DownloadedFile | None) -> dict[str, Any] | None:
    return None if part is None else part.to_value()


def _read_upload(upload: Mapping[str, Any]) -> Upload:
    return Upload(
        dict(upload["given"]),
        upload["version"],
        upload.get("content"),
        begun=_read(Project, upload.get("begun")),
        project=_read(Project, upload.get("project")),
    )


def _read_start(start: Mapping[str, Any]) -> Start:
    return Start(
        dict(start["request"]),
        int(start["counter"]),
        _read(Generation, start.get("generation")),
        failed=bool(start.get("failed")),
    )


def _read_download(download: Mapping[str, Any]) -> Download:
    file = _read(DownloadedFile, download["file"])
    if file is None:
        raise KeyError("file")
    return Download(dict(download["given"]), file, written=bool(download.get("written")))


def _read(cls: type[T], value: Mapping[str, Any] | None) -> T | None:
    if value is None:
        return None
    return cls(**{field.name: value[field.name] for field in dataclasses.fields(cls) if field.name in value})
