"""What a listing of a ledger tells of recordings, without opening any object: pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from airflow_provider_diffio.ledger.names import NOT_READ, Hint, LedgerRequest, Place, Target

#: * ``kept``: the target's files are recorded, under this very request.
#: * ``known``: the content is known without reading the recording.
#: * ``changed``: so it is, and it was restored under other requests alone.
#: * ``touched``: another version of the same length was there; its content has to be compared.
#: * ``replaced``: another recording was there.
#: * ``new``: nothing was recorded of this place.
Status = Literal["kept", "known", "changed", "touched", "replaced", "new"]


class Known(NamedTuple):
    """
    What is known of a recording by names alone.

    :ivar status: see :data:`Status`.
    :ivar hint: the name that says so; of several, one that is finished. None for what is new.
    """

    status: Status
    hint: Hint | None = None

    @property
    def content(self) -> str | None:
        """The digest of the content at its API, as it stands in names; None where it is not known."""
        if self.hint is None or self.status in ("touched", "replaced", "new"):
            return None
        return None if self.hint.content == NOT_READ else self.hint.content

    @property
    def is_adopted(self) -> bool:
        """Whether the file was there before the ledger."""
        return self.hint is not None and self.hint.content == NOT_READ


NEW = Known("new")


class LedgerIndex:
    """
    The names of a ledger, or of one place in it.

    :param done: names below ``done/``.
    :param opened: names below ``open/``.
    """

    def __init__(self, done: Iterable[str], opened: Iterable[str]) -> None:
        self._places: dict[str, list[Hint]] = {}
        self._open: list[Hint] = []
        #: Names that no version up to this one writes. They are hints alone, so they are passed over.
        self.unknown: list[str] = []
        self._add(done, finished=True)
        self._add(opened, finished=False)

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(len(hints) for hints in self._places.values())

    @property
    def open(self) -> tuple[Hint, ...]:
        """The recordings that were begun and are not finished."""
        return tuple(self._open)

    def find(self, place: Place, request: LedgerRequest, target: Target) -> Known:
        """
        Return what is known of a recording.

        :param place: where it lies, with its size and version as they are now.
        :param request: how it is to be restored.
        :param target: the files that are to be made of it.
        """
        hints = self._of(place.uri, request)
        same = [hint for hint in hints if _is_same(hint, place)]
        if not same:
            return _other_version(hints, place)
        # What was restored at another revision has been restored; whether that counts is not said by names.
        revision = [hint for hint in same if hint.revision == request.revision_key]
        mine = [hint for hint in revision if hint.request == request.key]
        for hint in mine:
            if hint.target == target.key:
                return Known("kept", hint)
        if mine:
            return Known("known", _read_first(mine))
        if revision:
            return Known("changed", _read_first(revision))
        return Known("known", _read_first(same))

    def has_target(self, uri: str, request: LedgerRequest, target: Target) -> bool:
        """
        Tell whether a target's files were made of whatever was at a place, under whatever request.

        :param uri: the place.
        :param request: for its API.
        :param target: the files.
        """
        return any(hint.target == target.key for hint in self._of(uri, request))

    def find_gone(self, uri: str, request: LedgerRequest, target: Target) -> Known:
        """
        Return what is known of a recording that is there no more.

        :param uri: where it was.
        :param request: how it was to be restored.
        :param target: the files that were to be made of it.
        :return: ``kept``, ``known`` or ``new``; of several recordings that were there, the one that is open.
        """
        hints = [
            hint
            for hint in self._of(uri, request)
            if (hint.request, hint.revision) == (request.key, request.revision_key)
        ]
        opened = [hint for hint in hints if hint.target is None]
        if len({hint.content for hint in opened}) == 1:
            return Known("known", opened[0])
        for hint in hints:
            if hint.target == target.key:
                return Known("kept", hint)
        if len({hint.content for hint in hints}) == 1 and hints[0].content != NOT_READ:
            return Known("known", hints[0])
        return NEW

    @property
    def targets(self) -> set[str]:
        """The keys of all targets that are finished."""
        return {hint.target for hints in self._places.values() for hint in hints if hint.target}

    def _of(self, uri: str, request: LedgerRequest) -> list[Hint]:
        from airflow_provider_diffio.ledger.names import place_key

        return self._places.get(place_key(uri, request), [])

    def _add(self, names: Iterable[str], *, finished: bool) -> None:
        for name in names:
            hint = Hint.read(name)
            if hint is None or (hint.target is not None) != finished:
                self.unknown.append(name)
                continue
            self._places.setdefault(hint.place, []).append(hint)
            if not finished:
                self._open.append(hint)


def _is_same(hint: Hint, place: Place) -> bool:
    return place.tells_versions and hint.version == place.version_key and hint.size_bytes == place.size_bytes


def _other_version(hints: list[Hint], place: Place) -> Known:
    read = [hint for hint in hints if hint.content != NOT_READ]
    as_long = [hint for hint in read if hint.size_bytes == place.size_bytes]
    if as_long:
        return Known("touched", as_long[0])
    return Known("replaced", read[0]) if read else NEW


def _read_first(hints: list[Hint]) -> Hint:
    """Return one whose recording was read, if there is one, and of those a finished one."""
    return min(hints, key=lambda hint: (hint.content == NOT_READ, hint.target is None))
