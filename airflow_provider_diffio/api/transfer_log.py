"""How far a long upload or download is, for its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_diffio.api.readable import readable_seconds, readable_size

#: Seconds between two lines at least. A shorter transfer has no line of progress at all.
PROGRESS_INTERVAL = 10.0
#: A transfer is logged again when it has taken so many times as long, so that one of hours has few lines.
_GROWTH = 1.25


class TransferLog:
    """
    Counts the bytes of one transfer, and logs now and then how far it is. Threads may share it.

    :param log: the logger of a task.
    :param done: what is being done, as a past participle: ``Uploaded`` or ``Downloaded``.
    :param name: the file's name.
    :param total_bytes: the file's length; None when it is not known yet.
    :param clock: seconds that never go backwards.
    """

    def __init__(
        self,
        log: Any,
        done: str,
        name: str,
        total_bytes: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_bytes = total_bytes
        self._log, self._done, self._name, self._clock = log, done, name, clock
        self._bytes = 0
        self._began = clock()
        self._next = PROGRESS_INTERVAL
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> str:
        """How long it has taken so far, as a person reads it."""
        return readable_seconds(max(0.1, self._clock() - self._began))

    def add(self, size_bytes: int, total_bytes: int | None = None) -> None:
        """
        Count some bytes; log how far the transfer is, where it is time to.

        :param size_bytes: their number; below zero for bytes that have to be sent again.
        :param total_bytes: the file's length, where it is known by now.
        """
        with self._lock:
            self._total_bytes = total_bytes or self._total_bytes
            self._bytes += size_bytes
            elapsed = self._clock() - self._began
            if elapsed < self._next:
                return
            self._next = max(elapsed + PROGRESS_INTERVAL, elapsed * _GROWTH)
            line = self._line(elapsed)
        self._log.info("%s", line)

    def _line(self, elapsed: float) -> str:
        far, rate = readable_size(max(0, self._bytes)), readable_size(max(0, round(self._bytes / elapsed)))
        if self._total_bytes:
            percent = min(100, 100 * self._bytes // self._total_bytes)
            far = f"{far} of {readable_size(self._total_bytes)} ({percent} %)"
        return f"{self._done} {far} of {self._name} in {readable_seconds(elapsed)}, {rate}/s."
