"""Who lives: an owner shows it by rewriting one object; others watch it on their own monotonic clocks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.ledger.errors import DiffioLedgerError
from airflow_provider_diffio.ledger.names import OWNERS
from airflow_provider_diffio.storage.object_directory import ObjectDirectory

log = logging.getLogger(__name__)

#: Seconds for which an owner's heartbeat has to stand still before he is held for dead.
DEFAULT_LEASE = 60.0
_BEATS_PER_LEASE = 4


class Heartbeat:
    """
    This process's own heartbeat, which beats while anything is held.

    :param objects: the ledger's directory.
    :param lease: seconds after which others hold this process for dead.
    :param clock: a monotonic clock.
    """

    def __init__(
        self, objects: ObjectDirectory, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = uuid.uuid4().hex
        self._objects = objects
        self._lease = lease
        self._clock = clock
        self._lock = threading.Lock()
        self._held = 0
        self._beaten: float | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self) -> Iterator[None]:
        """
        Beat for as long as the block lasts.

        :raises DiffioLedgerError: when the heartbeat cannot be written.
        """
        with self._lock:
            self._held += 1
        try:
            self.check()
            self._start()
            yield
        finally:
            with self._lock:
                self._held -= 1

    def check(self) -> None:
        """
        Make sure that others still hold this process for alive. To be called right before money is spent.

        :raises DiffioLedgerError: when the heartbeat is old and cannot be renewed.
        """
        if self._is_fresh():
            return
        began = self._clock()
        self._beat()
        if self._clock() - began > self._lease / 2:
            raise DiffioLedgerError("The ledger's store took too long to write a heartbeat.")

    def close(self) -> None:
        """Stop, and take the heartbeat away."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=self._lease)
        if self._beaten is not None:
            with suppress(DiffioError):
                self._objects.delete(f"{OWNERS}/{self.owner}")

    def _is_fresh(self) -> bool:
        beaten = self._beaten
        return beaten is not None and self._clock() - beaten < self._lease / _BEATS_PER_LEASE

    def _beat(self) -> None:
        began = self._clock()
        try:
            self._objects.write(f"{OWNERS}/{self.owner}", uuid.uuid4().hex.encode())
        except DiffioError as error:
            raise DiffioLedgerError(
                f"The ledger's heartbeat could not be written. {error.message}"
            ) from error
        self._beaten = began

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._run, name="diffio-ledger", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._lease / _BEATS_PER_LEASE / 2):
            if self._held and not self._is_fresh():
                try:
                    self._beat()
                except DiffioError as error:
                    log.warning("%s", error)


class Watch:
    """
    Tells dead owners from living ones.

    :param objects: the ledger's directory.
    :param lease: seconds for which a heartbeat has to stand still.
    :param clock: a monotonic clock.
    """

    def __init__(
        self, objects: ObjectDirectory, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._objects = objects
        self._lease = lease
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[bytes, float]] = {}

    def is_dead(self, owner: str) -> bool:
        """
        Tell whether an owner's heartbeat has stood still for a lease since it was seen first.

        An owner without a heartbeat is watched for as long: its first one may be on its way.

        :param owner: who.
        :raises DiffioError: when the heartbeat could not be read.
        """
        beat = self._objects.read(f"{OWNERS}/{owner}") or b""
        now = self._clock()
        with self._lock:
            before = self._seen.get(owner)
            if before is None or before[0] != beat:
                self._seen[owner] = (beat, now)
                return False
            return now - before[1] > self._lease
