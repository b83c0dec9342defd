"""PostgreSQL, Redis and S3 for one run: own processes, own ports, own folder, without privileges."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.local_airflow import free_ports
from tests.e2e.processes import ProcessTree, inherited_environment

INSTALL = "apt-get install postgresql redis-server"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
#: Where Debian and its relatives keep PostgreSQL's programs, which are not on PATH.
POSTGRESQL_HOMES = Path("/usr/lib/postgresql")
USER = "airflow"


class MissingServiceError(RuntimeError):
    """A server that has to be installed first."""


def find_program(name: str, homes: Path = POSTGRESQL_HOMES) -> str:
    """The path of a server program: on PATH, among the system's, or in the newest PostgreSQL."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/usr/bin"])
    if found := shutil.which(name, path=path):
        return found
    versions = [each for each in homes.glob("*/bin") if each.parent.name.isdigit() and (each / name).exists()]
    if not versions:
        raise MissingServiceError(f"{name} is not installed; on Debian or Ubuntu: {INSTALL}")
    return str(max(versions, key=lambda each: int(each.parent.name)) / name)


class Services:
    """The three servers. Use it as a context manager; all are over when it ends, and so is their data."""

    def __init__(self, logs: Path) -> None:
        self._programs = {name: find_program(name) for name in ("initdb", "postgres", "redis-server")}
        self._logs = logs
        self._postgres_port, self._redis_port, self._s3_port = free_ports(3)
        self._password = secrets.token_hex(16)
        self._stack = contextlib.ExitStack()

    @property
    def database(self) -> dict[str, Any]:
        """How to connect to the database, as psycopg2 takes it."""
        return {
            "host": "127.0.0.1",
            "port": self._postgres_port,
            "user": USER,
            "password": self._password,
            "dbname": "postgres",
        }

    @property
    def database_url(self) -> str:
        """The database for SQLAlchemy, without the driver: ``://user:password@...``."""
        return f"://{USER}:{self._password}@127.0.0.1:{self._postgres_port}/postgres"

    @property
    def broker_url(self) -> str:
        """Redis, for Celery."""
        return f"redis://127.0.0.1:{self._redis_port}/0"

    @property
    def s3_url(self) -> str:
        """The endpoint of the S3 server."""
        return f"http://127.0.0.1:{self._s3_port}"

    def __enter__(self) -> Services:
        with contextlib.ExitStack() as stack:
            # Not below the checkout: the user that PostgreSQL runs as might not get there.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diffio-distributed-")))
            self._give_away(folder)
            stack.enter_context(self._postgres(folder / "postgres"))
            redis = [self._programs["redis-server"], "--port", str(self._redis_port), "--bind", "127.0.0.1"]
            redis += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
            stack.enter_context(self._running("redis", unprivileged(redis), self._redis_port))
            s3 = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._s3_port)]
            stack.enter_context(self._running("s3", s3, self._s3_port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def _postgres(self, data: Path) -> Iterator[None]:
        secret = data.with_name("password")
        secret.write_text(self._password)
        self._give_away(secret)
        make = [self._programs["initdb"], "--pgdata", str(data), "--username", USER, "--no-sync"]
        make += ["--auth", "scram-sha-256", "--pwfile", str(secret), "--encoding", "UTF8", "--no-locale"]
        done = subprocess.run(
            unprivileged(make), cwd=data.parent, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        command = [self._programs["postgres"], "-D", str(data), "-k", str(data.parent), "-h", "127.0.0.1"]
        command += ["-p", str(self._postgres_port)]
        # Nothing here has to survive a power failure.
        for setting in ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"):
            command += ["-c", setting]
        # "Fast shutdown": the usual one would wait for its clients to leave.
        with self._running("postgres", unprivileged(command), self._postgres_port, signal.SIGINT):
            until(self._accepts, START_SECONDS, "PostgreSQL does not accept connections")
            yield

    @contextlib.contextmanager
    def _running(
        self, name: str, command: Sequence[str], port: int, stop: signal.Signals = signal.SIGTERM
    ) -> Iterator[None]:
        """A server that listens; asked to end first, since PostgreSQL leaves shared memory when killed."""
        tree = ProcessTree(name, command, inherited_environment(("AIRFLOW",)), self._logs / f"{name}.log")
        try:
            tree.start()

            def listens() -> bool:
                tree.check()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    return True
                return False

            until(listens, START_SECONDS, f"{name} does not listen")
            yield
        finally:
            tree.kill(stop)
            tree.wait(STOP_SECONDS)
            tree.end()

    def _accepts(self) -> bool:
        import psycopg2  # type: ignore[import-untyped]

        try:
            psycopg2.connect(**self.database).close()
        except psycopg2.OperationalError:
            return False
        return True

    @staticmethod
    def _give_away(path: Path) -> None:
        if user := other_user():
            os.chown(path, user.pw_uid, user.pw_gid)


def other_user() -> pwd.struct_passwd | None:
    """Whom servers run as when we are root, which PostgreSQL refuses; None when we are somebody already."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command as one that gives root's privileges up first, where we have them."""
    user = other_user()
    if user is None:
        return list(command)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command]


def until(done: Callable[[], bool], timeout: float, problem: str) -> None:
    """Poll until done; fail when the time is over."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:.0f} s: {problem}")
        time.sleep(0.1)
