"""
Starting the generation of a record: what may be done with it as it stands. Pure; ``Starter`` does it.

At most one process starts at a time, since the claim is the next entry of the record, and it is written
before money moves. A claim whose owner is gone is taken over with the same project and idempotency key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from airflow_provider_diffio.api.errors import DiffioGenerationLimitError, DiffioNotFoundError
from airflow_provider_diffio.api.models import Project
from airflow_provider_diffio.ledger.names import LedgerRequest, Place
from airflow_provider_diffio.ledger.record import CLAIMED, DONE, FAILED, RELEASED, STARTED, Record
from airflow_provider_diffio.ledger.restoration import Fingerprint, Restoration, Upload, digest, fingerprint

DEFAULT_MAX_GENERATIONS_PER_RECORDING = 2


class Writer(NamedTuple):
    """
    The task instance that writes, as far as there is one.

    :ivar position: what stays the same over its tries; empty where no task is known.
    :ivar try_number: which try this is.
    :ivar facts: what a record says of it, for people.
    """

    position: str = ""
    try_number: int = 1
    facts: Mapping[str, Any] = {}

    @classmethod
    def of(cls, task: Any) -> Writer:
        """
        Return the writer for a task instance.

        :param task: what has ``dag_id``, ``task_id``, ``run_id``, ``map_index`` and ``try_number``; or None.
        """
        if task is None:
            return cls()
        names = ("dag_id", "task_id", "run_id", "map_index", "try_number")
        facts = {name: getattr(task, name) for name in names}
        position = {name: value for name, value in facts.items() if name != "try_number"}
        return cls(digest(position)[:32], facts["try_number"], facts)

    def was_earlier_try(self, record: Record) -> bool:
        """Tell whether an entry was written by an earlier try of this very task instance: it is over."""
        if not self.position or not record.written_by:
            return False
        theirs = {name: record.written_by.get(name) for name in self.facts if name != "try_number"}
        return (
            digest(theirs)[:32] == self.position and record.written_by.get("try_number", 0) < self.try_number
        )


@dataclass(frozen=True, kw_only=True)
class StartBounds:
    """
    How many generations may be started.

    :ivar per_recording: for one record, over all runs; failed ones count. 2 by default.
    :ivar per_task: by this task instance, for one record, over all of its tries; None for no bound.
    :ivar own_key: the user's own idempotency key, which stands for one generation.
    """

    per_recording: int = DEFAULT_MAX_GENERATIONS_PER_RECORDING
    per_task: int | None = None
    own_key: str | None = None


class Claim(NamedTuple):
    """
    The right to start one generation.

    :ivar record: the entry that claims it.
    :ivar project_id: the project to start it in.
    :ivar key: the idempotency key to start it under.
    :ivar taken_over: another process may have started it already.
    """

    record: Record
    project_id: str
    key: str
    taken_over: bool


class Held(NamedTuple):
    """
    Another process is starting this very generation at the moment. Wait some seconds, and ask again.

    :ivar record: its claim.
    """

    record: Record


def has_generation(head: Record) -> bool:
    """Tell whether a record has a generation that did not fail, as far as is known."""
    return head.state in (STARTED, DONE) and head.generation is not None


def claimed(
    head: Record | None,
    *,
    content: str,
    size_bytes: int,
    request: LedgerRequest,
    project: Project | None,
    place: Place | None,
    writer: Writer,
    bounds: StartBounds,
) -> Claim:
    """
    Return the claim that follows the last entry of a record.

    :param head: that entry; None for a new record.
    :param content: the digest of the content.
    :param size_bytes: its length.
    :param request: how it is to be restored.
    :param project: the project that holds it; may be None where the record has one.
    :param place: where it was found.
    :param writer: who claims.
    :param bounds: how much may be spent.
    :raises DiffioGenerationLimitError: when another generation would be one too many.
    """
    before = head or Record(content=content, size_bytes=size_bytes, request=request)
    uploaded = before.project or project
    if uploaded is None:
        raise ValueError("A record without a project needs one.")
    restoration = _with_project(before.restoration, content, uploaded)
    asked = _request_of(request, uploaded.api_project_id)
    last = before.last_start
    again = last is not None and not last.failed
    counter = 0 if last is None else last.counter + (not again)
    if not again:
        _check_bounds(before, writer, bounds)
    key = bounds.own_key or key_for(before, uploaded.api_project_id, counter)
    record = replace(
        before.with_source(place),
        state=CLAIMED,
        error=before.error,
        restoration=restoration.start_intended(asked, counter),
        keys=before.keys if again else (*before.keys, key),
        started_by=before.started_by if again else (*before.started_by, writer.position),
    )
    if again and record.keys:
        key = record.keys[-1]  # the user may have given another one since, which would start another
    return Claim(record, uploaded.api_project_id, key, taken_over=again)


def key_for(record: Record, project_id: str, counter: int) -> str:
    """Return the idempotency key of a record's start: the same, whoever starts it."""
    parts = {"chain": list(record.chain), "project_id": project_id, "counter": counter}
    return f"ledger-{digest(parts)}"


