"""
Answers lineage tools for a task, from what it was given and what it returns.

OpenLineage asks for it when a phase of the task starts and when the task ends, in the process of that very
phase. After a deferral this is another process than the one that began, so nothing that was learned before is
left; the arguments are, and so is the value that the completing method returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.lineage.dataset import Dataset, Lineage

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage import Location

    # Making a protocol costs several classes, and whatever parses DAG files would pay for it.
    class FileWritingTask(Protocol):
        """A task that writes a restored file to a path."""

        path: str
        output_conn_id: str | None

        def place(self, path: str, conn_id: str | None) -> Location:
            """Return where a path leads."""


def restored_files(task: FileWritingTask, value: Mapping[str, Any]) -> list[Dataset]:
    """
    Name the file that a task writes.

    :param task: the operator.
    :param value: the *file* value; empty as long as there is no file, whose name is not known then when
        ``path`` is a directory.
    """
    target = task.place(task.path, task.output_conn_id)
    if not target.is_directory_like:
        return [Dataset.of_file(target, value)]
    return [Dataset.of_file(target.child(value["file_name"]), value)] if value else []


class LineageTask:
    """Answers OpenLineage. Mixed into operators and the sensor, which say what they read and write."""

    hook: DiffioHook
    diffio_conn_id: str
    generation_in_flight: str | None
    #: What this phase of the task returned, once it did.
    returned: Mapping[str, Any] | None = None

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """
        Say what the task reads and writes.

        :param value: what the task returned; empty as long as it has not.
        """
        raise NotImplementedError

    def get_openlineage_facets_on_start(self) -> Any:
        """Tell OpenLineage what the task is going to read and write, as far as its arguments say."""
        return self._tell({})

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Tell OpenLineage what the task has read and written."""
        return self._tell(self.returned or {})

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Tell OpenLineage what the task read, and which generation goes on. It has written nothing."""
        return self._tell({"generation_id": self.generation_in_flight}, failed=True)

    def place(self, path: str, conn_id: str | None) -> Location:
        """Return where a path leads. The store is asked only where its name depends on the connection."""
        from airflow_provider_diffio.hooks.lineage import is_named_by_connection

        location = self.hook.locate(path, conn_id, connect=False)
        return self.hook.locate(path, conn_id) if is_named_by_connection(location) else location

    def _returns(self, value: dict[str, Any]) -> dict[str, Any]:
        """Keep what a phase returns for the moment when it is asked about it, and return it."""
        self.returned = value
        return value

    def _tell(self, value: Mapping[str, Any], *, failed: bool = False) -> Any:
        from airflow_provider_diffio.lineage.openlineage import operator_lineage

        try:
            lineage = self.lineage(value)
        except DiffioError:
            # An argument that cannot work fails the task, and the task says why.
            return None
        facts = {**lineage.facts, "diffio_conn_id": self.diffio_conn_id}
        return operator_lineage(lineage.inputs, () if failed else lineage.outputs, facts)
