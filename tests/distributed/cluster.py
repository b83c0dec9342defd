"""An Airflow as it is deployed: CeleryExecutor, several workers and triggerers, PostgreSQL and Redis."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.distributed.names import MEMBER
from tests.distributed.observer import Database
from tests.distributed.services import Services
from tests.e2e.local_airflow import LocalAirflow, free_ports
from tests.e2e.processes import ProcessTree

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
MEMBERS = ("api-server", "scheduler", "dag-processor", *TRIGGERERS, *WORKERS)
SLOTS = 4
"""Tasks at a time on each worker."""

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "core": {
        "executor": "CeleryExecutor",
        # A few more than there are slots, so that workers find the next task waiting.
        "parallelism": str(len(WORKERS) * SLOTS + 4),
        "hostname_callable": "tests.distributed.names.hostname",
    },
    "celery": {"worker_concurrency": str(SLOTS)},
    # Airflow's own recovery, in seconds instead of minutes.
    "scheduler": {
        "scheduler_idle_sleep_time": "0.5",
        "task_instance_heartbeat_timeout": "30",
        "task_instance_heartbeat_timeout_detection_interval": "5",
        "task_queued_timeout": "60",
        "task_queued_timeout_check_interval": "10",
    },
    "triggerer": {"job_heartbeat_sec": "2", "triggerer_health_check_threshold": "10"},
    # As in production: nobody edits the DAG meanwhile, and heartbeats come at their usual pace.
    "dag_processor": {"min_file_process_interval": "600", "refresh_interval": "600"},
    "workers": {"min_heartbeat_interval": "5"},
}


class Cluster(LocalAirflow):
    """Start, drive and stop it. Members are named as in ``MEMBERS``."""

    def __init__(self, home: Path, dags: Path, services: Services, env: Mapping[str, str]) -> None:
        self._services = services
        self._database_view = Database(services.database)
        self._log_ports = dict(zip(MEMBERS, free_ports(len(MEMBERS)), strict=True))
        super().__init__(home, dags, env=env, components=MEMBERS)

    def kill_member(self, name: str) -> None:
        """SIGKILL all processes of a member at once, as the end of its container or machine would."""
        self._components[name].end()

    def pids(self, name: str) -> set[int]:
        """The living processes of a member."""
        return {process.pid for process in self._components[name].members()}

    def start_again(self, name: str) -> None:
        """Start a killed member anew, as a supervisor would; do not wait for it."""
        self._components[name].start()

    def check(self) -> None:
        """Raise if a member ended that nobody killed."""
        for component in self._components.values():
            component.check()

    def _component(self, name: str) -> ProcessTree:
        role = name.rstrip("-0123456789")
        port = str(self._log_ports[name])
        env = {
            **self._env,
            MEMBER: name,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": port,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": port,
        }
        command = [sys.executable, "-m", "airflow", role]
        if role == "worker":
            pid_file = self.home / f"{name}.pid"
            command = [*command[:3], "celery", role, "--celery-hostname", _node(name), "--pid", str(pid_file)]
        return ProcessTree(name, command, env, self.home / "components" / f"{name}.log")

    def _silent(self) -> list[str]:
        beats = self._database_view.heartbeats()
        watched = {name: each for name, each in self._components.items() if each.exit_code is None}
        silent = [
            name
            for name, component in watched.items()
            if name != "api-server" and name not in WORKERS and beats.get(name, 0) < component.started_at
        ]
        if not self._control.heartbeats():
            silent.append("api-server")
        # Workers keep no heartbeat in the database; asking them takes a second, so they come last.
        return silent or self._silent_workers(watched)

    def _silent_workers(self, watched: Mapping[str, ProcessTree]) -> list[str]:
        from celery import Celery  # type: ignore[import-not-found]

        with Celery(broker=self._services.broker_url) as app:
            answers = app.control.inspect(timeout=1).ping() or {}
        return [name for name in WORKERS if name in watched and _node(name) not in answers]

    def _make_database(self) -> None:
        self.cli("db", "migrate")

    def _settings(self) -> dict[str, dict[str, str]]:
        settings = super()._settings()
        for section, values in SETTINGS.items():
            settings[section] = {**settings.get(section, {}), **values}
        url = self._services.database_url
        settings["database"]["sql_alchemy_conn"] = f"postgresql+psycopg2{url}"
        settings["celery"] |= {
            "broker_url": self._services.broker_url,
            "result_backend": f"db+postgresql+psycopg2{url}",
        }
        return settings


def _node(name: str) -> str:
    """What Celery calls a worker."""
    return f"celery@{name}"
