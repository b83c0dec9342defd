"""A batch from its beginning to its end, over as many processes as it takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError
from airflow_provider_diffio.manifest import write_manifest
from airflow_provider_diffio.steps import wait
from airflow_provider_diffio.steps.arguments import SETTINGS
from airflow_provider_diffio.steps.batch import report
from airflow_provider_diffio.steps.batch.arguments import read_batch_arguments
from airflow_provider_diffio.steps.batch.budget import Budget
from airflow_provider_diffio.steps.batch.decide import decide, rows_of_earlier_tries
from airflow_provider_diffio.steps.batch.destinations import Destinations
from airflow_provider_diffio.steps.batch.dry_run import foresee
from airflow_provider_diffio.steps.batch.options import STORED, BatchOptions, wanted_of
from airflow_provider_diffio.steps.batch.phase import Phase
from airflow_provider_diffio.steps.batch.restorer import Restorer
from airflow_provider_diffio.steps.batch.rows import (
    BILLED_ONCE,
    OPEN,
    PENDING,
    Row,
    from_checkpoint,
    to_checkpoint,
)
from airflow_provider_diffio.steps.batch.sources import Opener, Wanted, as_directory, below, collect
from airflow_provider_diffio.steps.batch_ledger import refusal, safe_part
from airflow_provider_diffio.steps.create_generation import TaskIdentity
from airflow_provider_diffio.steps.ledger import Ledger, Target
from airflow_provider_diffio.triggers.batch import (
    MOST_STORED_BYTES,
    DiffioBatchTrigger,
    OpenGeneration,
    encode,
    fitting,
    read_over,
    stored_bytes,
)

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage import Location

#: The form of what is stored with a deferral.
VERSION = 1
RUNS = "runs"
#: The ledger of a batch that names none, below its output.
DEFAULT_LEDGER = ".diffio-ledger"
_STATUSES = ("over", "some", "timeout", "error")


class Finished(NamedTuple):
    """
    What a batch came to.

    :ivar value: what the task returns.
    :ivar manifest: where the manifest is.
    :ivar rows: the recordings.
    :ivar error: why the task fails; None when it does not.
    """

    value: dict[str, Any]
    manifest: Location
    rows: Sequence[Row]
    error: DiffioError | None


class Batch:
    """
    One phase's hold on a batch: its ledger, its recordings, and what may be started.

    :param task: the operator.
    :param context: its context.
    :param ledger_at: the ledger's directory.
    :param ledger: the ledger.
    """

    def __init__(self, task: Any, context: Mapping[str, Any], ledger_at: Location, ledger: Ledger) -> None:
        self.task = task
        self.hook: DiffioHook = task.hook
        self.log: logging.Logger = task.log
        self._context = context
        self._ledger_at = ledger_at
        self._ledger = ledger
        self._identity = TaskIdentity.of(context)
        self._place = "/".join((RUNS, *(safe_part(part) for part in self._identity[:3])))
        self.options: BatchOptions
        self.destinations: Destinations
        self.opener: Opener
        self.wanted: Wanted
        self.rows: list[Row] = []
        self.ignored = 0
        self.began = time.time()
        self.budget: Budget

    @property
    def manifest(self) -> Location:
        """Where the manifest is written."""
        return below(self._ledger_at, f"{self._place}/{self._identity.map_index}.jsonl")

    @property
    def _checkpoint(self) -> str:
        return f"{self._place}/{self._identity.map_index}.waiting.jsonl"

    # --- the first phase ---

    def begin(self) -> Finished:
        """Find the recordings, and restore what can be restored; defer where the rest has to wait."""
        task = self.task
        self._prepare(wanted_of(task), BatchOptions.of_task(task, self.hook))
        index = self._ledger.index()
        collection = collect(
            self.opener,
            self.wanted,
            self.options.naming,
            self.destinations.place,
            never=(self.destinations.root.uri, self._ledger_at.uri),
            is_output=partial(self._is_output, targets=index.targets),
        )
        self.ignored = collection.ignored
        self.rows = [Row(source=source) for source in collection.sources]
        if self._identity.try_number > 1:
            earlier = rows_of_earlier_tries(self.rows, self.options, index, self._ledger)
            self.rows += [row for row in earlier if self._give_place(row)]
        del collection
        decide(self.rows, self.options, index, self._ledger, self.destinations, task.min_age)
        del index
        self._tell_what_is_there()
        if task.plans_only:
            foresee(self.rows, self.options, self._ledger, self.budget)
            return self._finish(None)
        if any(row.status == PENDING for row in self.rows):
            self.destinations.check_writable([row.source for row in self.rows])
        return self._go_on([])

    def _prepare(self, wanted: Wanted, options: BatchOptions) -> None:
        given = options.arguments
        self.wanted, self.options = wanted, options
        self.destinations = Destinations(self.hook, given["path"], given["output_conn_id"], options.naming)
        self.opener = Opener(self.hook, wanted)
        slots = f"{self._place}/{self._identity.map_index}.starts"
        self.budget = Budget(self._ledger.objects, slots, given["max_generations"])
        self.budget.load(read=self._identity.try_number > 1)

    def _is_output(self, uri: str, targets: set[str]) -> bool:
        siblings = self.options.naming.siblings(uri)
        if siblings is None:
            return False
        return Target(tuple(zip(siblings, self.options.naming.download_types, strict=True))).key in targets

    def _give_place(self, row: Row) -> bool:
        """Find out where the files of a recording go that is listed no more."""
        root = self.opener.root
        source = row.source
        if root is not None and not source.uri.startswith(root.uri):
            return False
        source.relative = source.uri.removeprefix(root.uri if root is not None else "").lstrip("/")
        if root is None:
            source.relative = source.uri.rpartition("/")[2]
        try:
            source.targets = self.destinations.place(source)
        except DiffioInputError:
            return False
        return True

    def _tell_what_is_there(self) -> None:
        pending = sum(1 for row in self.rows if row.status == PENDING)
        kept = sum(1 for row in self.rows if row.status == "kept")
        self.log.info(
            "%s recordings: %s to restore, %s restored before. %s files are no recordings.",
            f"{len(self.rows):,}",
            f"{pending:,}",
            f"{kept:,}",
            f"{self.ignored:,}",
        )

    # --- a later phase ---

    def resume(self, event: Mapping[str, Any]) -> Finished:
        """Go on after a deferral: collect what is over, and begin with what has waited for that."""
        data = self._ledger.objects.read(self._checkpoint)
        header, self.rows = from_checkpoint([] if data is None else data.splitlines())
        del data
        for name in STORED:
            if name in header["arguments"]:
                setattr(self.task, name, header["arguments"][name])
        options = BatchOptions.stored({name: getattr(self.task, name) for name in STORED}, self.hook)
        given = options.arguments
        wanted = Wanted(
            header["directory"] or (), None, (), (), "name", given["content_type"], given["source_conn_id"]
        )
        self._prepare(wanted, options)
        self.ignored, self.began = header["ignored"], header["began"]
        return self._go_on(self._over(event, header["watched"]))

    def _over(self, event: Mapping[str, Any], watched: Sequence[str]) -> list[Row]:
        try:
            known = event["status"] in _STATUSES and event["count"] == len(watched)
            over = {watched[number] for number in read_over(dict(event), len(watched))}
        except (IndexError, KeyError, TypeError, ValueError):
            known, over = False, set()
        if not known:
            raise DiffioError(
                f"The task was resumed by an event that is not known: {event!r:.200}.",
                advice="A retry finds all generations in the ledger, and starts none of them again.",
                may_be_billed=True,
                money=BILLED_ONCE,
            )
        open_rows = [row for row in self.rows if row.status == OPEN]
        if event["status"] == "error":
            return open_rows
        now, longest = time.time(), self.options.arguments["timeout"]
        return [row for row in open_rows if row.generation_id in over or now - row.started_at > longest]

    # --- every phase ---

    def _go_on(self, over: list[Row]) -> Finished:
        restorer = Restorer(
            self.hook, self._ledger, self.options, self.opener, self.destinations, self.budget
        )
        restorer.started_chains = {row.chain for row in self.rows if row.mine}
        self.task.batch_restorer = restorer
        self.hook.get_conn()  # made once, before the threads use it
        phase = Phase(self.rows, restorer, self.budget, self.options, self.log, self.began)
        try:
            phase.run(over, hold=not self.task.deferrable)
        finally:
            self.task.batch_in_flight = sum(1 for row in self.rows if row.status == OPEN)
        if restorer.stopping.is_set():
            raise DiffioError(
                "This task was stopped.",
                advice="A retry goes on where it stood: the ledger has every generation.",
                may_be_billed=self.budget.count > 0,
                money="Each generation that was started is billed once; a retry starts none of them again.",
            )
        if self.task.batch_in_flight:
            self._defer(phase)
        report.leave_the_rest(self.rows, phase, self.budget, self.options, self.log)
        return self._finish(phase)

    def _finish(self, phase: Phase | None) -> Finished:
        report.clean_errors(self.rows)
        manifest = self.manifest
        write_manifest(manifest, (row.in_manifest() for row in self.rows))
        value = report.value_of(self.rows, self.ignored, self.budget.count, manifest.address)
        if phase is None:  # of a dry run
            value["bytes"] = sum(row.source.size_bytes or 0 for row in self.rows if row.would_start)
        with suppress(DiffioError):
            self._ledger.objects.delete(self._checkpoint)
        report.tell_failures(self.rows, self.log)
        error = None if phase is None else report.failure_of(self.rows, value, phase, self.options)
        return Finished(value, manifest, self.rows, error)

    def _defer(self, phase: Phase) -> NoReturn:
        watched = self._watched()
        given, now = self.options.arguments, time.time()
        latest = max((each.started_at for each in watched), default=now) + given["timeout"]
        deadline = self._deadline(latest)
        window = min(self.options.window, len(watched))
        progress = phase.progress
        trigger = DiffioBatchTrigger(
            generations=encode(watched),
            diffio_conn_id=self.task.diffio_conn_id,
            deferred_at=now,
            deadline=deadline,
            not_before=now + wait.MIN_DEFERRAL,
            wake_at=-(-window // 2) if phase.may_begin_more else 0,
            poll_interval=given["poll_interval"],
            max_poll_interval=given["max_poll_interval"],
            total=progress.total,
            done=progress.done,
            failed=progress.failed,
            began=self.began,
        )
        if stored_bytes(trigger) > MOST_STORED_BYTES:
            raise AssertionError("the window bounds this")
        self._store([each.generation_id for each in watched])
        self.log.info("%s Waiting on the triggerer.", progress.sentence(self.began, now))
        self.task.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={
                "deferral": {
                    "version": VERSION,
                    "ledger": self._ledger_at.address,
                    "diffio_conn_id": self.task.diffio_conn_id,
                }
            },
            timeout=timedelta(seconds=max(0.0, deadline - now) + wait.MIN_DEFERRAL + 120.0),
        )
        raise AssertionError("defer() returned")  # pragma: no cover - it raises TaskDeferred

    def _watched(self) -> list[OpenGeneration]:
        """Return what the trigger waits for; what does not fit is polled when the task goes on."""
        found = {
            row.generation_id: OpenGeneration(row.generation_id, row.project_id, row.started_at)
            for row in self.rows
            if row.status == OPEN and row.generation_id and row.project_id
        }
        watched = sorted(found.values(), key=lambda each: each.started_at)
        return watched[: max(1, fitting(watched))]

    def _deadline(self, latest: float) -> float:
        timeout = self.task.execution_timeout
        if timeout is None:
            return latest
        began = self._context["ti"].start_date
        since = float(began.timestamp()) if began else self.began
        return min(latest, since + float(timeout.total_seconds()))

    def _store(self, watched: list[str]) -> None:
        header = {
            "arguments": dict(self.options.arguments),
            "directory": self.wanted.sources if self.wanted.is_directory else None,
            "ignored": self.ignored,
            "began": self.began,
            "watched": watched,
            "rows": len(self.rows),
        }
        report.clean_errors(self.rows)
        self._ledger.objects.write(self._checkpoint, b"".join(to_checkpoint(header, self.rows)))


def begin_batch(task: Any, context: Mapping[str, Any]) -> Finished:
    """
    Restore the recordings of a batch from the beginning of a try.

    :param task: the operator.
    :param context: its context.
    :raises TaskDeferred: when the task is deferred.
    :raises DiffioError: when nothing could be done.
    """
    read_batch_arguments(task)
    _read_request_options(task)
    with _open(task, context, ledger_of(task, task.hook)) as batch:
        return batch.begin()


def resume_batch(
    task: Any, context: Mapping[str, Any], event: Mapping[str, Any], stored: Mapping[str, Any] | None
) -> Finished:
    """
    Go on after a deferral.

    :param task: the operator.
    :param context: its context.
    :param event: the trigger's event.
    :param stored: what was stored with the deferral; ``dag.test()`` loses it.
    :raises TaskDeferred: when the task is deferred again.
    :raises DiffioError: when it cannot go on.
    """
    # The templates were rendered again, and what they give by now counts no more.
    read_batch_arguments(task, ("diffio_conn_id", "deferrable"))
    _read_request_options(task)
    if stored:
        if stored["version"] > VERSION:
            raise DiffioError("A newer version of the provider has deferred this task.", may_be_billed=True)
        task.diffio_conn_id = stored["diffio_conn_id"]
        location = as_directory(task.hook, stored["ledger"], None)
    else:
        read_batch_arguments(task, ("ledger", "path", "output_conn_id"))
        location = ledger_of(task, task.hook)
    with _open(task, context, location) as batch:
        return batch.resume(event if isinstance(event, Mapping) else {})


def _read_request_options(task: Any) -> None:
    task.request_options = SETTINGS["request_options"](task.request_options, "request_options")


def ledger_of(task: Any, hook: DiffioHook) -> Location:
    """
    Return the directory of a batch's ledger.

    :param task: the operator.
    :param hook: its hook.
    """
    given = task.ledger or hook.config.ledger_path
    if given:
        return as_directory(hook, given, None)
    if task.needs_ledger:
        raise refusal(task.path, task.diffio_conn_id)
    return as_directory(hook, f"{task.path.rstrip('/')}/{DEFAULT_LEDGER}", task.output_conn_id)


@contextmanager
def _open(task: Any, context: Mapping[str, Any], location: Location) -> Iterator[Batch]:
    hook = task.hook
    hook.reports_lineage, hook.routine_level = False, logging.DEBUG
    with Ledger.open(location, task=TaskIdentity.of(context)) as ledger:
        yield Batch(task, context, location, ledger)
