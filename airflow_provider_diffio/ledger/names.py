"""
What tells a restoration from any other, and the names of objects that are made of it.

Names hold all that a decision needs, so that finished recordings are told from a listing, and none of them is
opened. Every digest in them includes the API's base URL: what was restored by a sandbox is invisible in
production.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.ledger.restoration import changed_fields, digest, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.storage import Location

#: Where the objects of a ledger are.
MARKER = "ledger.json"
RECORDS, DONE, OPEN, OWNERS, RUNS = "records", "done", "open", "owners", "runs"

_CONTENT, _PLACE, _REQUEST, _REVISION = 32, 16, 16, 8
_MOST_ENTRIES = 999_999
_ENTRY = re.compile(r"(?P<request>[0-9a-f]{16})-(?P<revision>[0-9a-f]{8})-(?P<number>[0-9]{6})\.json")
_HINT = re.compile(
    r"(?:[0-9a-f]{2}/)?(?P<place>[0-9a-f]{16})-(?P<version>[0-9a-f]{16})-(?P<size>[0-9]+)"
    r"-(?P<content>[0-9a-f]{32})-(?P<request>[0-9a-f]{16})-(?P<revision>[0-9a-f]{8})"
    r"(?:-(?P<target>[0-9a-f]{16}))?"
)
#: In the name of a file that was adopted, since its recording has not been read.
NOT_READ = "0" * _CONTENT


@dataclass(frozen=True, kw_only=True)
class LedgerRequest:
    """
    How a recording is restored: together with its content, what one restoration is.

    The API key is no part of it, since keys are rotated. Parameters that are not given do not count, nor do
    empty ones, and a field that a later version adds changes nothing as long as it is not given.

    :ivar base_url: the API that restores.
    :ivar model: model id.
    :ivar sampling: passed on to the model.
    :ivar generation_params: passed on to the model, as ``params``.
    :ivar project_params: stored with the project, as ``params``.
    :ivar file_format: the format that Diffio was told.
    :ivar content_type: the media type that was given; None for one that is guessed from the name.
    :ivar revision: a text of the user's that starts everything anew where it changes.
    """

    base_url: str
    model: str
    sampling: Mapping[str, Any] | None = None
    generation_params: Mapping[str, Any] | None = None
    project_params: Mapping[str, Any] | None = None
    file_format: str | None = None
    content_type: str | None = None
    revision: str | None = None

    @property
    def key(self) -> str:
        """The digest of the request, whatever the content, the API and the revision."""
        return digest(self._fingerprint())[:_REQUEST]

    @property
    def revision_key(self) -> str:
        """The digest of the revision."""
        return digest(self.revision or None)[:_REVISION]

    def content_key(self, content: str) -> str:
        """
        Return the digest under which a content is known at this API.

        :param content: the content's own digest.
        """
        return digest(fingerprint(content=content, base_url=self._api))[:_CONTENT]

    def changes(self, other: LedgerRequest) -> list[str]:
        """Return the names of the arguments in which two requests differ, but for API and revision."""
        return changed_fields(self._fingerprint(), other._fingerprint())

    def to_record(self) -> dict[str, Any]:
        """Return what to store: plain JSON, only what is set."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {}, "")}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LedgerRequest:
        """Read what this or an older version stored."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**known)

    @property
    def _api(self) -> str:
        return self.base_url.rstrip("/").lower()

    def _fingerprint(self) -> dict[str, str]:
        return fingerprint(
            model=self.model,
            sampling=self.sampling or None,
            generation_params=self.generation_params or None,
            project_params=self.project_params or None,
            file_format=self.file_format or None,
            content_type=self.content_type or None,
        )


class Place(NamedTuple):
    """
    A recording where it lies, without reading it.

    :ivar uri: where it is.
    :ivar size_bytes: its length.
    :ivar version: what the store says of its content: ETag, generation or time.
    """

    uri: str
    size_bytes: int
    version: str

    @classmethod
    def of(cls, location: Location) -> Place:
        """
        Ask the store for a file's size and version.

        :param location: the file.
        :raises DiffioInputError: when it does not exist.
        """
        fingerprint_text = location.fingerprint()
        size, _, version = fingerprint_text.removeprefix("size=").partition(";")
        return cls(location.uri, int(size), version)

    @property
    def tells_versions(self) -> bool:
        """Whether its store says more of a file than its length."""
        return bool(self.version) and self.version != "version=unknown"

    def key(self, request: LedgerRequest) -> str:
        """Return the digest of where it is."""
        return place_key(self.uri, request)

    @property
    def version_key(self) -> str:
        """The digest of its version."""
        return digest(self.version)[:_PLACE]


class Target(NamedTuple):
    """
    The files that are to be made of a recording.

    :ivar files: where each is to be, and its download type (``audio``, ``video``, ``transcript``; or
        ``default``). A place that ends with ``/`` gets the file under Diffio's name.
    """

    files: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, uri: str, download_type: str | None) -> Target:
        """
        Return the target of one file.

        :param uri: where it is to be.
        :param download_type: as for a download; ``mp3`` is ``audio``.
        """
        return cls(((uri, normal_type(download_type)),))

    @property
    def key(self) -> str:
        """The digest of all of them, whatever their order."""
        return digest(sorted([list(file) for file in self.files]))[:_PLACE]


class Hint(NamedTuple):
    """
    The name of an object that says what became of a recording: in ``open/`` without a target.

    :ivar place: digest of where the recording is.
    :ivar version: digest of its version.
    :ivar size_bytes: its length.
    :ivar content: digest of its content; :data:`NOT_READ` where its file was adopted.
    :ivar request: digest of the request.
    :ivar revision: digest of the revision.
    :ivar target: digest of the files that were made.
    """

    place: str
    version: str
    size_bytes: int
    content: str
    request: str
    revision: str
    target: str | None = None

    @property
    def name(self) -> str:
        """The object's path below ``done/`` or ``open/``."""
        parts = [self.place, self.version, str(self.size_bytes), self.content, self.request, self.revision]
        return f"{self.place[:2]}/{'-'.join([*parts, self.target] if self.target else parts)}"

    @classmethod
    def read(cls, name: str) -> Hint | None:
        """Read a name; None for one that is not of this form."""
        match = _HINT.fullmatch(name)
        if match is None:
            return None
        size = int(match["size"])
        return cls(
            match["place"],
            match["version"],
            size,
            match["content"],
            match["request"],
            match["revision"],
            match["target"],
        )


