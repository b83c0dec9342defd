"""
One recording all the way, with a ledger: what is known of it, what is started, and what becomes of its file.

Whoever restores says how a recording is read and uploaded, and waits for its generation himself; so a task
can defer in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import (
    DiffioInputError,
    DiffioNotFoundError,
    DiffioSourceChangedError,
)
from airflow_provider_diffio.api.models import DownloadedFile, Generation, Project
from airflow_provider_diffio.api.money import mark_billed
from airflow_provider_diffio.ledger.adoption import Adoption
from airflow_provider_diffio.ledger.errors import DiffioLedgerError
from airflow_provider_diffio.ledger.index import Known, LedgerIndex
from airflow_provider_diffio.ledger.jobs import Begun, Job, Kept, Source
from airflow_provider_diffio.ledger.ledger import Ledger
from airflow_provider_diffio.ledger.names import LedgerRequest, Place
from airflow_provider_diffio.ledger.record import DONE, Record
from airflow_provider_diffio.ledger.starting import Held, has_generation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    from airflow_provider_diffio.api.models import GenerationProgress, GenerationSummary

    class RestoringHook(Protocol):
        """What a restoration needs of a hook."""

        def create_generation(
            self,
            project_id: str,
            *,
            model: str | None = None,
            sampling: Mapping[str, Any] | None = None,
            params: Mapping[str, Any] | None = None,
            idempotency_key: str | None = None,
            request_options: Any = None,
        ) -> Generation: ...

        def list_project_generations(
            self, project_id: str, *, request_options: Any = None
        ) -> Iterable[GenerationSummary]: ...

        def get_generation_progress(
            self, generation_id: str, project_id: str | None = None, *, request_options: Any = None
        ) -> GenerationProgress: ...


log = logging.getLogger(__name__)

#: How long another process is waited for that is about to start this very generation, and between readings.
_MOST_WAITING = 600.0
_PAUSE = 1.0


class LedgerRestoration:
    """
    Restores one recording with a ledger.

    :param hook: asks Diffio.
    :param ledger: where it is recorded.
    :param source: the recording.
    :param job: what is to become of it.
    """

    def __init__(self, hook: RestoringHook, ledger: Ledger, source: Source, job: Job) -> None:
        self._hook = hook
        self._ledger = ledger
        self._source = source
        self._job = job

    def begin(self) -> Kept | Begun:
        """
        Find out what is known of the recording, and upload it and start a generation where that is needed.

        :raises DiffioInputError: before anything is sent.
        :raises DiffioGenerationLimitError: when another generation would be one too many.
        :raises DiffioLedgerError: when the ledger could not be read or written; nothing was started then.
        :raises DiffioError: when the upload or the start did not work.
        """
        place, index, gone = self._find_place()
        known = self._known(place, index)
        if known.status == "kept" and (kept := self._kept_by_name(known)):
            return kept
        if place is not None and (adopted := self._check_destination(place, index, known)):
            return adopted
        if known.status == "changed" and known.is_adopted and (kept := self._kept_adopted(known)):
            return kept
        content, record = self._find_record(known)
        if record is None and gone is not None:
            raise gone
        if record is not None and record.state == DONE and (kept := self._kept(record)):
            self._ledger.list_done(record, place, self._job.target, request=self._job.request)
            return kept
        project = None
        if record is None or (not has_generation(record) and record.project is None):
            if gone is not None:
                raise gone
            if record is None and content is not None:
                self._warn_of_replacement(known, self._job.request.content_key(content))
            project, content, record = self._upload(place, known, content)
            if record is not None and record.state == DONE and (kept := self._kept(record)):
                self._ledger.list_done(record, place, self._job.target, request=self._job.request)
                return kept
        return self._start(place, content or (record.content if record else ""), record, project)

    def failed(self, begun: Begun, error: BaseException) -> None:
        """Record that Diffio reports the generation as failed."""
        self._ledger.failed(begun.record, begun.generation_id, error)

    def to_value(self, begun: Begun) -> dict[str, Any]:
        """Return what to store of it while a task waits: plain JSON."""
        return {**begun.to_value(), "asked": self._job.request.to_record()}

    def resume(self, value: Mapping[str, Any]) -> Begun:
        """
        Return what an earlier phase of the task had begun. What was asked for then counts.

        :param value: what :meth:`to_value` returned.
        :raises DiffioLedgerError: when the ledger could not be read.
        """
        self._job = replace(self._job, request=LedgerRequest.from_record(value["asked"]))
        return Begun.from_value(value, self._ledger.record)

    def collect(
        self, begun: Begun, download: Callable[[Callable[[DownloadedFile], None] | None], DownloadedFile]
    ) -> DownloadedFile:
        """
        Fetch the file of a complete generation, and record it.

        :param begun: what :meth:`begin` returned, or :meth:`resume`.
        :param download: fetches the file; is given what is to be told right before the file gets its name.
        :return: the file; the one that another process has recorded meanwhile, where it did.
        :raises DiffioError: when it could not be fetched.
        """
        record = self._ledger.record(begun.record.chain) or begun.record
        if record.state == DONE and (kept := self._kept(record)):
            return kept.file
        if record.generation_id != begun.generation_id:
            record = begun.record
        ready = None
        if self._job.overwrite != "replace":

            def ready(file: DownloadedFile) -> None:
                self._ledger.ready(record, file, self._job.target)

        with _found_by_this_key(begun):
            file = download(ready)
        self._ledger.finish(record, begun.place, self._job.target, [file], request=self._job.request)
        return file

    # --- what is known ---

    def _find_place(self) -> tuple[Place | None, LedgerIndex, DiffioInputError | None]:
        if self._source.uri is None or self._source.place is None:
            return None, LedgerIndex((), ()), None
        try:
            place = self._source.place()
        except DiffioInputError as error:
            return None, self._ledger.index_of(self._source.uri, self._job.request), error
        return place, self._ledger.index_of(place.uri, self._job.request), None

    def _known(self, place: Place | None, index: LedgerIndex) -> Known:
        if place is not None:
            return index.find(place, self._job.request, self._job.target)
        if self._source.uri is not None:
            return index.find_gone(self._source.uri, self._job.request, self._job.target)
        return Known("new")

    def _kept_by_name(self, known: Known) -> Kept | None:
        if known.hint is None:
            return None
        if known.is_adopted:
            file = self._adoption.kept(known.hint, download_missing=self._job.missing_output == "download")
            return Kept(file=file, adopted=True) if file else None
        record = self._ledger.record_of(known.hint)
        return None if record is None else self._kept(record)

    def _kept(self, record: Record) -> Kept | None:
        """Return the file that is recorded for this target, unless it is to be downloaded again."""
        files = record.files_of(self._job.target)
        destination = self._job.destination
        if len(files) != len(self._job.target.files) or destination is None:
            return None
        if self._job.missing_output == "download" and not destination.file(files[0].file_name).exists():
            log.warning("%s is recorded and is not there; it is downloaded again.", files[0].path)
            return None
        log.info("%s is recorded as restored (generation %s).", files[0].path, record.generation_id)
        return Kept(file=files[0])

    def _kept_adopted(self, known: Known) -> Kept | None:
        """Return a file that was adopted under another request, where that counts."""
        counts = self._adoption.check_request(self._job.on_changed_request, self._source.uri)
        same_target = known.hint is not None and known.hint.target == self._job.target.key
        return self._kept_by_name(known) if counts and same_target else None

    @property
    def _adoption(self) -> Adoption:
        return Adoption(self._ledger, self._job.request, self._job.target, self._job.destination)

    def _check_destination(self, place: Place, index: LedgerIndex, known: Known) -> Kept | None:
        """Refuse or adopt a file that is there without a record, as ``overwrite`` says."""
        job, destination = self._job, self._job.destination
        if destination is None or destination.is_directory_like or job.overwrite == "replace":
            return None
        if not destination.exists():
            return None
        if known.hint is not None and not known.is_adopted and (finished := self._finish_own(place, known)):
            return finished
        if job.overwrite == "error":
            raise DiffioInputError(f"{destination.uri} exists already, and overwrite is 'error'.")
        if index.has_target(place.uri, job.request, job.target):
            return None
        return Kept(file=self._adoption.adopt(place), adopted=True)

    def _finish_own(self, place: Place, known: Known) -> Kept | None:
        """Record a file that an earlier try wrote, and died before it could say so."""
        destination = self._job.destination
        record = self._ledger.record_of(known.hint) if known.hint and known.content else None
        download = record.restoration.download if record else None
        if record is None or download is None or destination is None:
            return None
        if download.given != {"target": self._job.target.key}:
            return None
        file = download.file
        if destination.size() != file.size_bytes or destination.sha256() != file.sha256:
            return None
        self._ledger.finish(record, place, self._job.target, [file], request=self._job.request)
        return Kept(file=file)

    def _find_record(self, known: Known) -> tuple[str | None, Record | None]:
        """Return the content's own digest where it has been read, and the record that counts for it."""
        content: str | None = None
        key = known.content
        if known.status == "touched" or self._source.place is None:
            content = self._source.digest()
            key = self._job.request.content_key(content)
        if key is None:
            return content, None
        return content, self._ledger.find(key, self._job.request, self._job.on_changed_request)

    # --- what happens ---

    def _upload(
        self, place: Place | None, known: Known, content: str | None
    ) -> tuple[Project, str, Record | None]:
        if known.status == "replaced":
            self._warn_of_replacement(known)
        project, read = self._source.upload()
        digest = read or self._source.digest()
        if place is not None and self._source.place is not None and self._source.place() != place:
            raise DiffioSourceChangedError(f"{place.uri} changed while it was uploaded.")
        record = None
        if digest != content:
            key = self._job.request.content_key(digest)
            record = self._ledger.find(key, self._job.request, self._job.on_changed_request)
        return project, digest, record

    def _warn_of_replacement(self, known: Known, content: str | None = None) -> None:
        was_other = known.status == "replaced" or (
            known.status == "touched" and content != (known.hint and known.hint.content)
        )
        if was_other:
            log.warning(
                "%s is not the recording that was restored from there before: its content changed. Another"
                " generation is started for it, and billed too.",
                self._source.uri,
            )

    def _start(
        self, place: Place | None, content: str, record: Record | None, project: Project | None
    ) -> Begun:
        request = record.request if record else self._job.request
        size = record.size_bytes if record else (project.size_bytes if project else 0)
        if place is not None:
            self._ledger.note_content(place, content, self._job.request)
        deadline, new = time.monotonic() + _MOST_WAITING, False

        def send(project_id: str, key: str) -> Generation:
            nonlocal new
            generation = self._hook.create_generation(
                project_id,
                model=request.model,
                sampling=request.sampling,
                params=request.generation_params,
                idempotency_key=key,
                request_options=self._job.request_options,
            )
            new = not generation.idempotent_replay
            return generation

        while True:
            outcome = self._ledger.start(
                content,
                size,
                request,
                project=project,
                place=place,
                send=send,
                existing=lambda project_id: self._hook.list_project_generations(
                    project_id, request_options=self._job.request_options
                ),
                bounds=self._job.bounds,
            )
            if isinstance(outcome, Held):
                self._wait_for(outcome, deadline)
            elif new or not self._is_used_up(outcome):
                return Begun.of(outcome, place, started=new)

    def _is_used_up(self, record: Record) -> bool:
        """Tell whether the generation of an earlier try has failed, and record that it did."""
        if record.state == DONE or record.generation is None:
            return False
        generation = record.generation
        log.info("Generation %s of this recording was started before.", generation.generation_id)
        with _found_by_this_key(Begun.of(record, None)):
            progress = self._hook.get_generation_progress(
                generation.generation_id, generation.api_project_id, request_options=self._job.request_options
            )
        if progress.is_failed:
            self._ledger.failed(record, generation.generation_id, progress.error or "It failed.")
        return progress.is_failed

    def _wait_for(self, held: Held, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise DiffioLedgerError(
                f"Another process has been starting this recording's generation for {_MOST_WAITING:.0f} s:"
                f" {dict(held.record.written_by) or held.record.owner}."
            )
        time.sleep(_PAUSE)


@contextmanager
def _found_by_this_key(begun: Begun) -> Iterator[None]:
    """Say of a generation that cannot be found that it is never started again silently."""
    try:
        yield
    except DiffioNotFoundError as error:
        error.generation_id = begun.generation_id
        error.advice = (
            "The ledger records this generation, and this API key cannot find it or its file. Use the key"
            " that started it. If it is gone at Diffio, forget the record or give"
            " another revision: another generation is started then, and billed too."
        )
        error.money = ""
        mark_billed(error, "The generation that was started is billed once; this try started none.")
        raise
