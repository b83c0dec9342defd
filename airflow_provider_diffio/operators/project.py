"""DiffioCreateProjectOperator: upload a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask
from airflow_provider_diffio.links import DiffioRecordingLink, offered_links, show_none
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.create_project import Recording, create_project
from airflow_provider_diffio.steps.failures import airflow_failures
from airflow_provider_diffio.steps.task_state import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        PathArgument,
        TextArgument,
    )


class DiffioCreateProjectOperator(LineageTask, DiffioOperator):
    """
    Upload a recording into a new Diffio project.

    Calls ``create_project``, uploads by the protocol that its response asks for, and confirms with
    ``complete_project_upload``. Nothing is billed yet. On Airflow 3.3 and later a retry returns the project
    that an earlier try uploaded the same recording into, and confirms an upload that had arrived whole.
    Otherwise it uploads again into another project; the unfinished one stays behind at Diffio, where it
    costs nothing.

    Returns the *project* value: ``api_project_id``, ``file_name``, ``content_type``, ``size_bytes``,
    ``status``.

    :param source: the recording (templated): a local path, a URI such as ``s3://conn_id@bucket/key``, or a
        path relative to the root that ``source_conn_id`` or the Diffio connection configures.
    :param file_name: the name Diffio is told (templated); the source's own when not given.
    :param content_type: media type (templated); guessed from the name when not given.
    :param file_format: short label of the format, such as ``wav`` (templated).
    :param project_params: stored with the project, as ``params`` (templated). Not ``params``, which in
        Airflow are the parameters of the DAG.
    :param source_conn_id: connection that relative paths and stores are reached through (templated).
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix, such as a missing file or a wrong key.
    """

    #: A retry finds in the task state store what the last try had (Airflow 3.3 and later).
    durable: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("file_name", "source")
    template_fields: Sequence[str] = (
        "source",
        "file_name",
        "content_type",
        "file_format",
        "project_params",
        "source_conn_id",
        "diffio_conn_id",
    )
    template_fields_renderers = {"project_params": "json"}
    operator_extra_links = (DiffioRecordingLink(),)

    def __init__(
        self,
        *,
        source: PathArgument,
        file_name: TextArgument | None = None,
        content_type: TextArgument | None = None,
        file_format: TextArgument | None = None,
        project_params: MappingArgument | None = None,
        source_conn_id: TextArgument | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source: Any = source
        self.file_name: Any = file_name
        self.content_type: Any = content_type
        self.file_format: Any = file_format
        self.project_params: Any = project_params
        self.source_conn_id: Any = source_conn_id
        self.operator_extra_links = offered_links(self, diffio_recording_url=source)

    def execute(self, context: Context) -> dict[str, Any]:
        show_none(self)
        with airflow_failures(self):
            read_arguments(self)
            project = create_project(self.hook, Recording.of_task(self), TaskState.of(context))
            DiffioRecordingLink.show(self, context, self.source, self.source_conn_id)
        return self._returns(project.to_value())

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from the recording to the project."""
        project_id = value.get("api_project_id")
        return Lineage(
            inputs=[Dataset.of_file(self.place(self.source, self.source_conn_id), value)],
            outputs=[Dataset.of_project(project_id)] if project_id else [],
            facts=value,
        )