class Chain(NamedTuple):
    """
    The chain of entries that is one restoration's record.

    :ivar content: digest of the content at its API.
    :ivar request: digest of the request.
    :ivar revision: digest of the revision.
    """

    content: str
    request: str
    revision: str

    @classmethod
    def of(cls, content: str, request: LedgerRequest) -> Chain:
        """
        Return the chain of a restoration.

        :param content: the content's own digest.
        :param request: how it is restored.
        """
        return cls(request.content_key(content), request.key, request.revision_key)

    @property
    def directory(self) -> str:
        """Where the entries of all chains of this content are."""
        return f"{RECORDS}/{self.content}"

    def entry(self, number: int) -> str:
        """Return the name of one entry."""
        if not 1 <= number <= _MOST_ENTRIES:
            raise ValueError(f"A record has no entry {number}.")
        return f"{self.directory}/{self.request}-{self.revision}-{number:06d}.json"


def place_key(uri: str, request: LedgerRequest) -> str:
    """Return the digest of a place as it stands in names."""
    return digest(fingerprint(uri=uri, base_url=request._api))[:_PLACE]


def normal_type(download_type: str | None) -> str:
    """Return one word for each type of file."""
    return {None: "default", "mp3": "audio"}.get(download_type, download_type or "default")


def read_entries(content: str, names: Iterable[str]) -> tuple[dict[Chain, int], list[str]]:
    """
    Read the names of a content's entries.

    :param content: the content's digest at its API.
    :param names: the names in its directory.
    :return: the highest number of each chain, and the names that no version up to this one writes.
    """
    heads: dict[Chain, int] = {}
    unknown = []
    for name in names:
        match = _ENTRY.fullmatch(name)
        if match is None:
            unknown.append(name)
            continue
        chain = Chain(content, match["request"], match["revision"])
        heads[chain] = max(heads.get(chain, 0), int(match["number"]))
    return heads, unknown
