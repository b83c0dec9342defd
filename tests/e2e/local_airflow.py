"""A real Airflow on this machine, for a test or a demo: its own home, database, ports and processes.

    with LocalAirflow(home=tmp_path / "airflow", dags=dags_folder) as airflow:
        run_id = airflow.trigger("my_dag", conf={"source": "a.wav"})
        assert airflow.wait_run("my_dag", run_id) == "success"

It runs the Airflow that is installed next to the Python it is called from: API server, scheduler, DAG
processor and triggerer for Airflow 3, scheduler and triggerer for Airflow 2, with LocalExecutor on SQLite or,
for Airflow 3, on PostgreSQL.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.control import (
    AirflowError,
    Control,
    DatabaseControl,
    HistoryEntry,
    NotThereError,
    RestControl,
    TaskInstance,
    dump,
)
from tests.e2e.processes import ProcessTree, end_all, inherited_environment

__all__ = ["AirflowError", "HistoryEntry", "LocalAirflow", "TaskChange", "TaskInstance", "WaitTimeoutError"]

POLL_SECONDS = 0.25
START_SECONDS = 120.0
DAG_SECONDS = 60.0
RUN_SECONDS = 180.0
FINISHED_RUN = frozenset({"success", "failed"})


class WaitTimeoutError(AssertionError):
    """What was waited for did not happen in time."""


@dataclass(frozen=True)
class TaskChange:
    """A task instance got another state."""

    task: TaskInstance
    before: str | None
    elapsed: float
    """Seconds since the waiting began."""


class LocalAirflow:
    """Start, drive and stop a real Airflow. Use it as a context manager."""

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        env: Mapping[str, str] | None = None,
        parallelism: int = 4,
        paused_at_creation: bool = False,
        components: Sequence[str] | None = None,
        database_url: str = "",
    ) -> None:
        """Prepare an Airflow in a new folder ``home`` that runs the DAG files of ``dags``.

        ``env`` is added to the environment of every process (``AIRFLOW_CONN_...``, ``AIRFLOW__...``);
        Airflow variables of the caller's own environment are not passed on. ``paused_at_creation`` keeps DAGs
        from starting by themselves; ``trigger`` wakes the one it starts. ``database_url`` is an empty
        PostgreSQL database, as ``PostgreSQL.database_url`` says it; SQLite without it.
        """
        self.home = home.resolve()
        self.dags = dags.resolve()
        self.version = version("apache-airflow")
        self.is_airflow_3 = int(self.version.split(".")[0]) >= 3
        self.database = self.home / "airflow.db"
        self._database_url = database_url
        self._ports = free_ports(3)
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        self._parallelism = parallelism
        self._paused_at_creation = paused_at_creation
        self._env = {
            **inherited_environment(("AIRFLOW", "_AIRFLOW")),
            "AIRFLOW_HOME": str(self.home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
            # Its parts talk to each other over loopback, whatever proxy leads out of this network.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            # Airflow 2 refuses LocalExecutor on SQLite; for a handful of tasks it works, and is faster.
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            # Its listener would follow every task.
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
            **(env or {}),
        }
        names = components or self._default_components()
        self._components = {name: self._component(name) for name in names}
        self._rest = RestControl(self.url)
        self._control: Control = self._rest if self.is_airflow_3 else DatabaseControl(self.database, self.cli)

    def _default_components(self) -> tuple[str, ...]:
        airflow_3 = ("api-server", "scheduler", "dag-processor", "triggerer")
        return airflow_3 if self.is_airflow_3 else ("scheduler", "triggerer")

    def _component(self, name: str) -> ProcessTree:
        command = [sys.executable, "-m", "airflow", name]
        return ProcessTree(name, command, self._env, self.home / "components" / f"{name}.log")

    # Start and stop

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the home, start every component and wait until all are healthy."""
        try:
            self._make_home()
            for component in self._components.values():
                component.start()
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process that was started, however deep. Can be called again."""
        end_all(list(self._components.values()))

    def wait_healthy(self, timeout: float = START_SECONDS) -> None:
        """Wait until every running component has been heard of since it was started."""
        self._until(
            lambda: not self._silent(), timeout, lambda: f"no sign of life from {', '.join(self._silent())}"
        )

    def _silent(self) -> list[str]:
        """Running components that have not given a sign of life since their start."""
        beats = {name: beat.timestamp() for name, beat in self._control.heartbeats().items()}
        # A web server has no heartbeat; that it answers for the others is the API server's sign.
        return [
            name
            for name, component in self._components.items()
            if name not in ("api-server", "webserver")
            and component.exit_code is None
            and beats.get(name, 0) < component.started_at
        ]

    def kill(self, component: str, signum: int = signal.SIGKILL) -> None:
        """Signal one component's main process, as the kernel or an operator would."""
        self._components[component].kill(signum)

    def kill_task(self, dag_id: str, run_id: str, task_id: str, signum: int = signal.SIGKILL) -> None:
        """Signal the process that runs a task right now."""

        def has_process() -> bool:
            # Airflow 2 records the state first and the process a moment later.
            task = self.task_instance(dag_id, run_id, task_id)
            if task.state != "running":
                raise NotThereError(f"{task.label} is {task.state}, no process runs it")
            return task.pid is not None

        self._until(has_process, START_SECONDS, lambda: f"{task_id} runs without a process")
        pid = self.task_instance(dag_id, run_id, task_id).pid
        if pid is None:
            raise NotThereError(f"{task_id} ended meanwhile")
        os.kill(pid, signum)

    def restart(self, component: str, timeout: float = START_SECONDS) -> None:
        """End what is left of a component, start it again and wait until it is heard of."""
        self._components[component].end()
        self._components[component].start()
        self.wait_healthy(timeout)

    def revive(self) -> list[str]:
        """Start what has ended by itself, as a service manager does; the names of those components."""
        ended = [name for name, component in self._components.items() if component.exit_code is not None]
        for name in ended:
            self._components[name].end()
            self._components[name].start()
        return ended

    @property
    def components(self) -> tuple[str, ...]:
        """The names of the processes it runs."""
        return tuple(self._components)

    def processes(self) -> list[int]:
        """Ids of all living processes of this Airflow."""
        return [member.pid for component in self._components.values() for member in component.members()]

    # Drive

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
        run_id: str | None = None,
    ) -> str:
        """Start a run as soon as the DAG is known; the run id."""
        run_id = run_id or f"manual__{uuid.uuid4()}"
        self.wait_dag(dag_id)
        if self._paused_at_creation:
            self._control.unpause(dag_id)
        self._control.trigger(dag_id, run_id, conf or {}, logical_date)
        return run_id

    def wait_dag(self, dag_id: str, timeout: float = DAG_SECONDS) -> None:
        """Wait until a DAG is parsed; fail at once when a DAG file can not be."""

        def parsed() -> bool:
            if self._control.has_dag(dag_id):
                return True
            if errors := self._control.import_errors():
                raise AirflowError("a DAG file can not be imported:\n" + "\n".join(errors))
            return False

        self._until(parsed, timeout, lambda: f"DAG {dag_id} was not found in {self.dags}")

    def wait_run(
        self,
        dag_id: str,
        run_id: str,
        timeout: float = RUN_SECONDS,
        on_change: Callable[[TaskChange], None] | None = None,
    ) -> str:
        """Wait until a run ended and tell of every change of a task's state; the run's final state."""
        started = time.monotonic()
        states: dict[str, str | None] = {}

        def ended() -> bool:
            # The state first: what is read of the tasks afterwards is then final too.
            over = self._control.run_state(dag_id, run_id) in FINISHED_RUN
            if on_change:
                for task in self.task_instances(dag_id, run_id):
                    before = states.get(task.label)
                    if task.state != before:
                        states[task.label] = task.state
                        on_change(TaskChange(task, before, time.monotonic() - started))
            return over

        self._until(ended, timeout, lambda: f"run {run_id} did not end; {self._describe(dag_id, run_id)}")
        return self._control.run_state(dag_id, run_id)

    def wait_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *states: str,
        timeout: float = RUN_SECONDS,
        map_index: int = -1,
    ) -> TaskInstance:
        """Wait until a task is in one of the states."""

        def reached() -> bool:
            with contextlib.suppress(NotThereError):
                return self.task_instance(dag_id, run_id, task_id, map_index).state in states
            return False

        wanted = " or ".join(states)
        self._until(reached, timeout, lambda: f"{task_id} is not {wanted}; {self._describe(dag_id, run_id)}")
        return self.task_instance(dag_id, run_id, task_id, map_index)

    def clear_failed(self, dag_id: str, run_id: str) -> None:
        """Clear what failed in a run, and what had to wait for it, as a user would (Airflow 3)."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True, "include_downstream": True}
        self.rest("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def cli(self, *arguments: str) -> str:
        """Run an ``airflow`` command; its standard output."""
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(
            command, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AirflowError(
                f"airflow {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """Any request under ``/api/v2`` (Airflow 3)."""
        if not self.is_airflow_3:
            raise AirflowError("Airflow 2 runs without an API server here")
        return self._rest.call(method, path, body)

    # Look

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """All task instances of a run."""
        return self._control.task_instances(dag_id, run_id)

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskInstance:
        """One task instance of a run."""
        for task in self.task_instances(dag_id, run_id):
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        raise NotThereError(f"task {task_id} in run {run_id} of {dag_id}")

    def history(self, dag_id: str, run_id: str) -> list[HistoryEntry]:
        """Airflow's own record of the run: what became of its tasks when.

        Airflow 2 leaves deferrals out, 3.0 and 3.1 keep no such record.
        """
        return self._control.history(dag_id, run_id)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """One XCom value, or None if there is none."""
        return self._control.xcom(dag_id, run_id, task_id, key, map_index)

    def rendered_fields(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """The template fields of a task as they were rendered."""
        return self._control.rendered_fields(dag_id, run_id, task_id, map_index)

    def task_logs(self, dag_id: str, run_id: str, task_id: str) -> str:
        """All logs of a task, every try, its triggers' logs included."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return _texts(folder)

    def trigger_logs(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What was logged on the triggerer while a task was deferred."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return _texts(folder, "*.log.trigger.*")

    def logs_text(self) -> str:
        """Every log there is: tasks, triggers, DAG processing, and the components' own output."""
        return _texts(self.home / "logs") + _texts(self.home / "components")

    def db_dump(self) -> str:
        """The whole database as text, one row a line."""
        return "\n".join(dump(self.database))

    # Inside

    def _until(self, done: Callable[[], bool], timeout: float, problem: Callable[[], str]) -> None:
        """Poll until done; fail when a component dies or the time is over."""
        deadline = time.monotonic() + timeout
        while True:
            for component in self._components.values():
                component.check()
            if done():
                return
            if time.monotonic() > deadline:
                raise WaitTimeoutError(f"after {timeout:.0f} s: {problem()}\n{self._tails()}")
            time.sleep(POLL_SECONDS)

    def _describe(self, dag_id: str, run_id: str) -> str:
        tasks = self.task_instances(dag_id, run_id)
        return "tasks: " + (", ".join(f"{task.label} {task.state}" for task in tasks) or "none")

    def _tails(self) -> str:
        return "\n".join(f"--- {name}\n{component.tail()}" for name, component in self._components.items())

    def _make_home(self) -> None:
        """Write the configuration and a database that is ready for use."""
        if self.database.exists():
            raise FileExistsError(f"{self.home} was used before")
        self.home.mkdir(parents=True, exist_ok=True)
        # A file that is there at once, and complete: processes started together would each try to write one.
        configuration = configparser.RawConfigParser()
        configuration.read_dict(self._settings())
        with (self.home / "airflow.cfg").open("w") as file:
            configuration.write(file)
        self._make_database()

    def _make_database(self) -> None:
        """Copy the database from the environment's template; make that first if there is none.

        Migrating takes a good part of the time to start, and gives the same every time.
        """
        if self._database_url:
            self.cli("db", "migrate")
            return
        template = Path(sys.prefix) / f"airflow-{self.version}-template.db"
        if template.exists():
            shutil.copyfile(template, self.database)
        else:
            self.cli("db", "migrate")
            with contextlib.suppress(OSError):  # an environment that can not be written to does without
                draft = template.with_suffix(f".{uuid.uuid4()}")
                shutil.copyfile(self.database, draft)
                draft.replace(template)
        # Readers and the writer no longer lock each other out, which "database is locked" is about.
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA journal_mode=WAL")

    def _database_settings(self) -> dict[str, str]:
        if not self._database_url:
            return {"sql_alchemy_conn": f"sqlite:///{self.database}"}
        return {
            "sql_alchemy_conn": f"postgresql+psycopg2{self._database_url}",
            "sql_alchemy_conn_async": f"postgresql+asyncpg{self._database_url}",
        }

    def _settings(self) -> dict[str, dict[str, str]]:
        """The configuration file: fast, isolated, and alike for every process."""
        api_port, worker_log_port, trigger_log_port = (str(port) for port in self._ports)
        secret = secrets.token_hex(32)
        settings = {
            "core": {
                "dags_folder": str(self.dags),
                "executor": "LocalExecutor",
                "parallelism": str(self._parallelism),
                "load_examples": "False",
                "dags_are_paused_at_creation": str(self._paused_at_creation),
                "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
                "simple_auth_manager_all_admins": "True",
                "execution_api_server_url": f"{self.url}/execution/",
            },
            "database": self._database_settings(),
            "logging": {
                "base_log_folder": str(self.home / "logs"),
                "worker_log_server_port": worker_log_port,
                "trigger_log_server_port": trigger_log_port,
            },
            "usage_data_collection": {"enabled": "False"},
            "scheduler": {"scheduler_idle_sleep_time": "0.2", "scheduler_heartbeat_sec": "1"},
        }
        newer = {
            "api": {
                "host": "127.0.0.1",
                "port": api_port,
                "base_url": self.url,
                "workers": "1",
                "secret_key": secret,
            },
            "api_auth": {"jwt_secret": secret},
            "dag_processor": {
                "refresh_interval": "2",
                "bundle_refresh_check_interval": "1",
                # A new file is read at once; reading all of them again and again takes a third of a core.
                "min_file_process_interval": "30",
            },
            # A late end-of-process report makes the scheduler fail tasks that resume at once.
            "workers": {"min_heartbeat_interval": "1"},
        }
        older = {
            "webserver": {
                "secret_key": secret,
                "web_server_host": "127.0.0.1",
                "web_server_port": api_port,
                "base_url": self.url,
                "workers": "1",
            },
            "scheduler": {
                **settings["scheduler"],
                "dag_dir_list_interval": "2",
                "min_file_process_interval": "30",
                # Tasks that schedule what follows them, beside the scheduler: on SQLite, which has no row
                # locks, both now and then start the same try.
                "schedule_after_task_execution": "False",
            },
        }
        return settings | (newer if self.is_airflow_3 else older)


def free_ports(count: int) -> list[int]:
    """Different ports on loopback that nobody uses, and that are given to nobody who does not ask for them.

    Half a minute goes by until Airflow listens; one of those that the system gives to anybody could be
    somebody else's by then.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(15_000, 30_000)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return sorted(found)


def _texts(folder: Path, pattern: str = "*") -> str:
    """All files below a folder, each under its name."""

    def parts() -> Iterator[str]:
        for path in sorted(folder.rglob(pattern)):
            if path.is_file() and not path.is_symlink():
                yield f"=== {path.relative_to(folder)}\n{path.read_text(errors='replace')}\n"

    return "".join(parts())
