"""The ledger of a directory: opened, listed, asked, and written to."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.models import DownloadedFile, Generation, Project
from airflow_provider_diffio.ledger import starting
from airflow_provider_diffio.ledger.chain import Chains, ledger_failures
from airflow_provider_diffio.ledger.changes import ChangedRequest, changed_request, most_useful
from airflow_provider_diffio.ledger.errors import LostError
from airflow_provider_diffio.ledger.heartbeat import DEFAULT_LEASE, Heartbeat, Watch
from airflow_provider_diffio.ledger.index import LedgerIndex
from airflow_provider_diffio.ledger.marker import SCHEMA, open_marker, refuse_event_loop, to_json
from airflow_provider_diffio.ledger.names import (
    DONE,
    NOT_READ,
    OPEN,
    Chain,
    Hint,
    LedgerRequest,
    Place,
    Target,
    place_key,
)
from airflow_provider_diffio.ledger.record import DONE as FINISHED
from airflow_provider_diffio.ledger.record import Record
from airflow_provider_diffio.ledger.starter import MOST_WRITES, Starter
from airflow_provider_diffio.ledger.starting import Held, StartBounds, Writer
from airflow_provider_diffio.storage.object_directory import ObjectDirectory
from airflow_provider_diffio.storage.objects import objects_at

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import GenerationSummary
    from airflow_provider_diffio.storage import Location

log = logging.getLogger(__name__)


class Ledger:
    """
    The records of a directory. Made by :meth:`open`; one for each process, shared by its threads. Blocks.

    :ivar uri: the directory, without credentials.
    """

    def __init__(self, objects: ObjectDirectory, marker: bytes, writer: Writer, lease: float) -> None:
        self.uri = objects.uri
        self.objects = objects
        self.writer = writer
        self._heartbeat = Heartbeat(objects, lease)
        self._chains = Chains(objects, self._heartbeat.owner, writer.facts)
        self._starter = Starter(objects, marker, self._chains, self._heartbeat, Watch(objects, lease), writer)

    @classmethod
    def open(cls, location: Location, *, task: Any = None, lease: float = DEFAULT_LEASE) -> Ledger:
        """
        Open the ledger of a directory, or begin one there.

        :param location: the directory.
        :param task: the task instance that writes (a ``TaskIdentity``); None where there is none.
        :param lease: seconds for which another process's heartbeat has to stand still before its claims are
            taken over; 60 by default. The same for all that use the ledger.
        :raises DiffioInputError: for a store whose exclusive creation does not hold.
        :raises DiffioLedgerError: when it cannot be read or written, or is a newer version's.
        """
        refuse_event_loop()
        objects = objects_at(location)
        return cls(objects, open_marker(objects), Writer.of(task), lease)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take this process's heartbeat away."""
        self._heartbeat.close()

    # --- what is known ---

    def index(self) -> LedgerIndex:
        """
        List the whole ledger: one request for each 1,000 names in an object store; no record is opened.

        :raises DiffioLedgerError: when the store did not tell.
        """
        with ledger_failures():
            # What is finished meanwhile leaves open/ when it is in done/ already.
            opened = self.objects.names(OPEN)
            return LedgerIndex(self.objects.names(DONE), opened)

    def index_of(self, uri: str, request: LedgerRequest) -> LedgerIndex:
        """
        List what is known of one place.

        :param uri: where a recording is.
        :param request: how it is to be restored.
        :raises DiffioLedgerError: when the store did not tell.
        """
        key = place_key(uri, request)
        prefix = f"{key[:2]}/{key}-"
        with ledger_failures():
            opened = self.objects.names(OPEN, prefix)
            return LedgerIndex(self.objects.names(DONE, prefix), opened)

    def record(self, chain: Chain) -> Record | None:
        """
        Return a record as it stands.

        :param chain: which.
        :raises DiffioLedgerError: when it could not be read.
        """
        return self._chains.head(chain)

    def record_of(self, hint: Hint) -> Record | None:
        """Return the record that a name of a listing tells of; of another request where that was kept."""
        chain = Chain(hint.content, hint.request, hint.revision)
        heads = self._chains.heads(hint.content)
        if chain in heads:
            return self.record(chain)
        kept = [
            record for other in heads if other.revision == hint.revision and (record := self.record(other))
        ]
        return most_useful(kept) if kept else None

    def find(
        self, content_key: str, request: LedgerRequest, on_changed_request: ChangedRequest = "fail"
    ) -> Record | None:
        """
        Return the record that counts for a content and a request.

        :param content_key: the content's digest at its API: ``Known.content``, or
            ``request.content_key(digest)``.
        :param request: how it is to be restored.
        :param on_changed_request: what to do where it was restored under other requests alone: ``fail``,
            ``keep`` that restoration, or ``start`` another one with a WARNING.
        :return: the record; None where a new one is to be made.
        :raises DiffioLedgerChangedError: for ``fail``.
        :raises DiffioLedgerError: when it could not be read.
        """
        heads = self._chains.heads(content_key)
        mine = Chain(content_key, request.key, request.revision_key)
        if mine in heads:
            return self.record(mine)
        others = [record for chain in heads if (record := self.record(chain)) and record.started]
        same_revision = [record for record in others if record.chain.revision == mine.revision]
        if same_revision:
            return changed_request(most_useful(same_revision), request, on_changed_request)
        if others:
            log.warning(
                "This recording was restored before, as generation %s. Another generation is started for"
                " revision %r, and billed too.",
                others[-1].generation_id,
                request.revision,
            )
        return None

    # --- what happens ---

    def start(
        self,
        content: str,
        size_bytes: int,
        request: LedgerRequest,
        *,
        project: Project | None,
        place: Place | None,
        send: Callable[[str, str], Generation],
        existing: Callable[[str], Iterable[GenerationSummary]],
        bounds: StartBounds = StartBounds(),  # noqa: B008 -- frozen
    ) -> Record | Held:
        """
        Start the generation of a record, or return the one that exists.

        The claim is written before the request is sent, and at most one process holds it. One that is left
        by a process that died is taken over: Diffio is asked what became of it, and the request sent under
        the same project and key.

        :param content: the digest of the content (``content_digest``).
        :param size_bytes: its length.
        :param request: how it is to be restored.
        :param project: the project that holds the recording; not needed where the record has one.
        :param place: where the recording was found.
        :param send: starts a generation, given the project's id and the idempotency key.
        :param existing: lists a project's generations, given its id.
        :param bounds: how much may be spent.
        :return: the record with its generation; or who is about to start it at this moment.
        :raises DiffioGenerationLimitError: when another generation would be one too many.
        :raises DiffioLedgerError: when the ledger could not be read or written.
        :raises DiffioError: what ``send`` raises.
        """
        return self._starter.start(
            content,
            size_bytes,
            request,
            project=project,
            place=place,
            send=send,
            existing=existing,
            bounds=bounds,
        )

    def failed(self, record: Record, generation_id: str, error: BaseException | str) -> Record:
        """
        Record that Diffio reports a generation as failed. Of two that record it, one does.

        :param record: the record.
        :param generation_id: the generation.
        :param error: what Diffio said.
        :return: the record as it stands then.
        """
        return self._move_on(record, lambda head: _as_failed(head, generation_id, error))

    def ready(self, record: Record, file: DownloadedFile, target: Target) -> Record:
        """
        Record that a file has arrived whole and is about to get its name.

        :param record: the record.
        :param file: the file.
        :param target: where it was to be.
        """
        given = {"target": target.key}
        return self._move_on(
            record, lambda head: replace(head, restoration=head.restoration.download_ready(given, file))
        )

    def finish(
        self,
        record: Record,
        place: Place | None,
        target: Target,
        files: Iterable[DownloadedFile],
        *,
        request: LedgerRequest | None = None,
    ) -> Record:
        """
        Record that the files of a recording are written.

        :param record: the record with its generation.
        :param place: the recording; None for one that is not in a file.
        :param target: where the files were to be.
        :param files: the files, in the order of ``target.files``.
        :param request: how it was to be restored, where another request's record is kept.
        :return: the record as it stands then.
        """
        made = list(zip(target.files, files, strict=True))

        def done(head: Record) -> Record:
            after = head.with_source(place)
            for (uri, download_type), file in made:
                after = after.with_file(uri, download_type, file)
            after = replace(after, state=FINISHED)
            return head if after == head else after

        record = self._move_on(record, done)
        self.list_done(record, place, target, request=request)
        return record

    def list_done(
        self, record: Record, place: Place | None, target: Target, *, request: LedgerRequest | None = None
    ) -> None:
        """Let listings tell that a target is finished. A failure is logged: the record says it, too."""
        if place is None:
            return
        opened = self._hint(place, record, request)
        body = {"schema": SCHEMA, "record": record.chain.entry(record.number), "source": place.uri}
        try:
            self.objects.create(f"{DONE}/{opened._replace(target=target.key).name}", to_json(body))
            self.objects.delete(f"{OPEN}/{opened.name}")
        except DiffioError as error:
            log.warning("The ledger's list of finished recordings could not be written. %s", error)

    def adopt(
        self, place: Place, request: LedgerRequest, target: Target, files: list[dict[str, Any]]
    ) -> None:
        """
        Record a file that was there before the ledger. Its recording is not read.

        :param place: the recording.
        :param request: how it would have been restored.
        :param target: where the files are.
        :param files: what is known of them: ``path``, ``size_bytes``.
        :raises DiffioLedgerError: when it could not be written.
        """
        hint = Hint(
            place.key(request),
            place.version_key,
            place.size_bytes,
            NOT_READ,
            request.key,
            request.revision_key,
            target.key,
        )
        body = {
            "schema": SCHEMA,
            "state": "adopted",
            "source": place._asdict(),
            "request": request.to_record(),
            "target": [list(file) for file in target.files],
            "files": files,
            "written_by": dict(self.writer.facts),
        }
        with ledger_failures():
            self.objects.create(f"{DONE}/{hint.name}", to_json(body))

    def adopted_files(self, hint: Hint) -> list[dict[str, Any]]:
        """
        Return what is known of adopted files.

        :param hint: the name that tells of them.
        :raises DiffioLedgerError: when it could not be read.
        """
        with ledger_failures():
            data = self.objects.read(f"{DONE}/{hint.name}")
        try:
            return list(json.loads(data or b"{}").get("files", ()))
        except (AttributeError, TypeError, ValueError):
            return []

    def note_content(self, place: Place, content: str, request: LedgerRequest) -> None:
        """
        Note which content a place has, so that later tries need not read it. To be called before a start.

        :param place: the recording.
        :param content: the digest of its content.
        :param request: how it is to be restored.
        :raises DiffioLedgerError: when it could not be written.
        """
        if not place.tells_versions:
            return
        hint = self._hint(place, Record(content=content, size_bytes=place.size_bytes, request=request), None)
        with ledger_failures():
            self.objects.create(
                f"{OPEN}/{hint.name}", to_json({"schema": SCHEMA, "content": content, "source": place.uri})
            )

    # --- within ---

    def _move_on(self, record: Record, change: Callable[[Record], Record]) -> Record:
        """Append what a change makes of the newest entry. What happened has happened: failures are logged."""
        try:
            for _ in range(MOST_WRITES):
                head = self.record(record.chain) or record
                if head.generation is None and record.generation is not None:
                    head = replace(record, number=head.number)  # what was started could not be written then
                after = change(head)
                if after is head:
                    return head
                with suppress(LostError):
                    return self._chains.append(after, after=head.number)
        except DiffioError as error:
            log.error(  # noqa: TRY400 -- the store's traceback would hide the message
                "The ledger could not be written (%s). It does not know yet what became of generation %s;"
                " nothing is started again for that.",
                error.message,
                record.generation_id,
            )
        return change(record)

    def _hint(self, place: Place, record: Record, request: LedgerRequest | None) -> Hint:
        asked = request or record.request
        return Hint(
            place.key(asked),
            place.version_key,
            place.size_bytes,
            record.chain.content,
            asked.key,
            asked.revision_key,
        )


def _as_failed(head: Record, generation_id: str, error: BaseException | str) -> Record:
    last = head.last_start
    if last is None or last.failed or last.generation is None:
        return head
    if last.generation.generation_id != generation_id:
        return head  # another process has started the next one
    return starting.failed(head, generation_id, error)
