"""
One phase of a batch in a worker: uploads, starts and downloads side by side, until all that is left waits.

Threads move single recordings on, by ``restorer.Restorer``; everything else happens in the task's own
thread, so nothing here needs a lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioBillingError,
    DiffioError,
    DiffioModelRetiredError,
    DiffioPermissionError,
    DiffioResponseError,
    DiffioSourceChangedError,
)
from airflow_provider_diffio.api.poll_interval import next_pause
from airflow_provider_diffio.api.progress_log import BatchProgress, SpacedLog
from airflow_provider_diffio.steps.batch.restorer import BudgetSpentError, StoppedError
from airflow_provider_diffio.steps.batch.rows import OPEN, PENDING, Row
from airflow_provider_diffio.steps.ledger import DiffioLedgerFaultError
from airflow_provider_diffio.triggers.batch import OpenGeneration, room

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.batch.budget import Budget
    from airflow_provider_diffio.steps.batch.options import BatchOptions
    from airflow_provider_diffio.steps.batch.restorer import Restorer

#: What is wrong with the account or the key, and so with every further start.
ACCOUNT_FAULTS = (
    DiffioAuthenticationError,
    DiffioBillingError,
    DiffioPermissionError,
    DiffioModelRetiredError,
)
#: How often something passing may go wrong with one recording before it counts as failed in this try.
_MOST_TROUBLES = 3
#: So many recordings in a row that fail for a passing reason are an outage: nothing is begun for a while.
_OUTAGE = 8
#: How many generations that are not over yet are polled before the task defers, the oldest first.
_PEEKS = 4
#: Seconds after which a recording is tried again that another process is just starting.
_HELD_PAUSE = 1.0
_MOST_HELD = 600
#: Bytes that a deferral is expected to need for a generation before its ids are known.
_EXPECTED_BYTES = 90


class Phase:
    """
    Moves the rows of a batch on.

    :param rows: all recordings of the batch.
    :param restorer: moves single ones on.
    :param budget: how many generations may be started.
    :param options: how they are to be restored.
    :param log: the task's.
    :param began: when the batch began, in seconds since the epoch.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        restorer: Restorer,
        budget: Budget,
        options: BatchOptions,
        log: Any,
        began: float,
    ) -> None:
        self._rows = rows
        self._restorer = restorer
        self._budget = budget
        self._options = options
        self._log = log
        self._began = began
        self._progress_log = SpacedLog(log)
        self._transfers: int = options.arguments["transfers"]
        self._to_begin = deque(row for row in rows if row.status == PENDING)
        self._to_collect: deque[Row] = deque()
        self._held: list[tuple[float, Row, int]] = []
        self._holds: dict[int, int] = {}
        self._active: dict[Future[Any], tuple[str, Row]] = {}
        self._in_a_row = 0
        self._peeks = _PEEKS
        self._open: dict[str, OpenGeneration] = {}
        self._open_bytes = 0
        self._open_rows: dict[int, Row] = {}
        self._narrowed = False
        self._next_poll: dict[int, float] = {}
        self._counts = {"done": 0, "failed": 0}
        #: What is wrong with the account, the key or the ledger; nothing more is started then.
        self.blocked: DiffioError | None = None
        #: What is wrong for a while; nothing more is begun in this phase.
        self.outage: DiffioError | None = None
        #: Whether ``max_generations`` was reached.
        self.spent = False
        self._done_before = 0
        for row in rows:
            self._note(row)
        self._done_before = self._counts["done"]

    def run(self, over: Iterable[Row], *, hold: bool) -> None:
        """
        Move on what can be moved on.

        :param over: open rows whose generations are said to be over.
        :param hold: whether to wait for generations here, until all rows have their final status.
        """
        self._to_collect.extend(over)
        peeked = {id(row) for row in self._to_collect}
        to_peek = deque(row for row in self._rows if row.status == OPEN and id(row) not in peeked)
        with ThreadPoolExecutor(self._transfers, thread_name_prefix="diffio-batch") as pool:
            try:
                while self._fill(pool, to_peek, hold=hold):
                    done, _ = wait(self._active, timeout=self._pause(hold=hold), return_when=FIRST_COMPLETED)
                    for future in done:
                        self._settle(future, to_peek)
                    if not self._active and not done:
                        time.sleep(min(self._pause(hold=hold), _HELD_PAUSE))
                    self._tell()
            except BaseException:
                # What runs is finished: a start that is under way is recorded. Nothing else begins.
                self._restorer.stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @property
    def may_begin_more(self) -> bool:
        """Whether recordings wait for generations to be over."""
        return bool(self._to_begin) and self.blocked is None and not self._restorer.stopping.is_set()

    @property
    def progress(self) -> BatchProgress:
        """How far the batch is."""
        return BatchProgress(
            total=len(self._rows),
            done=self._counts["done"],
            failed=self._counts["failed"],
            at_diffio=len(self._open),
        )

    # --- what to do next ---

    def _fill(self, pool: ThreadPoolExecutor, to_peek: deque[Row], *, hold: bool) -> bool:
        """Give the threads work; tell whether there is something to wait for."""
        self._release_held()
        while len(self._active) < self._transfers:
            if self._to_collect:
                self._submit(pool, "collect", self._to_collect.popleft())
            elif self._may_begin():
                self._submit(pool, "begin", self._to_begin.popleft())
            elif hold and (row := self._due()):
                self._submit(pool, "collect", row)
            elif not hold and self._peeks > self._peeking and (row := _next_open(to_peek)):
                self._submit(pool, "peek", row)
            else:
                break
        return bool(self._active or self._held or (hold and self._open_rows))

    def _may_begin(self) -> bool:
        if self.outage or self._restorer.stopping.is_set():
            return False
        if not self._narrowed and (self.blocked or self.spent or self._budget.is_spent):
            self._narrow()
        if not self._to_begin:
            return False
        beginning = sum(1 for kind, _ in self._active.values() if kind == "begin")
        return (
            len(self._open) + beginning < self._options.window
            and self._open_bytes + (beginning + 1) * _EXPECTED_BYTES <= room()
            and (self._narrowed or self._budget.left is None or beginning < self._budget.left)
        )

    def _narrow(self) -> None:
        """Begin no more than what needs no further start: what was started before is still collected."""
        self._narrowed = True
        readable = self.blocked is None or not isinstance(
            self.blocked, (DiffioAuthenticationError, DiffioLedgerFaultError)
        )
        self._to_begin = deque(
            row for row in self._to_begin if readable and (row.content or row.adopt or row.compare)
        )

    def _due(self) -> Row | None:
        """Return an open row whose next poll is due, where the task holds its worker."""
        now = time.monotonic()
        busy = {id(row) for _, row in self._active.values()}
        for number, row in self._open_rows.items():
            if number not in busy and self._next_poll.get(number, 0.0) <= now:
                return row
        return None

    def _pause(self, *, hold: bool) -> float:
        if not hold:
            return _HELD_PAUSE
        moments = [self._next_poll.get(number, 0.0) for number in self._open_rows]
        return max(0.05, min([each - time.monotonic() for each in moments] + [_HELD_PAUSE]))

    def _release_held(self) -> None:
        now = time.monotonic()
        for moment, row, times in list(self._held):
            if moment <= now:
                self._held.remove((moment, row, times))
                self._holds[id(row)] = times
                self._to_begin.appendleft(row)

    @property
    def _peeking(self) -> int:
        return sum(1 for kind, _ in self._active.values() if kind == "peek")

    def _submit(self, pool: ThreadPoolExecutor, kind: str, row: Row) -> None:
        work = self._restorer.begin if kind == "begin" else self._restorer.collect
        self._active[pool.submit(work, row)] = (kind, row)

    # --- what came of it ---

    def _settle(self, future: Future[Any], to_peek: deque[Row]) -> None:
        kind, row = self._active.pop(future)
        error = future.exception()
        before = PENDING if kind == "begin" else OPEN  # its thread may have changed it
        if error is not None:
            self._on_begin_error(row, error) if kind == "begin" else self._on_collect_error(row, error)
        elif kind == "begin":
            self._in_a_row = 0
            self._on_begun(row, to_peek)
        else:
            self._on_polled(row, kind, over=bool(future.result()))
        if row.status != before or row.status == OPEN:
            self._note(row)

    def _on_begun(self, row: Row, to_peek: deque[Row]) -> None:
        if row.status == OPEN:
            to_peek.append(row)
            self._next_poll[id(row)] = time.monotonic() + self._options.arguments["poll_interval"]
        elif row.status == PENDING:  # another process is starting this very generation
            times = self._holds.get(id(row), 0) + 1
            if times > _MOST_HELD:
                row.end("failed", "Another process has been starting this generation for ten minutes.")
            else:
                self._held.append((time.monotonic() + _HELD_PAUSE, row, times))

    def _on_polled(self, row: Row, kind: str, *, over: bool) -> None:
        row.troubles = 0
        if over:
            if row.status == PENDING:  # an earlier try's generation failed; this try may start the next one
                self._close(row)
                self._to_begin.append(row)
            return
        if kind == "peek":
            self._peeks -= 1
        self._plan_poll(row)

    def _plan_poll(self, row: Row) -> None:
        given = self._options.arguments
        elapsed = time.time() - row.started_at
        if elapsed > given["timeout"]:
            row.end(
                "failed",
                f"The generation was not over after {elapsed:.0f} s. It goes on at Diffio, and is billed"
                " once; a retry of the task collects it and starts no other one.",
            )
            return
        longest = max(given["poll_interval"], given["max_poll_interval"])
        pause = next_pause(elapsed, (), given["poll_interval"], longest)
        self._next_poll[id(row)] = time.monotonic() + pause

    def _on_begin_error(self, row: Row, error: BaseException) -> None:
        if isinstance(error, StoppedError):
            pass  # it is pending still, and stays so in this phase
        elif isinstance(error, BudgetSpentError):
            self.spent = True
        elif isinstance(error, DiffioSourceChangedError):
            row.end("left", str(error))
        elif isinstance(error, DiffioLedgerFaultError):
            self._block(error)
        elif isinstance(error, ACCOUNT_FAULTS):
            self._block(error)
            row.end("failed", str(error), hopeless=True)
        elif isinstance(error, DiffioError) and _passes(error):
            self._on_trouble(row, error)
            self._in_a_row += 1
            if self._in_a_row >= max(_OUTAGE, 2 * self._transfers):
                self.outage = error
                self._log.warning("Nothing is begun for a while: %s", error)
            elif row.status == PENDING:
                self._to_begin.append(row)
        else:
            self._fail(row, error)

    def _on_collect_error(self, row: Row, error: BaseException) -> None:
        if isinstance(error, (DiffioAuthenticationError, DiffioBillingError)) or (
            isinstance(error, DiffioPermissionError) and row.mine
        ):
            # The key may have lost what it needs for every other one, too.
            self._block(error)
        if _passes(error):
            self._on_trouble(row, error)
            self._next_poll[id(row)] = time.monotonic() + self._options.arguments["poll_interval"]
        else:
            self._fail(row, error)

    def _on_trouble(self, row: Row, error: BaseException) -> None:
        row.troubles += 1
        if row.troubles >= _MOST_TROUBLES:
            row.end("failed", str(error))

    def _fail(self, row: Row, error: BaseException) -> None:
        if isinstance(error, DiffioError):
            row.end("failed", str(error), hopeless=error.final)
            return
        self._log.error("%s could not be restored.", row.source.uri, exc_info=error)
        row.end("failed", f"{type(error).__name__}: {error}")

    def _block(self, error: DiffioError) -> None:
        self._restorer.starting_ended.set()
        self._narrowed = False  # once more, since less is allowed now
        if self.blocked is None:
            self.blocked = error
            self._log.error("Nothing more is started. %s", error)

    def _note(self, row: Row) -> None:
        """Keep the window and the counts."""
        if row.status == OPEN and row.generation_id and row.project_id:
            if row.generation_id not in self._open:
                each = OpenGeneration(row.generation_id, row.project_id, row.started_at)
                self._open[row.generation_id] = each
                self._open_bytes += len(each.encode()) + 1
            self._open_rows[id(row)] = row
            return
        self._close(row)
        if row.status in ("restored", "kept", "adopted"):
            self._counts["done"] += 1
        elif row.status in ("failed", "given_up"):
            self._counts["failed"] += 1

    def _close(self, row: Row) -> None:
        self._open_rows.pop(id(row), None)
        each = self._open.pop(row.generation_id or "", None)
        if each is not None:
            self._open_bytes -= len(each.encode()) + 1

    def _tell(self) -> None:
        self._progress_log.tell(self.progress, self._began, self._done_before)


def _next_open(rows: deque[Row]) -> Row | None:
    while rows:
        row = rows.popleft()
        if row.status == OPEN:
            return row
    return None


def _passes(error: BaseException) -> bool:
    return isinstance(error, DiffioError) and (error.transient or isinstance(error, DiffioResponseError))
