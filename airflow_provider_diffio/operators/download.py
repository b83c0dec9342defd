"""DiffioDownloadOperator: write a restored file where it belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_diffio.api.polling import DEFAULT_READY_TIMEOUT
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask, restored_files
from airflow_provider_diffio.links import DiffioRestoredFileLink, offered_links, show_none
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.asset_events import report_file
from airflow_provider_diffio.steps.base import Overwrite
from airflow_provider_diffio.steps.download import Destination, download
from airflow_provider_diffio.steps.failures import airflow_failures, of_generation
from airflow_provider_diffio.steps.task_state import TaskState
from airflow_provider_diffio.steps.xcom import read_generation_ids

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.hooks.verification import Verify
    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        PathArgument,
        SecondsArgument,
        TextArgument,
    )


class DiffioDownloadOperator(LineageTask, DiffioOperator):
    """
    Write a restored file to a path, whole or not at all.

    Calls ``get_generation_download`` and fetches the link without any credential of ours. The file appears
    when all of it is there and its length is right. A failed or killed task leaves neither half a file nor a
    half-overwritten old one.

    Returns the *file* value: ``path`` (a local path, or a URI without credentials), ``size_bytes``,
    ``sha256``, ``mime_type``, ``file_name``, ``download_type``, ``generation_id``, ``api_project_id``.

    The event of an ``Asset`` among the task's ``outlets`` has this value as ``extra``; an ``AssetAlias`` gets
    an event for the asset that the written file is, by its URI without connection id.

    :param generation: a mapping with ``generation_id`` and ``api_project_id``, as the sensor returns
        (templated).
    :param path: where to (templated): absolute, a URI such as ``s3://conn_id@bucket/key``, or relative to
        the root that ``output_conn_id`` or the Diffio connection configures. A path that ends in ``/`` gets
        the file's own name.
    :param download_type: ``audio`` (or ``mp3``, the same), ``video`` or ``transcript`` (templated); when not
        given, the video of a video project, otherwise the audio.
    :param output_conn_id: connection that relative paths and stores are reached through (templated).
    :param overwrite: ``replace`` what is there (the default); ``skip``: keep the file when an earlier try of
        this task wrote it and its size and digest are as recorded, and fetch nothing then (Airflow 3.3 and
        later remember it; otherwise it is replaced); or ``error`` if there is another file.
    :param verify: ``audio`` to decode the file to its end before it appears; needs the extra ``audio`` where
        the task runs. What fails is kept beside the path, with ``.failed-verification`` after its name, and
        the task fails for good. Silence is a WARNING; a transcript is not decoded. None, the default, does
        not.
    :param ready_timeout: seconds to wait for a file that Diffio is still putting in place after completion.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix, such as a path outside of its root or a
        transcript that does not exist.
    """

    #: A retry finds in the task state store what the last try had (Airflow 3.3 and later).
    durable: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("path", "generation")
    template_fields: Sequence[str] = (
        "generation",
        "path",
        "download_type",
        "output_conn_id",
        "diffio_conn_id",
    )
    template_fields_renderers = {"generation": "json"}
    operator_extra_links = (DiffioRestoredFileLink(),)

    def __init__(
        self,
        *,
        generation: MappingArgument,
        path: PathArgument,
        download_type: TextArgument | None = None,
        output_conn_id: TextArgument | None = None,
        overwrite: Overwrite = "replace",
        verify: Verify | None = None,
        ready_timeout: SecondsArgument = DEFAULT_READY_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.generation: Any = generation
        self.path: Any = path
        self.download_type: Any = download_type
        self.output_conn_id: Any = output_conn_id
        self.overwrite = overwrite
        self.verify = verify
        self.ready_timeout: Any = ready_timeout
        self.operator_extra_links = offered_links(self, diffio_restored_file_url=path)

    def execute(self, context: Context) -> dict[str, Any]:
        show_none(self)
        with airflow_failures(self), of_generation(self.generation):
            read_arguments(self)
            generation_id, project_id = read_generation_ids(self.generation)
            file = download(
                self.hook,
                generation_id,
                project_id,
                Destination.of_task(self),
                TaskState.of(context),
                ready_timeout=self.ready_timeout,
            )
            return self._returns(report_file(self, context, file))

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from the generation to the restored file."""
        generation_id, project_id = read_generation_ids(self.generation)
        return Lineage(
            inputs=[Dataset.of_generation(project_id, generation_id)],
            outputs=restored_files(self, value),
            facts={**self.generation, **value},
        )
