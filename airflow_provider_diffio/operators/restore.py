"""DiffioRestoreOperator: upload, restore, wait and download in one task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationError,
    DiffioGenerationTimeoutError,
)
from airflow_provider_diffio.api.models import DownloadedFile
from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_WAIT_TIMEOUT,
)
from airflow_provider_diffio.hooks.lineage import report_generation, report_upload
from airflow_provider_diffio.hooks.verification import check_verify
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask, restored_files
from airflow_provider_diffio.links import (
    DiffioRecordingLink,
    DiffioRestoredFileLink,
    offered_links,
    show_none,
)
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.asset_events import report_file
from airflow_provider_diffio.steps.base import Overwrite
from airflow_provider_diffio.steps.changes import ChangedInput
from airflow_provider_diffio.steps.create_generation import (
    DEFAULT_MAX_GENERATIONS,
    Bounds,
    GenerationOptions,
    TaskIdentity,
    create_generation,
)
from airflow_provider_diffio.steps.create_project import Recording, create_project
from airflow_provider_diffio.steps.download import Destination, download
from airflow_provider_diffio.steps.failures import airflow_failures, of_earlier_tries, of_generation
from airflow_provider_diffio.steps.ledger import (
    DEFAULT_MAX_GENERATIONS_PER_RECORDING,
    ChangedRequest,
    MissingOutput,
)
from airflow_provider_diffio.steps.ledger_restore import has_ledger, restoration_of
from airflow_provider_diffio.steps.task_state import TaskState
from airflow_provider_diffio.steps.wait import (
    check_waiting,
    put_back,
    resume,
    wait_of_task,
    wait_or_defer,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.hooks.uploads import ProjectUpload
    from airflow_provider_diffio.hooks.verification import Verify
    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        PathArgument,
        SecondsArgument,
        TextArgument,
    )


_NO_RECORD = (
    "Airflow before 3.3 keeps no record of it: a retry of this task uploads again and starts another one,"
    " which is billed too."
)


class DiffioRestoreOperator(LineageTask, DiffioOperator):
    """
    Restore one recording: upload it, start a generation, wait for it, and write the result.

    Calls ``create_project`` with its upload, ``{model}-generation``, ``get_generation_progress`` and
    ``get_generation_download``. Made to be mapped: ``.partial(...).expand(source=files)``.

    On Airflow 3.3 and later a retry goes on where the last try stopped: it finds the project and the
    generation in the task's state store. On older versions it uploads again, into a new project, and starts
    another generation, which is billed, since Diffio scopes idempotency keys to a project; there, the four
    single operators pay once whatever dies in between.

    Returns the *file* value of the written file: ``path``, ``size_bytes``, ``sha256``, ``mime_type``,
    ``file_name``, ``download_type``, ``generation_id``, ``api_project_id``. The events of the task's outlets
    tell of it, see :class:`DiffioDownloadOperator`.

    :param source: the recording (templated); see :class:`DiffioCreateProjectOperator`.
    :param path: where the result goes (templated); see :class:`DiffioDownloadOperator`.
    :param model: model id (templated); the connection's when not given.
    :param sampling: passed on to the model (templated).
    :param generation_params: passed on to the model, as ``params`` (templated).
    :param project_params: stored with the project, as ``params`` (templated).
    :param idempotency_key: your own key, 1 to 255 characters (templated).
    :param download_type: ``audio`` (or ``mp3``), ``video`` or ``transcript`` (templated); when not given,
        the video of a video project, otherwise the audio.
    :param file_name: the name Diffio is told (templated); the source's own when not given.
    :param content_type: media type (templated); guessed from the name when not given.
    :param file_format: short label of the format, such as ``wav`` (templated).
    :param source_conn_id: connection that the source is reached through (templated).
    :param output_conn_id: connection that the path is reached through (templated).
    :param overwrite: ``replace`` what is there (the default), ``skip`` or ``error``; see
        :class:`DiffioDownloadOperator`.
    :param verify: ``audio`` to decode the restored file to its end before it appears, and to compare its
        length with the source's (within 0.5 s or 2 %, whichever is larger); see
        :class:`DiffioDownloadOperator`. A file that fails is never paid for again by itself. None, the
        default, does not.
    :param max_generations: how many generations the task instance may start over all of its tries; 2 by
        default: the first one, and one more after Diffio has reported a failure. 1 means never another one.
        Before Airflow 3.3, which keeps no record, it bounds the number of tries that may upload.
    :param ledger: directory or URL of a ledger (templated); the connection's ``ledger_path`` when not given.
        With one, a recording is paid for once, whatever its position, run, DAG or version of Airflow; and
        ``overwrite`` is about files without a record: ``skip`` adopts them, and starts nothing.
    :param on_changed_request: for a recording that the ledger knows under another request: ``fail`` before
        anything is sent (the default), ``keep`` that restoration, or ``start`` another one.
    :param revision: another text starts everything in the ledger anew, on purpose (templated).
    :param missing_output: for a file that is recorded and there no more: ``keep`` the record (the default),
        or ``download`` the file again, which starts nothing.
    :param max_generations_per_recording: how many generations may be started for one recording, over all
        runs that share the ledger; 2 by default.
    :param on_changed_input: what to do when a retry has another input than the try that started a generation:
        ``warn`` (the default) and start another one, or ``fail`` before anything is sent. Airflow 3.3 and
        later notice it.
    :param deferrable: wait on the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between polls at least; 5 by default.
    :param max_poll_interval: seconds between polls at most; 180 by default.
    :param timeout: seconds to wait for the generation at least; 6 hours by default. One that is complete
        when the task asks last counts, also after this time.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix; bad input before anything is sent.
    :raises DiffioGenerationLimitError: as an ``AirflowFailException``, when ``max_generations`` is reached.
    :raises DiffioGenerationFailedError: when Diffio reports the generation as failed.
    :raises DiffioGenerationTimeoutError: when it is not over in time.
    """

    #: A retry finds in the task state store what the last try had (Airflow 3.3 and later).
    durable: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("source",)
    template_fields: Sequence[str] = (
        "source",
        "path",
        "model",
        "sampling",
        "generation_params",
        "project_params",
        "idempotency_key",
        "download_type",
        "file_name",
        "content_type",
        "file_format",
        "source_conn_id",
        "output_conn_id",
        "ledger",
        "revision",
        "diffio_conn_id",
    )
    deferred_arguments: ClassVar[tuple[str, ...]] = (
        "source",
        "source_conn_id",
        "path",
        "output_conn_id",
        "download_type",
        "overwrite",
        "model",
        "diffio_conn_id",
    )
    #: The same of a task with a ledger.
    ledger_arguments: ClassVar[tuple[str, ...]] = (*deferred_arguments, "ledger", "ledger_record")
    #: What was begun in the ledger, for the phase of the task that goes on after a deferral.
    ledger_record: Mapping[str, Any] | None = None
    template_fields_renderers = {"sampling": "json", "generation_params": "json", "project_params": "json"}
    operator_extra_links = (DiffioRecordingLink(), DiffioRestoredFileLink())

    def __init__(
        self,
        *,
        source: PathArgument,
        path: PathArgument,
        model: TextArgument | None = None,
        sampling: MappingArgument | None = None,
        generation_params: MappingArgument | None = None,
        project_params: MappingArgument | None = None,
        idempotency_key: TextArgument | None = None,
        download_type: TextArgument | None = None,
        file_name: TextArgument | None = None,
        content_type: TextArgument | None = None,
        file_format: TextArgument | None = None,
        source_conn_id: TextArgument | None = None,
        output_conn_id: TextArgument | None = None,
        overwrite: Overwrite = "replace",
        verify: Verify | None = None,
        max_generations: int = DEFAULT_MAX_GENERATIONS,
        on_changed_input: ChangedInput = "warn",
        ledger: PathArgument | None = None,
        on_changed_request: ChangedRequest = "fail",
        revision: TextArgument | None = None,
        missing_output: MissingOutput = "keep",
        max_generations_per_recording: int = DEFAULT_MAX_GENERATIONS_PER_RECORDING,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: SecondsArgument = DEFAULT_POLL_INTERVAL,
        max_poll_interval: SecondsArgument = DEFAULT_MAX_POLL_INTERVAL,
        timeout: SecondsArgument = DEFAULT_WAIT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source: Any = source
        self.path: Any = path
        self.model: Any = model
        self.sampling: Any = sampling
        self.generation_params: Any = generation_params
        self.project_params: Any = project_params
        self.idempotency_key: Any = idempotency_key
        self.download_type: Any = download_type
        self.file_name: Any = file_name
        self.content_type: Any = content_type
        self.file_format: Any = file_format
        self.source_conn_id: Any = source_conn_id
        self.output_conn_id: Any = output_conn_id
        self.overwrite = overwrite
        self.verify = verify
        self.max_generations = max_generations
        self.on_changed_input = on_changed_input
        self.ledger: Any = ledger
        self.on_changed_request = on_changed_request
        self.revision: Any = revision
        self.missing_output = missing_output
        self.max_generations_per_recording = max_generations_per_recording
        self.deferrable = deferrable
        self.poll_interval: Any = poll_interval
        self.max_poll_interval: Any = max_poll_interval
        self.timeout: Any = timeout
        self.operator_extra_links = offered_links(
            self, diffio_recording_url=source, diffio_restored_file_url=path
        )

    def execute(self, context: Context) -> dict[str, Any]:
        show_none(self)
        state = self._load_state(context)
        with airflow_failures(self), of_earlier_tries(state):
            read_arguments(self)
            check_waiting(self)
            bounds, task = Bounds.of_task(self), TaskIdentity.of(context)
            options = GenerationOptions.of_task(self)
            options.check()
            check_verify(self.verify)
            if has_ledger(self):
                return self._restore_with_ledger(context)
            Destination.of_task(self).check_before_start(self.hook, state)
            bounds.check_try(self.hook, task, state)
            project = create_project(
                self.hook,
                Recording.of_task(self),
                state,
                on_changed_input=bounds.on_changed_input,
                before_upload=self._check_upload,
                max_generations=bounds.max_generations,
            )
            DiffioRecordingLink.show(self, context, self.source, self.source_conn_id)
            generation = create_generation(self.hook, project.api_project_id, options, task, state, bounds)
            with self._told_of_retries(), of_generation(generation):
                wait = wait_of_task(self, context, generation.generation_id, project.api_project_id)
                wait_or_defer(self, wait, deferrable=self.deferrable)
                return self._download(context, state, wait.generation_id, project.api_project_id)

    def execute_complete(
        self, context: Context, event: Any = None, deferral: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Go on after the deferral: ask Diffio what became of the generation, and download it."""
        show_none(self)
        with airflow_failures(self), of_generation(event):
            if self._was_begun_in_ledger(deferral):
                return self._resume_with_ledger(context, event, deferral)
        state = self._load_state(context)
        with airflow_failures(self), self._told_of_retries(), of_generation(event):
            resume(self, event, deferral)
            generation_id, project_id = event["generation_id"], event["project_id"]
            DiffioRecordingLink.show(self, context, self.source, self.source_conn_id)
            self._report_origin(project_id, generation_id)
            return self._download(context, state, generation_id, project_id)

    def _check_upload(self, upload: ProjectUpload) -> None:
        """Find what would fail only after the generation is paid for."""
        upload.check_download_type(self.download_type)
        self.hook.check_permissions()

    def _restore_with_ledger(self, context: Context) -> dict[str, Any]:
        """Find in the ledger what there is of the recording, and do what is missing."""
        self.deferred_arguments = self.ledger_arguments  # type: ignore[misc]
        with restoration_of(self, context) as restoration:
            begun = restoration.begin()
            if isinstance(begun, DownloadedFile):
                return self._returns(report_file(self, context, begun))
            DiffioRecordingLink.show(self, context, self.source, self.source_conn_id)
            wait = wait_of_task(self, context, begun.generation_id, begun.project_id)
            with restoration.waiting(begun):
                wait_or_defer(self, wait, deferrable=self.deferrable)
            file = restoration.collect(begun)
        return self._returns(report_file(self, context, file))

    def _was_begun_in_ledger(self, deferral: Mapping[str, Any] | None) -> bool:
        if deferral is None:  # dag.test() loses it; the ledger finds what was begun
            return has_ledger(self)
        return bool(deferral.get("arguments", {}).get("ledger_record"))

    def _resume_with_ledger(
        self, context: Context, event: Any, deferral: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if deferral is None:
            read_arguments(self)
            return self._restore_with_ledger(context)
        self.deferred_arguments = self.ledger_arguments  # type: ignore[misc]
        put_back(self, deferral)
        with restoration_of(self, context) as restoration:
            begun = restoration.resumed(self.ledger_record or {})
            with restoration.waiting(begun):
                resume(self, event, deferral)
            DiffioRecordingLink.show(self, context, self.source, self.source_conn_id)
            self._report_origin(begun.project_id, begun.generation_id)
            file = restoration.collect(begun)
        return self._returns(report_file(self, context, file))

    def _load_state(self, context: Context) -> TaskState:
        state = TaskState.of(context)
        self.recorded = state.outlives_the_try
        return state

    @contextmanager
    def _told_of_retries(self) -> Iterator[None]:
        """Say of what fails after the start what a retry of this task does."""
        try:
            yield
        except DiffioError as error:
            if self.recorded or not error.may_be_billed:
                raise
            if isinstance(error, DiffioGenerationTimeoutError):
                error.advice = (
                    "Give the task a longer timeout, or collect this generation by DiffioGenerationSensor and"
                    " DiffioDownloadOperator."
                )
                error.money = f"It goes on at Diffio, and is billed once. {_NO_RECORD}"
            elif not isinstance(error, DiffioGenerationError):
                error.money = (
                    f"The generation is billed once. {_NO_RECORD} Collect this one by DiffioDownloadOperator."
                )
            raise

    def _report_origin(self, project_id: str, generation_id: str) -> None:
        """Tell lineage tools again what was uploaded: they see this phase of the task alone."""
        with suppress(DiffioError):
            source = self.hook.locate(self.source, self.source_conn_id, connect=False)
            report_upload(self.hook, source, project_id)
            report_generation(self.hook, project_id, generation_id)

    def _download(
        self, context: Context, state: TaskState, generation_id: str, project_id: str
    ) -> dict[str, Any]:
        file = download(
            self.hook,
            generation_id,
            project_id,
            Destination.of_task(self),
            state,
            source=self.source,
            source_conn_id=self.source_conn_id,
        )
        return self._returns(report_file(self, context, file))

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from the recording to the restored file."""
        return Lineage(
            inputs=[Dataset.of_file(self.place(self.source, self.source_conn_id), {})],
            outputs=restored_files(self, value),
            facts={"model": self.model or self.hook.config.model, **value},
        )
