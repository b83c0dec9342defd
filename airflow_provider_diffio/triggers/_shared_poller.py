"""
What all triggers of one Diffio connection on one event loop share.

They share one HTTP client with its few connections, the settings of the Airflow connection, and one throttle.
The first trigger opens the poller and the last one closes it. Nothing here blocks the loop: whatever takes
time runs in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_diffio._compat import find_connection
from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioError,
    DiffioPermissionError,
)
from airflow_provider_diffio.api.polling import (
    Failed,
    GenerationWait,
    PollAgain,
    Succeeded,
    WaitSpec,
    poll_timeout,
)
from airflow_provider_diffio.api.throttle import Slots, Throttle
from airflow_provider_diffio.hooks import metrics

if TYPE_CHECKING:
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient
    from airflow_provider_diffio.api.endpoints import Call
    from airflow_provider_diffio.api.polling import WaitObserver
    from airflow_provider_diffio.api.settings import ClientSettings

T = TypeVar("T")

#: Seconds after which a connection is read again. A rotated key is noticed sooner, when Diffio refuses the
#: old one.
REFRESH_SECONDS = 300.0

#: A triggerer is one event loop and serves one team, so a connection id has one meaning there. The settings
#: are shared on that loop alone.
_shared_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedPoller]] = WeakKeyDictionary()


def join_shared_poller(conn_id: str) -> SharedPoller:
    """
    Share the running loop's poller for a connection, until :meth:`SharedPoller.leave`.

    :param conn_id: id of the Diffio connection.
    """
    pollers = _shared_pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(conn_id)
    if poller is None:
        poller = pollers[conn_id] = SharedPoller(conn_id)
    poller.throttle.waiters += 1
    return poller


def _import_what_is_needed() -> None:
    from airflow.providers.common.compat import connection

    from airflow_provider_diffio.api import async_client
    from airflow_provider_diffio.hooks import connection as diffio_connection

    del async_client, connection, diffio_connection


class SharedPoller:
    """
    Polls generations for many triggers. :func:`join_shared_poller` returns it.

    :param conn_id: id of the Diffio connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.throttle = Throttle()
        self._slots = Slots()
        self._conn_id = conn_id
        self._clock = asyncio.get_running_loop().time
        self._reading = asyncio.Lock()
        self._tried_at = float("-inf")
        self._failure: _Failure | None = None
        self._lease: _ClientLease | None = None

    async def open(self) -> None:
        """
        Read the Airflow connection and make the client, unless another trigger has done so.

        :raises AirflowNotFoundException: when the connection does not exist.
        :raises DiffioConfigurationError: when the connection cannot work.
        :raises Exception: whatever Airflow raises when it cannot read the connection; this may pass.
        """
        if self._lease is not None:
            return
        asked_at = self._clock()
        async with self._reading:
            if self._lease is None and self._failure is not None and self._failure.at >= asked_at:
                # It failed for another trigger while this one waited; it would fail again.
                raise self._failure.error.with_traceback(None)
            if self._lease is None:
                # In a thread, since the HTTP library takes a while to import.
                await asyncio.to_thread(_import_what_is_needed)
                await self._read()

    async def open_until(self, deadline: float, pause: float, log: Any) -> None:
        """
        Open the poller, riding out trouble of Airflow's own.

        :param deadline: give up at this time, in seconds since the epoch.
        :param pause: seconds between attempts.
        :param log: the trigger's.
        :raises AirflowNotFoundException: when the connection does not exist.
        :raises DiffioConfigurationError: when the connection cannot work.
        """
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        while True:
            try:
                return await self.open()
            except (DiffioError, AirflowNotFoundException):
                raise
            except Exception as error:
                if time.time() >= deadline:
                    raise
                log.warning("Could not read the connection yet: %s", type(error).__name__)
                await asyncio.sleep(pause)

    async def wait_for(
        self, spec: WaitSpec, *, not_before: float, observer: WaitObserver | None = None
    ) -> Succeeded | Failed:
        """
        Wait for a generation.

        :param spec: what is waited for.
        :param not_before: no result is needed before this time, in seconds since the epoch.
        :param observer: is told of trouble, and of each response but the last one's.
        """
        waiting = GenerationWait(spec)
        call = endpoints.poll_generation(spec.generation_id, spec.project_id)
        first = waiting.begin(time.time(), not_before)
        await self.wait_first_allowed(first.at, spec.deadline)
        while True:
            await self.wait_allowed(spec.deadline)
            try:
                progress = await self.poll(call, deadline=spec.deadline)
            except DiffioError as error:
                if observer is not None:
                    observer.trouble(error)
                decision = waiting.on_error(error, time.time())
            else:
                decision = waiting.on_progress(progress, time.time())
                if observer is not None and isinstance(decision, PollAgain):
                    # How it ended is told by the task, which polls once more itself.
                    observer.progress(progress)
                del progress  # not kept through the wait, by thousands
            if not isinstance(decision, PollAgain):
                return decision
            await self.sleep_until(decision.at)

    async def wait_first_allowed(self, wished: float, deadline: float) -> None:
        """
        Wait until a new trigger may poll. Many new triggers poll one after the other.

        :param wished: do not poll before this time, in seconds since the epoch.
        :param deadline: poll at this time in any case, in seconds since the epoch.
        """
        now = self._clock()
        allowed = time.time() + self.throttle.start(now) - now
        await self.sleep_until(min(max(wished, allowed), deadline))

    def sleep_until(self, moment: float) -> Awaitable[None]:
        """
        Sleep until a slot for one more poll is free.

        :param moment: the earliest time, in seconds since the epoch.
        """
        return sleep_until(self._slots.take(moment, time.time()))

    async def wait_allowed(self, deadline: float) -> None:
        """
        Wait while the throttle holds back all triggers of this connection.

        :param deadline: stop waiting at this time in any case, in seconds since the epoch.
        """
        while (at := self.throttle.next_allowed(self._clock())) > (now := self._clock()):
            left = deadline - time.time()
            await asyncio.sleep(max(0.0, min(at - now, left)))
            if at - now >= left or self.throttle.is_open(self._clock()):
                return

    async def poll(self, call: Call[T], *, deadline: float = float("inf")) -> T:
        """
        Send a call once. When Diffio refuses the key and the connection has a new one by now, send it again.

        :param call: from :mod:`airflow_provider_diffio.api.endpoints`.
        :param deadline: of whoever polls, in seconds since the epoch: a slow response does not pass it by.
        :return: what the call reads from the response.
        :raises DiffioError: when the call failed.
        """
        lease, asked_at = await self._current_lease(), self._clock()
        try:
            return await self._send(lease, call, deadline)
        except (DiffioAuthenticationError, DiffioPermissionError):
            await self._read_again(asked_at, lease)
            if self._lease is lease or self._lease is None:
                raise
        return await self._send(self._lease, call, deadline)

    async def leave(self) -> None:
        """Stop using the poller. The last trigger closes the client, even when it is cancelled."""
        self.throttle.waiters -= 1
        if not self.throttle.waiters:
            del _shared_pollers[asyncio.get_running_loop()][self._conn_id]
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.retire()

    async def _current_lease(self) -> _ClientLease:
        now = self._clock()
        if now - self._tried_at > REFRESH_SECONDS and not self._reading.locked():
            await self._read_again(now, self._lease)
        if self._lease is None:
            raise RuntimeError("The poller is not open.")
        return self._lease

    async def _send(self, lease: _ClientLease, call: Call[T], deadline: float) -> T:
        sent_at = self._clock()
        lease.polls += 1
        metrics.count(metrics.POLLS, by="triggerer", conn_id=self._conn_id)
        try:
            result = await lease.client.call_once(call, timeout=poll_timeout(deadline, time.time()))
        except DiffioError as error:
            self.throttle.on_error(error, sent_at, self._clock())
            raise
        finally:
            lease.polls -= 1
            if lease.retired and not lease.polls:
                await lease.close()
        self.throttle.on_success()
        return result

    async def _read_again(self, asked_at: float, lease: _ClientLease | None) -> None:
        """Read the connection, unless it was read after ``asked_at`` or ``lease`` is no longer in use."""
        async with self._reading:
            if self._tried_at < asked_at and self._lease is lease:
                # When the connection cannot be read, polling goes on with the last settings, and ends when
                # Diffio refuses their key.
                with suppress(Exception):
                    await self._read()

    async def _read(self) -> None:
        self._tried_at = self._clock()
        try:
            lease = await self._new_lease()
        except Exception as error:
            self._failure = _Failure(self._clock(), error)
            raise
        if lease is not None:
            old, self._lease = self._lease, lease
            if old is not None:
                await old.retire()

    async def _new_lease(self) -> _ClientLease | None:
        """Return a new lease, or None when the connection has not changed."""
        from airflow_provider_diffio.api.async_client import DiffioAsyncClient

        settings = await read_settings(self._conn_id)
        if self._lease is not None and self._lease.settings == settings:
            return None
        client = DiffioAsyncClient(settings)
        await client.__aenter__()
        return _ClientLease(settings, client)


