"""
How long a response may take, for the synchronous client.

requests and urllib3 bound each single read alone: a server that sends a byte now and then is never too slow
for them. Here every read of a response, headers included, counts against a bound for the whole.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import urllib3
import urllib3.connection

#: A media host that sends less is stuck, in bytes per second.
LEAST_RATE = 4096


class TooSlowError(TimeoutError):
    """A response that did not keep its bound. Its text says which."""


class ReadBound:
    """
    What the reads of one response may take.

    :param idle: seconds for a single read.
    :param total: seconds from the first read to the end of the response; None for no bound.
    :param until: monotonic time at which the response must be complete; None for no bound.
    :param least_rate: bytes per second that must come on average, measured while reads wait; 0 for no bound.
    """

    def __init__(
        self, idle: float, *, total: float | None = None, until: float | None = None, least_rate: int = 0
    ) -> None:
        self._idle = idle
        self._total = total
        self._until = until
        self._least_rate = least_rate
        self._began: float | None = None
        self._waited = 0.0
        self._received = 0

    def seconds_for_next_read(self) -> float:
        """
        Return how long the next read may wait.

        :raises TooSlowError: when the time is over.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        left = self._idle
        if self._total is not None:
            left = min(left, self._began + self._total - now)
        if self._until is not None:
            left = min(left, self._until - now)
        if left <= 0:
            raise self._too_slow(now)
        return left

    def on_read(self, size: int, seconds: float) -> None:
        """
        Take note of a read.

        :param size: the bytes that came.
        :param seconds: how long it took.
        :raises TooSlowError: when too little came in the last stretch of time.
        """
        if not self._least_rate:
            return
        # Only waiting counts: a destination that is slow to write is no fault of the media host.
        self._waited += seconds
        self._received += size
        if self._waited >= self._idle:
            if size and self._received < self._least_rate * self._waited:
                raise TooSlowError(f"less than {self._least_rate} bytes a second came for {self._idle:g} s")
            self._waited, self._received = 0.0, 0

    def on_timeout(self) -> None:
        """
        Take note of a read during which nothing came.

        :raises TooSlowError: when it was the bound for the whole that ended it.
        """
        now = time.monotonic()
        ends = [] if self._total is None or self._began is None else [self._began + self._total]
        ends += [] if self._until is None else [self._until]
        if any(now >= end for end in ends):
            raise self._too_slow(now)

    def _too_slow(self, now: float) -> TooSlowError:
        return TooSlowError(f"the response was not complete after {now - (self._began or now):.3g} s")


_bound: ContextVar[ReadBound | None] = ContextVar("diffio_read_bound", default=None)


@contextmanager
def bounded_by(bound: ReadBound) -> Iterator[None]:
    """
    Hold a response that is asked for in the block to a bound, also while its body is read later.

    :param bound: for this one response.
    """
    token = _bound.set(bound)
    try:
        yield
    finally:
        _bound.reset(token)


class _BoundedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, bound: ReadBound) -> None:
        self._raw, self._sock, self._bound = raw, sock, bound

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._bound.seconds_for_next_read())
        began = time.monotonic()
        try:
            size = cast("int | None", self._raw.readinto(buffer))
        except TimeoutError:
            self._bound.on_timeout()
            raise
        self._bound.on_read(size or 0, time.monotonic() - began)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        bound = _bound.get()
        if bound is not None:
            self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, bound))


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _BoundedResponse


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    response_class = _BoundedResponse


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


#: For ``PoolManager.pool_classes_by_scheme``.
POOL_CLASSES = {"http": _HTTPPool, "https": _HTTPSPool}
