"""Looks into Airflow's database while it works: who does what, twice a second."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psutil

INTERVAL_SECONDS = 0.5


@dataclass(frozen=True)
class Sample:
    """One look. ``at`` counts seconds since the run began."""

    at: float
    states: Mapping[str, int]
    """Task instances by state."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Those whose process lives, by worker: the slots that are taken."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Triggers, by triggerer."""


class Database:
    """Questions to Airflow's database, over a connection of its own."""

    def __init__(self, address: Mapping[str, Any]) -> None:
        self._address = dict(address)

    def heartbeats(self) -> dict[str, float]:
        """When each member's newest job was last heard of."""
        try:
            rows = self._rows(
                "SELECT hostname, EXTRACT(EPOCH FROM MAX(latest_heartbeat)) FROM job GROUP BY hostname"
            )
        except LookupError:  # no tables yet
            return {}
        return {name: float(beat) for name, beat in rows}

    def sample(self, dag_id: str, at: float) -> Sample:
        """How many tasks are in which state, on whom."""
        states: Counter[str] = Counter()
        running: Counter[str] = Counter()
        rows = self._rows("SELECT state, hostname, pid FROM task_instance WHERE dag_id = %s", dag_id)
        for state, hostname, pid in rows:
            states[state or "none"] += 1
            # Airflow takes a killed task for running until it misses its heartbeats; its slot is gone.
            if state == "running" and pid and psutil.pid_exists(pid):
                running[hostname] += 1
        return Sample(at, dict(states), dict(running), self._triggers())

    def running_on(self, dag_id: str, worker: str) -> dict[int, int]:
        """The task instances that a worker runs, as far as Airflow knows: map indexes and process ids."""
        rows = self._rows(
            "SELECT map_index, pid FROM task_instance WHERE dag_id = %s AND hostname = %s"
            " AND state = 'running' AND pid IS NOT NULL ORDER BY map_index",
            dag_id,
            worker,
        )
        return dict(rows)

    def newest_job(self, member: str) -> int:
        """The id under which a member's present process takes triggers."""
        return int(self._rows("SELECT MAX(id) FROM job WHERE hostname = %s", member)[0][0])

    def waiting_on(self, dag_id: str, job: int) -> list[int]:
        """The map indexes of the deferred task instances whose triggers belong to a job."""
        rows = self._rows(
            "SELECT ti.map_index FROM task_instance ti JOIN trigger t ON ti.trigger_id = t.id"
            " WHERE ti.dag_id = %s AND t.triggerer_id = %s AND ti.state = 'deferred' ORDER BY ti.map_index",
            dag_id,
            job,
        )
        return [index for (index,) in rows]

    def events(self, dag_id: str) -> dict[str, int]:
        """How often what happened to the task instances, by Airflow's own record."""
        rows = self._rows("SELECT event, COUNT(*) FROM log WHERE dag_id = %s GROUP BY event", dag_id)
        return {event: int(count) for event, count in rows}

    def _triggers(self) -> dict[str, int]:
        rows = self._rows(
            "SELECT j.hostname, COUNT(*) FROM trigger t JOIN job j ON t.triggerer_id = j.id GROUP BY 1"
        )
        return {name: int(count) for name, count in rows}

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg2  # type: ignore[import-untyped]

        with contextlib.closing(psycopg2.connect(**self._address)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                try:
                    cursor.execute(query, values)
                except psycopg2.errors.UndefinedTable as error:
                    raise LookupError(str(error)) from None
                return list(cursor.fetchall())


class Observer:
    """Takes samples in a thread of its own, from ``with`` to its end."""

    def __init__(self, database: Database, dag_id: str) -> None:
        self._database = database
        self._dag_id = dag_id
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)
        self._error: Exception | None = None
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def latest(self) -> Sample:
        """The newest sample."""
        if self._error:
            raise self._error
        return self.samples[-1] if self.samples else Sample(0.0, {})

    def _watch(self) -> None:
        try:
            while True:
                over = self._stop.is_set()
                self.samples.append(self._database.sample(self._dag_id, self.now()))
                if over:  # the last look comes after the end
                    return
                self._stop.wait(INTERVAL_SECONDS)
        except Exception as error:  # shown by latest() to whom it concerns
            self._error = error


def spans(samples: Sequence[Sample]) -> Iterator[tuple[float, Sample]]:
    """Each sample with the seconds until the next one."""
    for sample, following in itertools.pairwise(samples):
        yield following.at - sample.at, sample
