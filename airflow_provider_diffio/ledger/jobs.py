"""What a restoration with a ledger is told, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_diffio.api.models import DownloadedFile, Project
from airflow_provider_diffio.ledger.changes import ChangedRequest
from airflow_provider_diffio.ledger.names import Chain, LedgerRequest, Place, Target
from airflow_provider_diffio.ledger.record import Record
from airflow_provider_diffio.ledger.starting import StartBounds

if TYPE_CHECKING:
    from airflow_provider_diffio.storage import Location

MissingOutput = Literal["keep", "download"]
Overwrite = Literal["replace", "skip", "error"]
#: The form in which it is stored what was begun.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """
    A recording, and what can be done with it.

    :ivar uri: where it is; None for one in memory.
    :ivar place: asks the store for its size and version; None for one in memory.
    :ivar digest: reads it, and returns the digest of its content.
    :ivar upload: uploads it, and returns the project with the content's digest, where reading it gave that.
    """

    uri: str | None
    place: Callable[[], Place] | None
    digest: Callable[[], str]
    upload: Callable[[], tuple[Project, str | None]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    What is to become of a recording.

    :ivar request: how it is to be restored.
    :ivar target: the file that is to be made.
    :ivar destination: where it goes; None where it is only returned.
    :ivar overwrite: what to do with a file that is there without a record: ``replace`` it, ``skip`` the
        recording and adopt the file, or ``error``.
    :ivar on_changed_request: ``fail``, ``keep`` or ``start``, where it was restored under other requests
        alone.
    :ivar missing_output: for a recorded file that is there no more: ``keep`` the record as it is, or
        ``download`` the file again.
    :ivar bounds: how much may be spent.
    :ivar request_options: for each request.
    """

    request: LedgerRequest
    target: Target
    destination: Location | None = None
    overwrite: Overwrite = "replace"
    on_changed_request: ChangedRequest = "fail"
    missing_output: MissingOutput = "keep"
    bounds: StartBounds = field(default_factory=StartBounds)
    request_options: Any = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """
    Nothing is to be done: the file is recorded, or was adopted.

    :ivar file: the file.
    :ivar adopted: whether it was there before the ledger.
    """

    file: DownloadedFile
    adopted: bool = False


@dataclass(frozen=True, kw_only=True)
class Begun:
    """
    A generation exists that has to be waited for.

    :ivar record: its record.
    :ivar place: the recording.
    :ivar generation_id: the generation.
    :ivar project_id: its project.
    :ivar started: whether this call has started it.
    """

    record: Record
    place: Place | None
    generation_id: str
    project_id: str
    started: bool = False

    @classmethod
    def of(cls, record: Record, place: Place | None, *, started: bool = False) -> Begun:
        """Return what is begun by a record that has a generation."""
        generation = record.generation
        if generation is None:
            raise ValueError("The record has no generation.")
        return cls(
            record=record,
            place=place,
            generation_id=generation.generation_id,
            project_id=generation.api_project_id,
            started=started,
        )

    def to_value(self) -> dict[str, Any]:
        """Return what to store while a task waits: plain JSON."""
        return {
            "version": _VERSION,
            "content": self.record.content,
            "size_bytes": self.record.size_bytes,
            "request": self.record.request.to_record(),
            "place": self.place._asdict() if self.place else None,
            "generation_id": self.generation_id,
            "project_id": self.project_id,
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any], read: Callable[[Chain], Record | None]) -> Begun:
        """
        Return what was begun before a deferral.

        :param value: what :meth:`to_value` returned.
        :param read: reads a record.
        """
        request = LedgerRequest.from_record(value["request"])
        empty = Record(content=value["content"], size_bytes=value["size_bytes"], request=request)
        place = value.get("place")
        return cls(
            record=read(empty.chain) or empty,
            place=Place(place["uri"], place["size_bytes"], place["version"]) if place else None,
            generation_id=value["generation_id"],
            project_id=value["project_id"],
        )
