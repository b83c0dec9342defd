"""Claims a record, starts its generation, and writes down what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_diffio.api.errors import DiffioApiError, DiffioError, DiffioPermissionError
from airflow_provider_diffio.api.models import Generation, Project
from airflow_provider_diffio.ledger import starting
from airflow_provider_diffio.ledger.chain import Chains, ledger_failures
from airflow_provider_diffio.ledger.errors import DiffioLedgerError, LostError
from airflow_provider_diffio.ledger.heartbeat import Heartbeat, Watch
from airflow_provider_diffio.ledger.marker import check_marker
from airflow_provider_diffio.ledger.names import Chain, LedgerRequest, Place
from airflow_provider_diffio.ledger.record import CLAIMED, FAILED, Record
from airflow_provider_diffio.ledger.starting import Claim, Held, StartBounds, Writer
from airflow_provider_diffio.storage.object_directory import ObjectDirectory

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import GenerationSummary

log = logging.getLogger(__name__)

MOST_WRITES = 20


class Starter:
    """
    Starts generations for one process. See :meth:`airflow_provider_diffio.ledger.ledger.Ledger.start`.

    :param objects: the ledger's directory.
    :param marker: its marker, as it was when the ledger was opened.
    :param chains: its records.
    :param heartbeat: this process's.
    :param watch: over others'.
    :param writer: the task instance.
    """

    def __init__(
        self,
        objects: ObjectDirectory,
        marker: bytes,
        chains: Chains,
        heartbeat: Heartbeat,
        watch: Watch,
        writer: Writer,
    ) -> None:
        self._objects = objects
        self._marker = marker
        self._chains = chains
        self._heartbeat = heartbeat
        self._watch = watch
        self._writer = writer

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
        bounds: StartBounds,
    ) -> Record | Held:
        """Do it."""
        chain = Chain.of(content, request)
        for _ in range(MOST_WRITES):
            head = self._chains.head(chain)
            if head is not None and starting.has_generation(head):
                return head
            if head is not None and head.state == CLAIMED and not self._is_over(head):
                return Held(head)
            claim = starting.claimed(
                head,
                content=content,
                size_bytes=size_bytes,
                request=request,
                project=project,
                place=place,
                writer=self._writer,
                bounds=bounds,
            )
            self._announce(head, claim, request, place, bounds)
            with self._heartbeat.holding(), suppress(LostError):
                written = self._chains.append(claim.record, after=0 if head is None else head.number)
                return self._start(claim._replace(record=written), request, send, existing)
        raise DiffioLedgerError(
            f"Other processes keep on changing the record in {self._objects.uri}{chain.directory}."
        )

    def _is_over(self, head: Record) -> bool:
        if self._writer.was_earlier_try(head):
            return True
        with ledger_failures():
            return self._watch.is_dead(head.owner)

    def _announce(
        self,
        head: Record | None,
        claim: Claim,
        request: LedgerRequest,
        place: Place | None,
        bounds: StartBounds,
    ) -> None:
        what = place.uri if place else "the recording"
        if head is None:
            check_marker(self._objects, self._marker)
        elif head.state == FAILED:
            log.warning(
                "Generation %s of %s failed: %s. Another one is started, the %d. of at most %d, and billed"
                " too.",
                head.generation_id,
                what,
                head.error,
                claim.record.started,
                bounds.per_recording,
            )
        elif claim.taken_over:
            log.warning(
                "An earlier try may have started a generation of %s in project %s: Diffio is asked under the"
                " same idempotency key, so that none is started twice.",
                what,
                claim.project_id,
            )

    def _start(
        self,
        claim: Claim,
        request: LedgerRequest,
        send: Callable[[str, str], Generation],
        existing: Callable[[str], Iterable[GenerationSummary]],
    ) -> Record:
        try:
            generation = _find_existing(claim, request, existing) if claim.taken_over else None
            if generation is None:
                self._heartbeat.check()
                generation = send(claim.project_id, claim.key)
        except BaseException as error:
            refused = isinstance(error, DiffioApiError) and not error.may_be_billed
            with suppress(DiffioError, LostError):
                self._chains.append(
                    starting.released(claim, error, refused=refused), after=claim.record.number
                )
            raise
        record = starting.started(claim, generation)
        try:
            return self._chains.append(record, after=claim.record.number)
        except LostError:
            # Who held this process for dead has asked under the same key, and has the same generation.
            return self._chains.head(record.chain) or record
        except DiffioError as error:
            log.error(  # noqa: TRY400 -- the store's traceback would hide the message
                "The ledger could not be written (%s). Generation %s was started in project %s; a later try"
                " finds it there.",
                error.message,
                generation.generation_id,
                claim.project_id,
            )
            return replace(record, number=claim.record.number)


def _find_existing(
    claim: Claim, request: LedgerRequest, existing: Callable[[str], Iterable[GenerationSummary]]
) -> Generation | None:
    """Return the generation that a dead owner had started, if Diffio has one."""
    known = {start.generation.generation_id for start in claim.record.restoration.starts if start.generation}
    try:
        found = list(existing(claim.project_id))
    except DiffioPermissionError as error:
        # The key may start generations and not list them. Diffio goes by the idempotency key then.
        log.warning("%s", error.message)
        return None
    for summary in found:
        if summary.generation_id not in known and summary.model in (None, request.model):
            return Generation(
                generation_id=summary.generation_id,
                api_project_id=claim.project_id,
                model=request.model,
                status=summary.status,
                idempotent_replay=True,
            )
    return None
