"""
One entry of a restoration's chain, which is its whole record at that time: pure, and plain JSON when stored.

Entries are read by other versions of this package than wrote them. So an entry names its schema and its
fields, leaves out what is not set, and fields that are not known here are kept as they are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from airflow_provider_diffio.api.models import DownloadedFile, Generation, Project
from airflow_provider_diffio.ledger.names import Chain, LedgerRequest, Place, Target, normal_type
from airflow_provider_diffio.ledger.restoration import Restoration, Start, UnreadableRecordError

#: The form of the entries that this version writes. Higher ones are refused, and never written over.
SCHEMA = 1

#: Somebody is starting a generation, or was when he died.
CLAIMED = "claimed"
#: He gave it up without knowing of a generation; one may have been started all the same.
RELEASED = "released"
#: A generation was started.
STARTED = "started"
#: Diffio reported the last generation as failed.
FAILED = "failed"
#: A restored file was written, or one that was there was adopted.
DONE = "done"
STATES = (CLAIMED, RELEASED, STARTED, FAILED, DONE)

_KNOWN = frozenset(
    {
        "schema", "number", "state", "owner", "content", "size_bytes", "request", "sources", "restoration",
        "keys", "files", "error", "written_at", "written_by", "started_by",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """
    A file that was made of a recording.

    :ivar target: where it was to be, as the task was told: a directory keeps its final ``/``.
    :ivar download_type: as the task was told.
    :ivar file: what was written.
    """

    target: str
    download_type: str
    file: DownloadedFile


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    What is recorded of one restoration.

    :ivar content: the digest of the recording's content.
    :ivar size_bytes: its length.
    :ivar request: how it is restored.
    :ivar state: ``claimed``, ``released``, ``started``, ``failed`` or ``done``.
    :ivar number: the number of this entry of the chain, from 1.
    :ivar owner: who wrote it: a text that no other process has.
    :ivar restoration: project, generations, and the file that is being written.
    :ivar keys: the idempotency key of each start.
    :ivar started_by: the task instance of each start, as far as one is known.
    :ivar sources: where the recording was found.
    :ivar files: the files that were made of it.
    :ivar error: what Diffio, or the last error, said.
    :ivar written_at: when, by the writer's clock: ISO 8601 in UTC. Nothing is decided by it.
    :ivar written_by: the task instance that wrote it, for people.
    :ivar further: fields of this schema that a later version added.
    """

    content: str
    size_bytes: int
    request: LedgerRequest
    state: str = CLAIMED
    number: int = 0
    owner: str = ""
    restoration: Restoration = field(default_factory=Restoration)
    keys: tuple[str, ...] = ()
    started_by: tuple[str, ...] = ()
    sources: tuple[Place, ...] = ()
    files: tuple[WrittenFile, ...] = ()
    error: str | None = None
    written_at: str = ""
    written_by: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    further: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    # --- what is known ---

    @property
    def chain(self) -> Chain:
        """Where the record is."""
        return Chain.of(self.content, self.request)

    @property
    def project(self) -> Project | None:
        """The project that holds the recording."""
        upload = self.restoration.upload
        return None if upload is None else upload.project

    @property
    def last_start(self) -> Start | None:
        """The last generation that was started or about to be."""
        return self.restoration.starts[-1] if self.restoration.starts else None

    @property
    def generation(self) -> Generation | None:
        """The last generation that is known."""
        return next(
            (start.generation for start in reversed(self.restoration.starts) if start.generation), None
        )

    @property
    def generation_id(self) -> str | None:
        """The id of the last generation that is known."""
        return self.generation.generation_id if self.generation else None

    @property
    def started(self) -> int:
        """How many generations were started, or may have been."""
        return len(self.restoration.starts)

    def started_for(self, position: str) -> int:
        """
        Return how many of them one task instance has started, or may have.

        :param position: the task instance, as in ``started_by``.
        """
        return self.started_by.count(position) if position else 0

    def files_of(self, target: Target) -> list[DownloadedFile]:
        """Return the files that were made for a target: all of it, or fewer."""
        found = {(file.target, file.download_type): file.file for file in self.files}
        return [found[wanted] for wanted in target.files if wanted in found]

    # --- what happens ---

    def with_source(self, place: Place | None) -> Record:
        """The recording was found at a place, too, or in another version there."""
        if place is None or place in self.sources:
            return self
        others = tuple(known for known in self.sources if known.uri != place.uri)
        return replace(self, sources=(*others, place))

    def with_file(self, target: str, download_type: str | None, file: DownloadedFile) -> Record:
        """A file was made of it."""
        made = WrittenFile(target=target, download_type=normal_type(download_type), file=file)
        others = tuple(
            known
            for known in self.files
            if (known.target, known.download_type) != (made.target, made.download_type)
        )
        return replace(self, files=(*others, made))

    # --- what is stored ---

    def to_bytes(self) -> bytes:
        """Return what to store: JSON without secrets, only what is set."""
        record: dict[str, Any] = {
            **self.further,
            "schema": SCHEMA,
            "number": self.number,
            "state": self.state,
            "content": self.content,
            "size_bytes": self.size_bytes,
            "request": self.request.to_record(),
            "restoration": self.restoration.to_record(),
            "owner": self.owner,
            "written_at": self.written_at,
        }
        optional: dict[str, Any] = {
            "keys": list(self.keys),
            "started_by": list(self.started_by),
            "sources": [place._asdict() for place in self.sources],
            "files": [
                {"target": file.target, "download_type": file.download_type, "file": file.file.to_value()}
                for file in self.files
            ],
            "error": self.error,
            "written_by": dict(self.written_by),
        }
        record.update({name: value for name, value in optional.items() if value})
        return json.dumps(record, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """
        Read what this or an older version stored.

        :param data: an entry.
        :raises UnreadableRecordError: when it is none, or a newer version's.
        """
        try:
            return cls._read(json.loads(data))
        except UnreadableRecordError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableRecordError(f"it is damaged ({type(error).__name__})") from None

    @classmethod
    def _read(cls, record: Mapping[str, Any]) -> Record:
        if record["schema"] > SCHEMA:
            raise UnreadableRecordError(
                f"it has schema {record['schema']}, of a newer version of the provider"
            )
        if record["state"] not in STATES:
            raise UnreadableRecordError(f"its state is {record['state']!r:.40}, which is not known")
        return cls(
            content=record["content"],
            size_bytes=record["size_bytes"],
            request=LedgerRequest.from_record(record["request"]),
            state=record["state"],
            number=record["number"],
            owner=record["owner"],
            restoration=Restoration.from_record(record["restoration"]),
            keys=tuple(record.get("keys", ())),
            started_by=tuple(record.get("started_by", ())),
            sources=tuple(
                Place(place["uri"], place["size_bytes"], place["version"])
                for place in record.get("sources", ())
            ),
            files=tuple(
                WrittenFile(
                    target=file["target"],
                    download_type=file["download_type"],
                    file=_read_file(file["file"]),
                )
                for file in record.get("files", ())
            ),
            error=record.get("error"),
            written_at=record.get("written_at", ""),
            written_by=record.get("written_by", {}),
            further={name: value for name, value in record.items() if name not in _KNOWN},
        )


def _read_file(value: Mapping[str, Any]) -> DownloadedFile:
    names = [each.name for each in dataclasses.fields(DownloadedFile)]
    return DownloadedFile(**{name: value[name] for name in names if name in value})
