"""How a running Airflow is asked and told things: over its REST API (3.x), or its database and CLI (2.x).

Airflow 2 has a REST API too, but it needs a webserver and a user: one more process to wait for, for no gain.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import requests


class AirflowError(RuntimeError):
    """Airflow refused what was asked of it."""


@dataclass(frozen=True)
class TaskInstance:
    """One task in one run, as it is now. ``map_index`` is -1 for a task that is not mapped."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None
    started: datetime | None
    ended: datetime | None

    @property
    def label(self) -> str:
        """The task id, with the map index where there is one."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True)
class HistoryEntry:
    """One line of Airflow's own record of what happened to a task."""

    when: datetime
    task_id: str
    map_index: int
    try_number: int | None
    event: str


class Control(Protocol):
    """What both ways of talking to Airflow can do."""

    def heartbeats(self) -> dict[str, datetime]:
        """When each component was last heard of; empty while nobody answers."""

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG was parsed and can be run."""

    def import_errors(self) -> list[str]:
        """Why DAG files could not be parsed."""

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs be scheduled."""

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, Any], logical_date: datetime | None
    ) -> None:
        """Start a run."""

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """All task instances of a run."""

    def history(self, dag_id: str, run_id: str) -> list[HistoryEntry]:
        """What happened to the run's tasks, in order."""

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str, map_index: int) -> Any:
        """One XCom value, or None if there is none."""

    def rendered_fields(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
        """The template fields of a task as they were rendered."""


class RestControl:
    """Airflow 3 over its public REST API."""

    COMPONENTS = ("scheduler", "triggerer", "dag_processor")

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False  # loopback; no proxy, no .netrc

    def call(self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """One request under ``/api/v2``; the decoded answer."""
        if "Authorization" not in self._session.headers:
            self._log_in()
        for patience in (0.5, 1, 2, 4, 0):
            answer = self._session.request(
                method, f"{self._base_url}/api/v2{path}", json=body, params=params, timeout=30
            )
            # SQLite has one writer; the api-server answers 500 when it has waited for its turn too long.
            # Every request here can be sent twice: a run has an id of its own, chosen before.
            if answer.status_code != requests.codes.internal_server_error:
                break
            time.sleep(patience)
        if answer.status_code == requests.codes.not_found:
            raise NotThereError(f"{method} {path}: {answer.text}")
        if not answer.ok:
            raise AirflowError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def _log_in(self) -> None:
        answer = self._session.get(f"{self._base_url}/auth/token", timeout=10)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def heartbeats(self) -> dict[str, datetime]:
        try:
            health = self.call("GET", "/monitor/health")
        except (requests.RequestException, AirflowError):
            return {}
        beats = {name: (health.get(name) or {}).get(f"latest_{name}_heartbeat") for name in self.COMPONENTS}
        return {name.replace("_", "-"): _when(beat) for name, beat in beats.items() if beat}

    def has_dag(self, dag_id: str) -> bool:
        try:
            self.call("GET", f"/dags/{_segment(dag_id)}/details")
        except NotThereError:
            return False
        return True

    def import_errors(self) -> list[str]:
        errors = self.call("GET", "/importErrors")["import_errors"]
        return [f"{error['filename']}:\n{error['stack_trace']}" for error in errors]

    def unpause(self, dag_id: str) -> None:
        self.call("PATCH", f"/dags/{_segment(dag_id)}", {"is_paused": False})

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, Any], logical_date: datetime | None
    ) -> None:
        body = {
            "dag_run_id": run_id,
            "conf": dict(conf),
            "logical_date": logical_date.isoformat() if logical_date else None,
        }
        self.call("POST", f"/dags/{_segment(dag_id)}/dagRuns", body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", _run(dag_id, run_id))["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        rows = self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")
        return [
            TaskInstance(
                task_id=row["task_id"],
                map_index=row["map_index"],
                state=row["state"],
                try_number=row["try_number"],
                pid=row["pid"],
                started=_when_or_none(row["start_date"]),
                ended=_when_or_none(row["end_date"]),
            )
            for row in rows
        ]

    def history(self, dag_id: str, run_id: str) -> list[HistoryEntry]:
        params = {"dag_id": dag_id, "run_id": run_id, "order_by": "when"}
        rows = self._pages("/eventLogs", "event_logs", params)
        return [
            HistoryEntry(
                _when(row["when"]), row["task_id"], _index(row["map_index"]), row["try_number"], row["event"]
            )
            for row in rows
            if row["task_id"]
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str, map_index: int) -> Any:
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{_segment(key)}"
        try:
            return self.call("GET", path, params={"map_index": map_index, "stringify": "false"})["value"]
        except NotThereError:
            return None

    def rendered_fields(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
        path = _task(dag_id, run_id, task_id)
        answer = self.call("GET", path if map_index < 0 else f"{path}/{map_index}")
        return dict(answer["rendered_fields"])

    def _pages(
        self, path: str, name: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every row of a listing, page after page."""
        seen = 0
        while True:
            page = self.call("GET", path, params={**(params or {}), "limit": 100, "offset": seen})
            yield from page[name]
            seen += len(page[name])
            if not page[name] or seen >= page["total_entries"]:
                return


class DatabaseControl:
    """Airflow 2 by its SQLite database, and by its command line where something must be changed."""

    JOBS: Mapping[str, str] = {"SchedulerJob": "scheduler", "TriggererJob": "triggerer"}

    def __init__(self, database: Path, cli: Callable[..., str]) -> None:
        self._database = database
        self._cli = cli

    def heartbeats(self) -> dict[str, datetime]:
        rows = self._rows("SELECT job_type, MAX(latest_heartbeat) AS beat FROM job GROUP BY job_type")
        return {
            self.JOBS[row["job_type"]]: _when(row["beat"]) for row in rows if row["job_type"] in self.JOBS
        }

    def has_dag(self, dag_id: str) -> bool:
        return bool(self._rows("SELECT 1 FROM serialized_dag WHERE dag_id = ?", dag_id))

    def import_errors(self) -> list[str]:
        rows = self._rows("SELECT filename, stacktrace FROM import_error")
        return [f"{row['filename']}:\n{row['stacktrace']}" for row in rows]

    def unpause(self, dag_id: str) -> None:
        self._cli("dags", "unpause", dag_id)

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, Any], logical_date: datetime | None
    ) -> None:
        date = ["--exec-date", logical_date.isoformat()] if logical_date else []
        self._cli("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(dict(conf)), *date)

    def run_state(self, dag_id: str, run_id: str) -> str:
        rows = self._rows("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        if not rows:
            raise NotThereError(f"run {run_id} of {dag_id}")
        return str(rows[0]["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        rows = self._rows(
            "SELECT * FROM task_instance WHERE dag_id = ? AND run_id = ? ORDER BY task_id, map_index",
            dag_id,
            run_id,
        )
        return [
            TaskInstance(
                task_id=row["task_id"],
                map_index=row["map_index"],
                state=row["state"],
                try_number=row["try_number"],
                pid=row["pid"],
                started=_when_or_none(row["start_date"]),
                ended=_when_or_none(row["end_date"]),
            )
            for row in rows
        ]

    def history(self, dag_id: str, run_id: str) -> list[HistoryEntry]:
        rows = self._rows(
            "SELECT * FROM log WHERE dag_id = ? AND run_id = ? AND task_id IS NOT NULL ORDER BY id",
            dag_id,
            run_id,
        )
        return [
            HistoryEntry(
                _when(row["dttm"]), row["task_id"], _index(row["map_index"]), row["try_number"], row["event"]
            )
            for row in rows
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str, map_index: int) -> Any:
        rows = self._rows(
            "SELECT value FROM xcom"
            " WHERE dag_id = ? AND run_id = ? AND task_id = ? AND key = ? AND map_index = ?",
            dag_id,
            run_id,
            task_id,
            key,
            map_index,
        )
        return json.loads(rows[0]["value"]) if rows else None

    def rendered_fields(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
        rows = self._rows(
            "SELECT rendered_fields FROM rendered_task_instance_fields"
            " WHERE dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ?",
            dag_id,
            run_id,
            task_id,
            map_index,
        )
        return dict(json.loads(rows[0]["rendered_fields"])) if rows else {}

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with contextlib.closing(open_database(self._database)) as database:
            return database.execute(query, values).fetchall()


class NotThereError(AirflowError):
    """No such thing in this Airflow, at least not yet."""


def open_database(path: Path) -> sqlite3.Connection:
    """A reader of Airflow's database that can not disturb it."""
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)
    database.row_factory = sqlite3.Row
    return database


def dump(path: Path) -> Iterator[str]:
    """Every value in the database as text, one row a line: what a search for a leaked secret has to see."""
    with contextlib.closing(open_database(path)) as database:
        tables = [
            row["name"] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  # names from the schema itself
                yield f"{table}: " + " | ".join(f"{name}={_text(row[name])}" for name in _names(row))


def _names(row: sqlite3.Row) -> Iterable[str]:
    return row.keys()


def _text(value: object) -> str:
    """A stored value as it reads, also where the column is a blob."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _segment(value: str) -> str:
    return quote(value, safe="")


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_segment(dag_id)}/dagRuns/{_segment(run_id)}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{_segment(task_id)}"


def _index(map_index: int | None) -> int:
    return -1 if map_index is None else map_index


def _when(value: str) -> datetime:
    """A time from JSON or SQLite; the latter keeps UTC without saying so."""
    parsed = datetime.fromisoformat(value)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _when_or_none(value: str | None) -> datetime | None:
    return _when(value) if value else None
