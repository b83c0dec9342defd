"""DiffioRestoreBatchOperator: restore a whole collection in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_WAIT_TIMEOUT,
)
from airflow_provider_diffio.api.progress_log import batch_kill_notice
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask
from airflow_provider_diffio.links import DiffioManifestLink, show_none
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.batch_ledger import check_ledger, is_template
from airflow_provider_diffio.steps.failures import airflow_failures

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Literal, TypeAlias

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_diffio.hooks.verification import Verify
    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        PathArgument,
        SecondsArgument,
        TextArgument,
    )
    from airflow_provider_diffio.steps.base import Overwrite
    from airflow_provider_diffio.steps.batch.rows import Row

    SourcesArgument: TypeAlias = PathArgument | Collection[PathArgument | Mapping[str, Any]]
    PatternArgument: TypeAlias = TextArgument | Collection[str]
    NumberArgument: TypeAlias = int | str | XComArg

#: How many files lineage tools are told of; the manifest has all.
_TOLD = 100


class DiffioRestoreBatchOperator(LineageTask, DiffioOperator):
    """
    Restore a collection of recordings in one task: a directory, a prefix of a bucket, or a list.

    Calls ``create_project`` with its upload, ``{model}-generation``, ``get_generation_progress`` and
    ``get_generation_download`` for each recording. A worker moves what can be moved, and one trigger waits
    for all generations; so the number of task processes grows with ``sources / max_in_flight``.

    What is paid for is recorded in a ledger, by the recording's content. A retry, a cleared task, another
    run or another DAG with the same ledger goes on where it stood, on every Airflow, and pays for nothing
    twice.

    Returns a small value, whatever the number of recordings: the counts ``restored``, ``kept`` (restored
    before), ``adopted`` (the file was there without a record, and ``overwrite`` is ``skip``), ``failed``,
    ``given_up`` (failed in earlier runs, as often as ``max_generations_per_recording`` allows), ``left`` (for
    the next run), ``ignored`` (files that are no recordings), ``started`` (generations that this task
    instance has started, over all of its tries) and ``bytes`` (of the files that it wrote), and ``manifest``:
    where the manifest is, with a row for each recording. Read it by
    :func:`~airflow_provider_diffio.manifest.read_manifest`. The value is there, too, when the task fails.

    One bad recording fails by itself. What is wrong with the account or the key (HTTP 401, 402, 403, 410)
    stops new starts; what was paid for is still collected.

    :param sources: a directory or prefix, or a list whose items are paths, or mappings with ``source`` and
        what it overrides: ``path``, ``model``, ``generation_params``, ``content_type`` (templated).
    :param path: the directory of the restored files; the tree below ``sources`` is kept (templated).
    :param pattern: which files of a directory: one or several shell patterns, in any case and depth; ``*`` by
        default (templated). Files that are no recordings are ignored, and counted.
    :param exclude: patterns of files that are left out; none by default (templated).
    :param min_age: seconds, or a timedelta; younger files may still be written, and are ``left``. 60 by
        default.
    :param order: ``name`` (the default; a list keeps its own order), or ``oldest``, so that a bounded night
        starves nobody.
    :param source_root: the directory below which a list's tree is kept; base names by default (templated).
    :param name: the name of a restored file: ``{name}.{ext}`` by default, which makes ``interview.wav.mp3``
        of ``interview.wav``; may hold ``{name}``, ``{stem}`` and ``{ext}`` (templated).
    :param download_types: of ``audio`` (the default), ``video`` and ``transcript``.
    :param ledger: the directory of the ledger (templated). When not given, the connection's extra
        ``ledger_path``; else ``.diffio-ledger/`` below ``path``, where that is no template.
    :param max_in_flight: generations at Diffio at a time; 500 by default (templated). The connection's extra
        ``max_in_flight`` caps it, and so does what Airflow's database can store of a deferral: about 600.
    :param transfers: uploads and downloads at a time; 4 by default.
    :param max_generations: how many generations this task instance may start over all of its tries; None, the
        default: no bound (templated). When it is reached the task succeeds, and the rest is ``left``.
    :param max_generations_per_recording: how many may be started for one recording over all runs; 2 by
        default: the first one, and one more after Diffio has reported a failure (templated). One try starts
        one at most.
    :param max_failures: how many recordings may fail: a number, or a share such as 0.05; 0 by default
        (templated). More of them fail the task, when everything else is done.
    :param dry_run: write the manifest with what would be started, and send nothing; False by default.
    :param model: model id; the connection's when not given (templated).
    :param sampling: passed on to the model (templated).
    :param generation_params: passed on to the model, as ``params`` (templated).
    :param project_params: stored with each project, as ``params`` (templated).
    :param content_type: media type of all; guessed from each name when not given (templated).
    :param file_format: short label of the format, such as ``wav`` (templated).
    :param overwrite: what to do about a file that is there without a record: ``replace`` (the default),
        ``skip`` (adopt it, and start nothing) or ``error`` (that recording fails).
    :param verify: ``audio`` to decode each restored file to its end before it appears, and to compare its
        length with the source's; see :class:`DiffioDownloadOperator`. What does not pass is kept beside its
        place, counts as failed, and is never paid for again by itself. None, the default, does not.
    :param on_changed_request: what to do when recordings were restored under another request: ``fail`` (the
        default) before anything is sent, ``keep`` those restorations, or ``start`` others.
    :param revision: a text that starts everything anew where it changes (templated).
    :param missing_output: what to do when a restored file is there no more: ``keep`` (the default: it may
        have been moved) or ``download`` it again.
    :param source_conn_id: connection that the sources are reached through (templated).
    :param output_conn_id: connection that the path is reached through (templated).
    :param deferrable: wait on the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between polls of a generation at least; 5 by default.
    :param max_poll_interval: seconds between polls of a generation at most; 180 by default.
    :param timeout: seconds to wait for each generation; 6 hours by default. What is not over then counts as
        failed, and a retry collects it.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix; bad input before anything is sent.
    :raises DiffioBatchFailedError: when more than ``max_failures`` recordings failed.
    """

    template_fields: Sequence[str] = (
        "sources",
        "path",
        "pattern",
        "exclude",
        "source_root",
        "name",
        "ledger",
        "max_in_flight",
        "max_generations",
        "max_generations_per_recording",
        "max_failures",
        "model",
        "sampling",
        "generation_params",
        "project_params",
        "content_type",
        "file_format",
        "revision",
        "source_conn_id",
        "output_conn_id",
        "diffio_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sampling": "json",
        "generation_params": "json",
        "project_params": "json",
    }
    operator_extra_links = (DiffioManifestLink(),)

    #: How many generations are at Diffio, as far as this phase knows.
    batch_in_flight: int = 0
    #: What starts generations in this phase.
    batch_restorer: Any = None

    def __init__(
        self,
        *,
        sources: SourcesArgument,
        path: PathArgument,
        pattern: PatternArgument = "*",
        exclude: PatternArgument = (),
        min_age: SecondsArgument = 60,
        order: Literal["name", "oldest"] = "name",
        source_root: PathArgument | None = None,
        name: TextArgument = "{name}.{ext}",
        download_types: Collection[str] = ("audio",),
        ledger: PathArgument | None = None,
        max_in_flight: NumberArgument = 500,
        transfers: int = 4,
        max_generations: NumberArgument | None = None,
        max_generations_per_recording: NumberArgument = 2,
        max_failures: float | str | XComArg = 0,
        dry_run: bool = False,
        model: TextArgument | None = None,
        sampling: MappingArgument | None = None,
        generation_params: MappingArgument | None = None,
        project_params: MappingArgument | None = None,
        content_type: TextArgument | None = None,
        file_format: TextArgument | None = None,
        overwrite: Overwrite = "replace",
        verify: Verify | None = None,
        on_changed_request: Literal["fail", "keep", "start"] = "fail",
        revision: TextArgument | None = None,
        missing_output: Literal["keep", "download"] = "keep",
        source_conn_id: TextArgument | None = None,
        output_conn_id: TextArgument | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: SecondsArgument = DEFAULT_POLL_INTERVAL,
        max_poll_interval: SecondsArgument = DEFAULT_MAX_POLL_INTERVAL,
        timeout: SecondsArgument = DEFAULT_WAIT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sources: Any = sources
        self.path: Any = path
        self.pattern: Any = pattern
        self.exclude: Any = exclude
        self.min_age: Any = min_age
        self.order = order
        self.source_root: Any = source_root
        self.name: Any = name
        self.download_types: Any = download_types
        self.ledger: Any = ledger
        self.max_in_flight: Any = max_in_flight
        self.transfers = transfers
        self.max_generations: Any = max_generations
        self.max_generations_per_recording: Any = max_generations_per_recording
        self.max_failures: Any = max_failures
        self.plans_only = dry_run  # Airflow's operators have a method of the argument's name
        self.model: Any = model
        self.sampling: Any = sampling
        self.generation_params: Any = generation_params
        self.project_params: Any = project_params
        self.content_type: Any = content_type
        self.file_format: Any = file_format
        self.overwrite = overwrite
        self.verify = verify
        self.on_changed_request = on_changed_request
        self.revision: Any = revision
        self.missing_output = missing_output
        self.source_conn_id: Any = source_conn_id
        self.output_conn_id: Any = output_conn_id
        self.deferrable = deferrable
        self.poll_interval: Any = poll_interval
        self.max_poll_interval: Any = max_poll_interval
        self.timeout: Any = timeout
        self._told_rows: Sequence[Row] = ()
        #: Whether a ledger below ``path`` would be one for each run.
        self.needs_ledger = is_template(path)
        check_ledger(path, ledger, self.diffio_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_diffio.steps.batch.run import begin_batch

        show_none(self)
        with airflow_failures(self):
            return self._finish(context, begin_batch(self, context))

    def execute_complete(
        self, context: Context, event: Any = None, deferral: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Go on after the deferral: collect what is over, and begin with what has waited for that."""
        from airflow_provider_diffio.steps.batch.run import resume_batch

        show_none(self)
        with airflow_failures(self):
            return self._finish(context, resume_batch(self, context, event, deferral))

    def on_kill(self) -> None:
        """Start nothing more, and say what goes on at Diffio."""
        if self.batch_restorer is not None:
            self.batch_restorer.stopping.set()
        self.log.warning("%s", batch_kill_notice(self.batch_in_flight))

    def _finish(self, context: Context, finished: Any) -> dict[str, Any]:
        from airflow_provider_diffio.steps.asset_events import report_batch

        self._told_rows = finished.rows
        value = self._returns(finished.value)
        DiffioManifestLink.show(self, context, finished.manifest)
        if finished.error is not None:
            if self.do_xcom_push:
                # Tasks with another trigger rule read it, although this one fails.
                context["ti"].xcom_push(key="return_value", value=value)
            raise finished.error
        report_batch(self, context, value)
        return value

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from recordings to restored files: from some of each, and the manifest has all."""
        inputs: list[Dataset] = []
        outputs: list[Dataset] = []
        for row in self._told_rows:
            if row.status == "restored" and len(inputs) < _TOLD:
                place = self.place(row.source.uri, self.source_conn_id)
                inputs.append(Dataset.of_file(place, {"size_bytes": row.source.size_bytes}))
                outputs += [
                    Dataset.of_file(self.place(file["path"], self.output_conn_id), file) for file in row.files
                ]
        if not inputs and isinstance(self.sources, str):
            inputs = [Dataset.of_file(self.place(self.sources, self.source_conn_id), {})]
        facts = {"model": self.model or self.hook.config.model, "manifest": value.get("manifest")}
        return Lineage(inputs=inputs, outputs=outputs[:_TOLD], facts=facts)
