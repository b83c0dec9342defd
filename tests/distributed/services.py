"""PostgreSQL, Redis and S3 for one run: own processes, own ports, own folder, without privileges."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.local_airflow import free_ports
from tests.postgresql import MissingServiceError, PostgreSQL, find_program, give_away, running, unprivileged

__all__ = ["MissingServiceError", "Services"]


class Services:
    """The three servers. Use it as a context manager; all are over when it ends, and so is their data."""

    def __init__(self, logs: Path) -> None:
        self._redis = find_program("redis-server")
        self._postgresql = PostgreSQL(logs)
        self._logs = logs
        self._redis_port, self._s3_port = free_ports(2)
        self._stack = contextlib.ExitStack()

    @property
    def database(self) -> dict[str, Any]:
        """How to connect to the database, as psycopg2 takes it."""
        return self._postgresql.database

    @property
    def database_url(self) -> str:
        """The database for SQLAlchemy, without the driver: ``://user:password@...``."""
        return self._postgresql.database_url

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
            # Not below the checkout: the user that Redis runs as might not get there.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diffio-distributed-")))
            give_away(folder)
            stack.enter_context(self._postgresql)
            redis = [self._redis, "--port", str(self._redis_port), "--bind", "127.0.0.1"]
            redis += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
            log = self._logs / "redis.log"
            stack.enter_context(running("redis", unprivileged(redis), self._redis_port, log))
            s3 = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._s3_port)]
            stack.enter_context(running("s3", s3, self._s3_port, self._logs / "s3.log"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
