"""What is done about one recording of a batch: upload and start, or collect. Runs in several threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import (
    DiffioApiError,
    DiffioError,
    DiffioGenerationLimitError,
    DiffioInputError,
    DiffioNotFoundError,
    DiffioPermissionError,
    DiffioSourceChangedError,
)
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.steps.batch.rows import OPEN, PENDING, Row
from airflow_provider_diffio.steps.ledger import (
    Chain,
    Held,
    LedgerRequest,
    Place,
    Record,
    StartBounds,
    Target,
    has_generation,
)

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import DownloadedFile, Generation, Project
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.steps.batch.budget import Budget
    from airflow_provider_diffio.steps.batch.destinations import Destinations
    from airflow_provider_diffio.steps.batch.options import BatchOptions
    from airflow_provider_diffio.steps.batch.sources import Opener
    from airflow_provider_diffio.steps.ledger import Ledger
    from airflow_provider_diffio.storage import Location


class StoppedError(Exception):
    """Nothing more is to be started; the recording is as it was."""


class BudgetSpentError(Exception):
    """``max_generations`` is reached; the recording is as it was."""


class Restorer:
    """
    Moves single recordings on.

    :param hook: sends the requests; several threads use it.
    :param ledger: where starts are recorded before they happen.
    :param options: how recordings are restored.
    :param opener: opens them.
    :param destinations: where their files go.
    :param budget: how many generations may be started.
    """

    def __init__(
        self,
        hook: DiffioHook,
        ledger: Ledger,
        options: BatchOptions,
        opener: Opener,
        destinations: Destinations,
        budget: Budget,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._options = options
        self._opener = opener
        self._destinations = destinations
        self._budget = budget
        self._bounds = StartBounds(per_recording=options.arguments["max_generations_per_recording"])
        #: The records whose generation was started by this try: none of them is started by it again.
        self.started_chains: set[tuple[str, ...]] = set()
        #: Set when the task is being stopped.
        self.stopping = threading.Event()
        #: Set when no further generation may be started, whatever else goes on.
        self.starting_ended = threading.Event()

    # --- upload and start ---

    def begin(self, row: Row) -> None:
        """
        Upload a recording and start its generation, or find what was started before.

        The row is ``open`` then, or has its final status; it is ``pending`` still when another process is
        about to start this very generation.

        :param row: the recording.
        :raises StoppedError: when nothing more is to be started.
        :raises BudgetSpentError: when ``max_generations`` is reached.
        :raises DiffioError: when it did not work; ``may_be_billed`` says whether it may have been started.
        """
        source = row.source
        request, target = self._options.request_of(source), self._options.target_of(source)
        place = None if source.gone else Place(source.uri, source.size_bytes or 0, source.version)
        if row.adopt and place is not None:
            facts = self._destinations.facts(source)
            self._ledger.adopt(place, request, target, facts)
            row.files = tuple(facts)
            row.end("adopted")
            return
        digest, record = self._find_record(row, request)
        if record is None or (not has_generation(record) and record.project is None):
            if place is None:
                row.end("failed", source.refusal, hopeless=True)
                return
            self._check_may_start(record, request, row.content)
            project, digest, record = self._upload(row, place, request)
        else:
            project = None
        if record is not None and self._is_kept(row, record, place, target, request):
            return
        asked = record.request if record else request
        self._start(row, place, digest or (record.content if record else ""), asked, record, project)

    def _find_record(self, row: Row, request: LedgerRequest) -> tuple[str | None, Record | None]:
        """Return the digest of the content where it was read, and the record that counts for it."""
        if row.upload is not None:
            _, digest = row.upload
            return digest, self._find(request.content_key(digest), request)
        if row.compare:
            from airflow_provider_diffio.hooks.sources import content_digest

            digest = content_digest(self._opener.open(row.source.where))
            row.content = request.content_key(digest)
            row.compare = False
            return digest, self._find(row.content, request)
        return None, None if row.content is None else self._find(row.content, request)

    def _find(self, content_key: str, request: LedgerRequest) -> Record | None:
        return self._ledger.find(content_key, request, self._options.arguments["on_changed_request"])

    def _upload(self, row: Row, place: Place, request: LedgerRequest) -> tuple[Project, str, Record | None]:
        if row.upload is None:
            given = self._options.arguments
            location = self._opener.open(row.source.where)
            upload = self._hook.prepare_upload(
                location,
                content_type=request.content_type,
                file_format=given["file_format"],
                params=given["project_params"],
            )
            project = upload.run()
            digest = upload.content_digest
            if digest is None or Place.of(location) != place:
                raise DiffioSourceChangedError(f"{place.uri} changed while it was uploaded.")
            row.upload = (project, digest)
        project, digest = row.upload
        row.content = request.content_key(digest)
        return project, digest, self._find(row.content, request)

    def _is_kept(
        self, row: Row, record: Record, place: Place | None, target: Target, request: LedgerRequest
    ) -> bool:
        """Tell whether the files are recorded already, for identical bytes or another request that counts."""
        files = record.files_of(target)
        if len(files) < len(target.files):
            return False
        if self._options.arguments["missing_output"] == "download" and not self._destinations.are_there(
            row.source
        ):
            return False
        self._ledger.list_done(record, place, target, request=request)
        self._describe(row, record)
        row.files = tuple(file.to_value() for file in files)
        row.end("kept")
        return True

    def _check_may_start(self, record: Record | None, request: LedgerRequest, content: str | None) -> None:
        if self.stopping.is_set() or self.starting_ended.is_set():
            raise StoppedError
        if self._budget.is_spent and not (
            content and self._budget.has(_start_of(record, Chain(content, request.key, request.revision_key)))
        ):
            raise BudgetSpentError

    def _start(
        self,
        row: Row,
        place: Place | None,
        digest: str,
        request: LedgerRequest,
        record: Record | None,
        project: Project | None,
    ) -> None:
        chain = Chain.of(digest, request)
        if record is not None and has_generation(record):
            if place is not None:
                self._ledger.note_content(place, digest, self._options.request_of(row.source))
            self._found(row, record)
            return
        if tuple(chain) in self.started_chains:
            row.end("failed", f"Its generation failed: {record.error if record else 'no reason given'}")
            return
        self._check_may_start(record, request, chain.content)
        if place is not None:
            self._ledger.note_content(place, digest, self._options.request_of(row.source))
        start = _start_of(record, chain)
        if not self._budget.reserve(start):
            raise BudgetSpentError
        self._send(row, place, digest, request, project, start)

    def _send(
        self,
        row: Row,
        place: Place | None,
        digest: str,
        request: LedgerRequest,
        project: Project | None,
        start: str,
    ) -> None:
        sent: list[Generation] = []

        def send(project_id: str, key: str) -> Generation:
            generation = self._hook.create_generation(
                project_id,
                model=request.model,
                sampling=request.sampling,
                params=request.generation_params,
                idempotency_key=key,
            )
            if not generation.idempotent_replay:
                sent.append(generation)
            return generation

        happened = True
        try:
            outcome = self._ledger.start(
                digest,
                row.source.size_bytes or 0,
                request,
                project=project,
                place=place,
                send=send,
                existing=self._hook.list_project_generations,
                bounds=self._bounds,
            )
            # Otherwise another process is starting it, or has done so.
            happened = isinstance(outcome, Record) and bool(sent or self._is_mine(outcome))
        except DiffioGenerationLimitError as error:
            happened = False
            self._end_at_limit(row, Chain.of(digest, request), error)
            return
        except DiffioApiError as error:
            happened = error.may_be_billed
            raise
        finally:
            self._budget.settle(start, happened=happened)
        if isinstance(outcome, Held):
            return
        row.mine = bool(sent)
        if sent:
            self.started_chains.add(tuple(outcome.chain))
        self._found(row, outcome)

    def _is_mine(self, record: Record) -> bool:
        """Tell whether this task instance has made the last start of a record."""
        return record.started_by[-1:] == (self._ledger.writer.position,)

    def _end_at_limit(self, row: Row, chain: Chain, error: DiffioGenerationLimitError) -> None:
        record = self._ledger.record(chain)
        own = record is not None and self._is_mine(record)
        if record is not None:
            self._describe(row, record)
        row.end("failed" if own else "given_up", str(error), hopeless=True)

    def _found(self, row: Row, record: Record) -> None:
        self._describe(row, record)
        row.status, row.started_at, row.upload, row.troubles = OPEN, time.time(), None, 0

    def _describe(self, row: Row, record: Record) -> None:
        row.chain, row.content = tuple(record.chain), record.chain.content
        row.model = record.request.model
        generation = record.generation
        if generation is not None:
            row.generation_id, row.project_id = generation.generation_id, generation.api_project_id

    # --- collect ---

    def collect(self, row: Row) -> bool:
        """
        Ask what became of a generation; fetch and record its files when it is complete.

        A failure of a generation that this try has not started makes the row ``pending`` again.

        :param row: an open recording.
        :return: whether the generation is over.
        :raises DiffioError: when it could not be asked for or fetched.
        """
        generation_id, project_id = str(row.generation_id), str(row.project_id)
        with after_start(generation_id, project_id), _Advising():
            progress = self._hook.get_generation_progress(generation_id, project_id)
            if progress.is_failed:
                self._note_failure(row, progress)
                return True
            if not progress.is_complete:
                return False
            record = self._ledger.record(Chain(*row.chain))
            if record is None:
                raise DiffioError(
                    f"The ledger has no record of generation {generation_id} any more.",
                    advice="Download it by DiffioDownloadOperator, or give another revision.",
                )
            self._fetch(row, record)
        return True

    def _note_failure(self, row: Row, progress: Any) -> None:
        said = progress.failure()
        text = f"Diffio reports the generation as {progress.status}{f': {said}' if said else ''}."
        record = self._ledger.record(Chain(*row.chain))
        if record is not None:
            self._ledger.failed(record, str(row.generation_id), said or progress.status)
        if row.mine or row.chain in self.started_chains:
            row.end("failed", text)
        else:
            row.status, row.error = PENDING, text

    def _fetch(self, row: Row, record: Record) -> None:
        request, target = self._options.request_of(row.source), self._options.target_of(row.source)
        if not target.files:
            raise DiffioInputError("It is listed no more, so it is not known where its files would go.")
        place = Place(row.source.uri, row.source.size_bytes or 0, row.source.version)
        files = []
        for location, (_, kind) in zip(self._destinations.locations(row.source), target.files, strict=True):
            files.append(self._download(row, record, target, location, kind))
            row.files = tuple(file.to_value() for file in files)
        self._ledger.finish(record, place, target, files, request=request)
        row.end("restored")

    def _download(
        self, row: Row, record: Record, target: Target, location: Location, kind: str
    ) -> DownloadedFile:
        replaces = self._options.arguments["overwrite"] == "replace" or row.may_replace
        verify = None if kind == "transcript" else self._options.arguments["verify"]
        ready = None
        if not replaces:
            if kept := _own_file(record, target, location):
                return kept

            def ready(file: DownloadedFile) -> None:
                self._ledger.ready(record, file, target)

        return self._hook.download(
            str(row.generation_id),
            str(row.project_id),
            location,
            kind,
            overwrite="replace" if replaces else "error",
            about_to_publish=ready,
            verify=verify,
            source=self._opener.open_if_there(row.source.where) if verify else None,
        )


class _Advising:
    """Says of a generation that cannot be found or read that it is never started again silently."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (DiffioNotFoundError, DiffioPermissionError)):
            error.advice = (
                "The ledger records this generation, and this API key cannot read it or its file. Use a key"
                " that may. If it is gone at Diffio, give another revision: another generation is started"
                " then, and billed too."
            )


def _start_of(record: Record | None, chain: Chain) -> str:
    """Return the name of the next start of a record: the same one until Diffio reports it as failed."""
    last = record.last_start if record else None
    counter = 0 if last is None else last.counter + last.failed
    return f"{'-'.join(chain)}-{counter}"


def _own_file(record: Record, target: Target, location: Location) -> DownloadedFile | None:
    """Return the file that an earlier try wrote, and died before it could say so."""
    download = record.restoration.download
    if download is None or download.given != {"target": target.key} or not location.exists():
        return None
    file = download.file
    if file.path != location.uri or location.size() != file.size_bytes or location.sha256() != file.sha256:
        return None
    return file
