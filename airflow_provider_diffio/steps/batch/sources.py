"""Collecting the recordings of a batch: from a directory, or from a list, with one listing for thousands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api.arguments import is_path, read_mapping, read_path, read_text
from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError
from airflow_provider_diffio.api.media_types import is_recording, media_type_of
from airflow_provider_diffio.steps.batch.selection import Naming, Patterns, is_below, without_outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage.location import ListedFile, Location

#: What an item of a list may override.
OVERRIDES = ("path", "model", "generation_params", "content_type")
#: From so many recordings of one directory on, the directory is listed instead of asking for each.
_LISTED_FROM = 100
#: Fewer are asked for one by one, so many at a time.
_ASKED_AT_A_TIME = 8
#: In these a directory without files does not exist, so that an empty one is no mistake.
_BUCKETS = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl"})


@dataclass(slots=True, kw_only=True)
class Source:
    """
    One recording of a batch.

    :ivar uri: where it is, without credentials.
    :ivar where: what opens it: its path below the directory, or the path in the list.
    :ivar relative: its path below the directory whose tree is kept.
    :ivar size_bytes: its length; None where it could not be told.
    :ivar version: what the store said of its content.
    :ivar modified: when it was written last, in seconds since the epoch; None where that is not known.
    :ivar path: the item's own destination.
    :ivar model: the item's own model.
    :ivar generation_params: the item's own parameters.
    :ivar content_type: the item's own media type.
    :ivar targets: where its files go, in the order of the download types.
    :ivar refusal: why it cannot be restored, found before anything was sent.
    :ivar gone: whether it was there no more when it was asked for.
    """

    uri: str
    where: str
    relative: str
    size_bytes: int | None = None
    version: str = ""
    modified: float | None = None
    path: str | None = None
    model: str | None = None
    generation_params: Mapping[str, Any] | None = None
    content_type: str | None = None
    targets: tuple[str, ...] = ()
    refusal: str | None = None
    gone: bool = False


class Collection(NamedTuple):
    """
    The recordings of a batch.

    :ivar sources: all of them, in the order in which they are to be restored.
    :ivar ignored: how many files of the directory are no recordings.
    """

    sources: list[Source]
    ignored: int = 0


class Wanted(NamedTuple):
    """
    What a task was told of its sources.

    :ivar sources: a directory, or the items of a list.
    :ivar source_root: below which directory a list's tree is kept; None for base names.
    :ivar patterns: of the files of a directory.
    :ivar exclude: of those that are left out.
    :ivar order: ``name`` or ``oldest``.
    :ivar content_type: media type of all of them; None for what their names say.
    :ivar source_conn_id: the connection that they are reached through.
    """

    sources: Any
    source_root: str | None
    patterns: tuple[str, ...]
    exclude: tuple[str, ...]
    order: str
    content_type: str | None
    source_conn_id: str | None

    @property
    def is_directory(self) -> bool:
        """Whether the sources are a directory, and not a list."""
        return is_path(self.sources)


class Opener:
    """
    Opens recordings, and asks for each directory's connection once.

    :param hook: knows where a path leads.
    :param wanted: what the task was told.
    """

    def __init__(self, hook: DiffioHook, wanted: Wanted) -> None:
        self._hook = hook
        self._wanted = wanted
        self._directories: dict[str, Location] = {}
        self.root = (
            as_directory(hook, read_path(wanted.sources, "sources"), wanted.source_conn_id)
            if wanted.is_directory
            else None
        )

    def open(self, where: str) -> Location:
        """
        Return a recording.

        :param where: see :class:`Source`.
        :raises DiffioInputError: when it leads nowhere.
        """
        if self.root is not None:
            return self.root if where == "" else below(self.root, where)
        directory, slash, name = where.rpartition("/")
        if not name or "://" not in directory or directory.startswith("file:"):
            return self._hook.locate(where, self._wanted.source_conn_id)
        if directory not in self._directories:
            self._directories[directory] = self._hook.locate(directory + slash, self._wanted.source_conn_id)
        return self._directories[directory].child(name)

    def open_if_there(self, where: str) -> Location | None:
        """Return a recording's location; None where it cannot be reached any more."""
        try:
            return self.open(where)
        except DiffioError:
            return None