def released(claim: Claim, error: BaseException, *, refused: bool) -> Record:
    """
    Return the entry of a claim that is given up.

    :param claim: the claim.
    :param error: why.
    :param refused: whether Diffio's own response says that no generation was started.
    """
    record = claim.record
    if refused and not claim.taken_over:
        restoration = record.restoration._replace(starts=record.restoration.starts[:-1])
        if not restoration.starts or isinstance(error, DiffioNotFoundError):
            restoration = restoration._replace(upload=None)  # that project may be the reason
        record = replace(
            record, restoration=restoration, keys=record.keys[:-1], started_by=record.started_by[:-1]
        )
    return replace(record, state=RELEASED, error=_text(error))


def started(claim: Claim, generation: Any) -> Record:
    """Return the entry of a claim whose generation exists."""
    last = claim.record.last_start
    if last is None:
        raise ValueError("A claim intends a start.")
    return replace(
        claim.record,
        state=STARTED,
        error=None,
        restoration=claim.record.restoration.started(last.request, last.counter, generation),
    )


def failed(record: Record, generation_id: str, error: BaseException | str) -> Record:
    """Return the entry of a record whose generation Diffio reports as failed."""
    restoration = record.restoration
    for start in restoration.starts:
        if start.generation and start.generation.generation_id == generation_id:
            restoration = restoration.start_failed(start.request, start.counter)
    return replace(record, state=FAILED, error=_text(error), restoration=restoration)


def _check_bounds(record: Record, writer: Writer, bounds: StartBounds) -> None:
    limits: list[tuple[str, int, int]] = [
        ("max_generations_per_recording", bounds.per_recording, record.started)
    ]
    if bounds.per_task is not None:
        limits.append(("max_generations", bounds.per_task, record.started_for(writer.position)))
    if bounds.own_key is not None:
        limits.append(("the number of generations under your own idempotency_key", 1, record.started))
    for name, most, count in limits:
        if count < most:
            continue
        last = record.generation
        said = f" The last one failed: {record.error}" if record.error else ""
        raise DiffioGenerationLimitError(
            f"{count} generation{'s' * (count > 1)} of this recording failed or were lost, and {name} is"
            f" {most}.{said}",
            generation_id=last.generation_id if last else None,
            project_id=last.api_project_id if last else None,
            advice="Check that the recording plays. To start another generation, raise that number or give"
            " another revision.",
            may_be_billed=True,
            money="Each generation that was started may have been billed; this try started none.",
        )


def _with_project(restoration: Restoration, content: str, project: Project) -> Restoration:
    known = restoration.upload
    if known is not None and known.project is not None:
        return restoration
    given = fingerprint(content=content)
    return restoration.uploaded(Upload(given, f"size={project.size_bytes}", content, project=project))


def _request_of(request: LedgerRequest, project_id: str) -> Fingerprint:
    return fingerprint(
        project_id=project_id,
        model=request.model,
        sampling=request.sampling or None,
        generation_params=request.generation_params or None,
    )


def _text(error: BaseException | str) -> str:
    from airflow_provider_diffio.api.clean_text import clean_text

    text = error if isinstance(error, str) else getattr(error, "message", "") or str(error)
    return clean_text(text, 500)
