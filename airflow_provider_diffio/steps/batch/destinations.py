"""Where the restored files of a batch go, and which of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.steps.batch.selection import ENDINGS, Naming
from airflow_provider_diffio.steps.batch.sources import Source, as_directory, below

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage import Location


class Destinations:
    """
    The output directory of a batch.

    :param hook: knows where a path leads.
    :param path: the directory, with or without its final ``/``.
    :param conn_id: the connection that it is reached through.
    :param naming: how the files are called.
    """

    def __init__(self, hook: DiffioHook, path: str, conn_id: str | None, naming: Naming) -> None:
        self._hook = hook
        self._conn_id = conn_id
        self._naming = naming
        self.root = as_directory(hook, path, conn_id)
        self._there: dict[str, int] | None = None

    def place(self, source: Source) -> tuple[str, ...]:
        """
        Return where the files of a recording go, in the order of the download types.

        :param source: the recording.
        :raises DiffioInputError: when they can be written nowhere.
        """
        return tuple(location.uri for location in self.locations(source))

    def locations(self, source: Source) -> list[Location]:
        """Return the same as locations."""
        if source.path is None:
            return [below(self.root, path) for path in self._naming.paths(source.relative)]
        if source.path.endswith("/"):
            directory = self._hook.locate(source.path, self._conn_id)
            name = source.relative.rpartition("/")[2]
            return [below(directory, path) for path in self._naming.paths(name)]
        types = self._naming.download_types
        if len(types) > 1 and "{ext}" not in source.path:
            raise DiffioInputError(
                f"path {source.path!r} is one file, and download_types has {len(types)} types. Put {{ext}}"
                " into it, or end it with '/'."
            )
        return [
            self._hook.locate(source.path.replace("{ext}", ENDINGS[each]), self._conn_id) for each in types
        ]

    def check_writable(self, sources: list[Source]) -> None:
        """
        Make sure, before anything is sent, that files can be written.

        :param sources: those of the recordings that have a destination of their own.
        :raises DiffioError: when they cannot.
        """
        self.root.check_writable()
        directories: dict[str, tuple[Location, Source]] = {}
        for source in sources:
            if source.path is not None and source.refusal is None:
                location = self.locations(source)[0]
                directories.setdefault(location.uri.rpartition("/")[0], (location, source))
        for location, source in directories.values():
            try:
                location.check_writable()
            except DiffioInputError as error:
                source.refusal = str(error)

    def are_there(self, source: Source) -> bool:
        """
        Tell whether all files of a recording are there. Asks for one listing, however many are asked about.

        :param source: the recording.
        """
        if source.path is not None:
            return all(location.exists() for location in self.locations(source))
        return all(uri in self._listed for uri in source.targets)

    def facts(self, source: Source) -> list[dict[str, object]]:
        """Return what is known of a recording's files that are there without a record."""
        types = self._naming.download_types
        if source.path is not None:
            sizes = {location.uri: location.size() for location in self.locations(source)}
        else:
            sizes = self._listed
        return [
            {"path": uri, "size_bytes": sizes[uri], "download_type": each}
            for uri, each in zip(source.targets, types, strict=True)
        ]

    @property
    def _listed(self) -> dict[str, int]:
        if self._there is None:
            found = self.root.scan(missing_ok=True)
            self._there = {file.location.uri: file.facts.size_bytes for file in found}
        return self._there