def collect(
    opener: Opener,
    wanted: Wanted,
    naming: Naming,
    place: Callable[[Source], tuple[str, ...]],
    *,
    never: Sequence[str],
    is_output: Callable[[str], bool],
) -> Collection:
    """
    Return the recordings of a task. Nothing is opened, and Diffio is not asked.

    :param opener: opens them.
    :param wanted: what the task was told.
    :param naming: how the restored files are called.
    :param place: returns where the files of a recording go; raises a ``DiffioInputError`` where that cannot
        be.
    :param never: directories whose files are no sources: output and ledger.
    :param is_output: tells whether a file was made by an earlier run.
    :raises DiffioInputError: when the directory does not exist, or an item is none.
    """
    if wanted.is_directory:
        collection = _of_directory(opener, wanted, never, is_output)
    else:
        collection = Collection(_of_list(opener, wanted))
    for source in collection.sources:
        if source.refusal is None or source.gone:
            _place(source, wanted, naming, place)
    if wanted.is_directory:
        made = without_outputs((source.uri, source.targets) for source in collection.sources)
        collection = collection._replace(
            sources=[source for source in collection.sources if source.uri not in made]
        )
    _refuse_shared_targets(collection.sources)
    if wanted.order == "oldest":
        collection.sources.sort(key=lambda source: (source.modified or 0.0, source.relative))
    return collection


def too_young(source: Source, min_age: float, now: float | None = None) -> bool:
    """
    Tell whether a recording may still be written.

    :param source: the recording.
    :param min_age: the age, in seconds, from which on it is not.
    :param now: the time, in seconds since the epoch.
    """
    return source.modified is not None and (time.time() if now is None else now) - source.modified < min_age


def as_directory(hook: DiffioHook, path: str, conn_id: str | None) -> Location:
    """Return the directory that a path means, with or without its final ``/``."""
    return hook.locate(path if path.endswith("/") else f"{path}/", conn_id)


def below(directory: Location, relative: str) -> Location:
    """
    Return the file at a path below a directory.

    :raises DiffioInputError: when a part of the path is no plain name.
    """
    location = directory
    for part in relative.split("/"):
        location = location.child(part)
    return location


def _of_directory(
    opener: Opener, wanted: Wanted, never: Sequence[str], is_output: Callable[[str], bool]
) -> Collection:
    root = opener.root
    if root is None:
        raise ValueError("The sources are a list.")
    # A prefix of a bucket without files is no directory.
    empty_ok = root.uri.partition("://")[0] in _BUCKETS
    include, exclude = Patterns(wanted.patterns), Patterns(wanted.exclude)
    outside = [directory for directory in never if is_below(directory.rstrip("/"), root.uri)]
    found: list[Source] = []
    ignored = 0
    for file in root.scan(missing_ok=empty_ok):
        if not include.match(file.relative) or exclude.match(file.relative):
            continue
        if any(is_below(file.location.uri, directory) for directory in outside):
            continue
        if wanted.content_type is None and media_type_of(file.location.name) is None:
            ignored += 1
        elif not is_output(file.location.uri):
            found.append(_listed(file))
    found.sort(key=lambda source: source.relative)
    return Collection(found, ignored)


def _listed(file: ListedFile) -> Source:
    source = Source(uri=file.location.uri, where=file.relative, relative=file.relative)
    _describe(source, file)
    return source


def _describe(source: Source, file: ListedFile) -> None:
    source.size_bytes = file.facts.size_bytes
    source.version = file.facts.version
    source.modified = file.modified
    if file.facts.encoding not in (None, "identity"):
        source.refusal = (
            f"It has the content encoding {file.facts.encoding!r}, so its real length is unknown."
            " Store it again without that encoding."
        )
    elif not source.size_bytes:
        source.refusal = "The recording is empty."


def _of_list(opener: Opener, wanted: Wanted) -> list[Source]:
    items = list(_items(wanted.sources))
    root = None
    if wanted.source_root is not None:
        root = as_directory(opener._hook, wanted.source_root, wanted.source_conn_id).uri
    sources: dict[tuple[str, str | None], Source] = {}
    locations: dict[int, Location] = {}
    for item in items:
        source = Source(uri=item["source"], where=item["source"], relative="")
        for name in OVERRIDES:
            setattr(source, name, item.get(name))
        try:
            location = opener.open(source.where)
            source.uri = location.uri
            source.relative = _relative(location, root, wanted.source_root)
            locations[id(source)] = location
        except DiffioInputError as error:
            source.refusal = str(error)
        sources.setdefault((source.uri, source.path), source)
    _ask(list(sources.values()), locations)
    return list(sources.values())


