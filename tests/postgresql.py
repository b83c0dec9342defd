"""A PostgreSQL of one's own for a test: own process, own port, own folder, without privileges."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

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


class PostgreSQL:
    """The server. Use it as a context manager; its process and its data are gone when it ends."""

    def __init__(self, logs: Path) -> None:
        self._programs = {name: find_program(name) for name in ("initdb", "postgres")}
        self.log = logs / "postgres.log"
        (self._port,) = free_ports(1)
        self._password = secrets.token_hex(16)
        self._stack = contextlib.ExitStack()
        self._server: ProcessTree | None = None

    @property
    def database(self) -> dict[str, Any]:
        """How to connect to the database, as psycopg2 takes it."""
        return {
            "host": "127.0.0.1",
            "port": self._port,
            "user": USER,
            "password": self._password,
            "dbname": "postgres",
        }

    @property
    def database_url(self) -> str:
        """The database for SQLAlchemy, without the driver: ``://user:password@...``."""
        return f"://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            # Not below the checkout: the user that PostgreSQL runs as might not get there.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diffio-postgresql-")))
            give_away(folder)
            data = folder / "postgres"
            self._make(data)
            self._server = stack.enter_context(self._running(data))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server for a while, as a restart does: its clients lose their connections."""
        assert self._server is not None
        # "Fast shutdown": the usual one would wait for its clients to leave.
        self._server.kill(signal.SIGINT)
        self._server.wait(STOP_SECONDS)
        try:
            yield
        finally:
            self._server.start()
            until(self._accepts, START_SECONDS, "PostgreSQL does not accept connections")

    def _make(self, data: Path) -> None:
        secret = data.with_name("password")
        secret.write_text(self._password)
        give_away(secret)
        make = [self._programs["initdb"], "--pgdata", str(data), "--username", USER, "--no-sync"]
        make += ["--auth", "scram-sha-256", "--pwfile", str(secret), "--encoding", "UTF8", "--no-locale"]
        done = subprocess.run(
            unprivileged(make), cwd=data.parent, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb: exit code {done.returncode}\n{done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def _running(self, data: Path) -> Iterator[ProcessTree]:
        command = [self._programs["postgres"], "-D", str(data), "-k", str(data.parent), "-h", "127.0.0.1"]
        command += ["-p", str(self._port)]
        # Nothing here has to survive a power failure.
        for setting in ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"):
            command += ["-c", setting]
        with running("postgres", unprivileged(command), self._port, self.log, signal.SIGINT) as server:
            until(self._accepts, START_SECONDS, "PostgreSQL does not accept connections")
            yield server

    def _accepts(self) -> bool:
        import psycopg2  # type: ignore[import-untyped]

        try:
            psycopg2.connect(**self.database).close()
        except psycopg2.OperationalError:
            return False
        return True


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], port: int, log: Path, stop: signal.Signals = signal.SIGTERM
) -> Iterator[ProcessTree]:
    """A server that listens; asked to end first, since PostgreSQL leaves shared memory when killed."""
    tree = ProcessTree(name, command, inherited_environment(("AIRFLOW",)), log)
    try:
        tree.start()

        def listens() -> bool:
            tree.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        until(listens, START_SECONDS, f"{name} does not listen")
        yield tree
    finally:
        tree.kill(stop)
        tree.wait(STOP_SECONDS)
        tree.end()


def give_away(path: Path) -> None:
    """Let the user that servers run as have a path."""
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