@dataclass(frozen=True)
class _Failure:
    at: float
    error: Exception


@dataclass(eq=False)
class _ClientLease:
    """A client, the settings it was made from, and the number of its polls in flight."""

    settings: ClientSettings
    client: DiffioAsyncClient
    polls: int = 0
    retired: bool = False

    async def retire(self) -> None:
        """Close the client after the polls in flight."""
        self.retired = True
        if not self.polls:
            await self.close()

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)


async def read_settings(conn_id: str) -> ClientSettings:
    """
    Read a Diffio connection without blocking the loop.

    :param conn_id: id of the Diffio connection.
    :return: the connection's settings.
    :raises AirflowNotFoundException: when the connection does not exist.
    :raises DiffioConfigurationError: when the connection cannot work.
    """
    from airflow_provider_diffio.hooks.connection import DiffioConnection

    connection = DiffioConnection.read(await find_connection(conn_id))
    # In a thread, since it may send the secrets to the process that writes the log. Without them it masks in
    # this process all the same.
    with suppress(Exception):
        await asyncio.to_thread(connection.mask_secrets)
    return connection.settings


async def sleep_until(moment: float) -> None:
    """
    Sleep until a wall-clock time.

    :param moment: in seconds since the epoch.
    """
    # Somebody may set the clock meanwhile, so the rest is computed again after each sleep.
    while (left := moment - time.time()) > 0:  # noqa: ASYNC110 - it waits for a time, not for an event
        # A little longer, since the loop has a clock of its own, which may be slightly early.
        await asyncio.sleep(left + 0.001)