def _items(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise DiffioInputError(
            f"sources must be a path, or a list of paths or mappings, not {type(value).__name__}.",
            advice="See whether the task that it comes from was skipped, or returned nothing."
            if value is None
            else "",
        )
    for number, item in enumerate(value):
        name = f"sources[{number}]"
        if not isinstance(item, Mapping):
            yield {"source": read_path(item, name)}
            continue
        if unknown := sorted(str(key) for key in item if key not in ("source", *OVERRIDES)):
            raise DiffioInputError(
                f"{name} has {unknown[0]!r:.40}, which is not known.",
                advice=f"An item has 'source', and may have {', '.join(OVERRIDES)}.",
            )
        yield {"source": read_path(item.get("source"), f"{name}['source']"), **_overrides(item, name)}


def _overrides(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    readers = {"path": read_path, "generation_params": read_mapping}
    return {
        key: readers.get(key, read_text)(item[key], f"{name}[{key!r}]")
        for key in OVERRIDES
        if item.get(key) is not None
    }


def _relative(location: Location, root: str | None, shown: str | None) -> str:
    if root is None:
        return location.name
    if not is_below(location.uri, root):
        raise DiffioInputError(f"It is not below source_root, which is {shown!r}.")
    return location.uri.removeprefix(root.rstrip("/") + "/")


def _ask(sources: list[Source], locations: Mapping[int, Location]) -> None:
    """Ask the store for what a listing would have told."""
    by_directory: dict[str, list[Source]] = {}
    for source in sources:
        if id(source) in locations and not locations[id(source)].is_local:
            by_directory.setdefault(source.uri.rpartition("/")[0], []).append(source)
    listed: dict[str, ListedFile] = {}
    for some in by_directory.values():
        if len(some) >= _LISTED_FROM:
            listed.update(_list_around(locations[id(some[0])], {source.uri for source in some}))
    with ThreadPoolExecutor(_ASKED_AT_A_TIME) as pool:
        unknown = [source for source in sources if id(source) in locations and source.uri not in listed]
        asked = pool.map(lambda source: _asked(source, locations[id(source)]), unknown)
        listed.update((file.location.uri, file) for file in asked if file is not None)
    for source in sources:
        if source.uri in listed and id(source) in locations:
            _describe(source, listed[source.uri])


def _asked(source: Source, location: Location) -> ListedFile | None:
    try:
        return location.describe()
    except DiffioInputError as error:
        source.refusal = str(error)
        source.gone = not location.is_directory_like and not location.exists()
        return None


def _list_around(location: Location, wanted: set[str]) -> dict[str, ListedFile]:
    directory = location.parent()
    return {
        file.location.uri: file
        for file in directory.scan(recursive=False, missing_ok=True)
        if file.location.uri in wanted
    }


def _place(
    source: Source, wanted: Wanted, naming: Naming, place: Callable[[Source], tuple[str, ...]]
) -> None:
    content_type = source.content_type or wanted.content_type or media_type_of(source.relative)
    if content_type is None:
        source.refusal = (
            f"{source.relative} is neither audio nor video by its name. If it is a recording, give its"
            " content_type."
        )
    elif not source.content_type and not wanted.content_type and not is_recording(content_type):
        source.refusal = f"{content_type} is neither audio nor video."
    elif "video" in naming.download_types and content_type.startswith("audio/"):
        source.refusal = f"download_types asks for video, and {content_type} has none."
    else:
        try:
            source.targets = place(source)
        except DiffioInputError as error:
            source.refusal = str(error)


def _refuse_shared_targets(sources: Iterable[Source]) -> None:
    users: dict[str, list[Source]] = {}
    for source in sources:
        for target in source.targets:
            users.setdefault(target, []).append(source)
    recordings = {source.uri for source in sources}
    for target, some in users.items():
        if len(some) > 1:
            others = ", ".join(source.uri for source in some[:3])
            for source in some:
                source.refusal = (
                    f"{len(some)} recordings would be written to {target}: {others}. Give them other names,"
                    " or a source_root."
                )
        elif target in recordings:
            some[0].refusal = f"Its restored file would replace a recording: {target}."
