"""What a task tells lineage tools, as plain values: datasets, and what was made from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_diffio.storage import Location


class Dataset(NamedTuple):
    """
    A file, project or generation, under the name that OpenLineage has for it.

    :ivar size_bytes: how long the file is, where that is known.
    :ivar sha256: digest of the file, where that is known.
    """

    namespace: str
    name: str
    size_bytes: int | None = None
    sha256: str | None = None

    @classmethod
    def of_file(cls, location: Location, value: Mapping[str, Any]) -> Dataset:
        """Name a file; its size and digest are those of the given value, if it has any."""
        from airflow_provider_diffio.hooks.lineage import dataset_name

        return cls(*dataset_name(location), value.get("size_bytes"), value.get("sha256"))

    @classmethod
    def of_project(cls, project_id: str) -> Dataset:
        from airflow_provider_diffio.hooks.lineage import project_uri

        namespace, name = project_uri(project_id).split("://")
        return cls(namespace, name)

    @classmethod
    def of_generation(cls, project_id: str, generation_id: str) -> Dataset:
        from airflow_provider_diffio.hooks.lineage import generation_uri

        namespace, name = generation_uri(project_id, generation_id).split("://")
        return cls(namespace, name)


class Lineage(NamedTuple):
    """
    What a task reads and writes.

    :ivar facts: what Diffio calls it: any of ``api_project_id``, ``generation_id``, ``model``, ``status``,
        ``download_type``; further keys are not told.
    """

    inputs: Sequence[Dataset] = ()
    outputs: Sequence[Dataset] = ()
    facts: Mapping[str, Any] = MappingProxyType({})
