"""DiffioGenerationEventTrigger: turns generations that finish into events of an asset, by asking."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_diffio._compat import load_asset_state, save_asset_state
from airflow_provider_diffio.triggers._shared_poller import read_settings
from airflow_provider_diffio.triggers._watermark import (
    CONCURRENCY,
    STATUSES,
    Listed,
    Listing,
    ReportBook,
    generation_value,
)

if TYPE_CHECKING:
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient

MIN_INTERVAL = 10.0
#: Generations in one event. The rest comes with the next look; large events stop a triggerer's loop.
MAX_REPORTED = 500

Save = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


class Poll:
    """What one look at the lists found, and what to store once its events are in Airflow's database."""

    def __init__(self, listed: tuple[Listed, ...]) -> None:
        self.listed = listed
        self.saves: list[Save] = []


class DiffioGenerationEventTrigger(BaseEventTrigger):
    """
    Watches Diffio for generations that finish, for an ``AssetWatcher`` (Airflow 3).

    For an Airflow that no webhook can reach. Easiest by
    ``diffio_completed_asset(poll_interval=60)``. Each event's payload is ``{"generations": [...]}``, the
    *generation* values of all that finished since the last look, which
    :func:`~airflow_provider_diffio.assets.finished_generations` reads. All generations of the connection's
    API key are watched, whoever started them. Asks ``list_projects``, ``list_project_generations`` for
    projects with something new, and ``get_generation_progress`` once for each that finished.

    **What is reported, and how often.** What had finished before the first look is not reported. From then
    on, on Airflow 3.3 and later each generation is reported once, over restarts of the triggerer: what was
    reported is stored with the asset, after Airflow has stored the event. A triggerer that is killed in the
    second between the two reports these generations again; none is missed. It is not waited longer than
    seven days for a generation to finish. Before 3.3 nothing can be stored: what finishes while no
    triggerer runs is missed, or, with ``lookback``, reported again.

    **How many requests.** On Airflow 3.3 and later all triggers of a triggerer with the same connection and
    interval share one look; before that each polls for itself.

    :param diffio_conn_id: id of the Diffio connection.
    :param status: ``complete`` (default) or ``failed``.
    :param poll_interval: seconds between polls; 60 by default, 10 at least.
    :param lookback: seconds; without a stored state, also report what finished so long before the first
        look. 0 by default.
    :raises ValueError: for another status, a shorter interval or a negative lookback.
    """

    def __init__(
        self,
        *,
        diffio_conn_id: str = "diffio_default",
        status: str = "complete",
        poll_interval: float = 60.0,
        lookback: float = 0.0,
    ) -> None:
        super().__init__()
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {status!r}.")
        if not poll_interval >= MIN_INTERVAL:
            raise ValueError(
                f"poll_interval must be {MIN_INTERVAL:g} seconds or more, not {poll_interval!r}."
            )
        if not lookback >= 0:
            raise ValueError(f"lookback must not be negative: {lookback!r}.")
        self.diffio_conn_id = diffio_conn_id
        self.status = status
        self.poll_interval = float(poll_interval)
        self.lookback = float(lookback)
        self._book: ReportBook | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "diffio_conn_id": self.diffio_conn_id,
                "status": self.status,
                "poll_interval": self.poll_interval,
                "lookback": self.lookback,
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """One look for all triggers with this connection and interval (Airflow 3.3 and later)."""
        return ("diffio", self.diffio_conn_id, self.poll_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: Mapping[str, Any]) -> PollProducer:
        """Return what polls, and is told when events are stored (Airflow 3.3 and later)."""
        return PollProducer(kwargs["diffio_conn_id"], float(kwargs["poll_interval"]))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Make this trigger's events of what the shared look found."""
        async for poll in shared_stream:
            changed = False
            if self._book is None:
                self._book, changed = await self._open_book(poll.listed)
            fresh = self._book.news(poll.listed)[:MAX_REPORTED]
            confirmed = await self._confirm(fresh) if fresh else {}
            if confirmed:
                self.log.info("%d generations %s since the last look.", len(confirmed), self.status)
                yield TriggerEvent({"generations": list(confirmed.values())})
                self._book.enter(confirmed)
            self._book.settle(poll.listed)
            if changed or confirmed:
                poll.saves.append(self._saver(self._book.state()))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll alone, on Airflow before 3.3."""
        async for event in self.filter_shared_stream(polls(self.diffio_conn_id, self.poll_interval)):
            yield event

    async def _open_book(self, listed: Sequence[Listed]) -> tuple[ReportBook, bool]:
        """Return the stored book, or a new one and True."""
        book = ReportBook.restore(self.status, await load_asset_state(self, self._store_key))
        if book is not None:
            return book, False
        since = time.time() - self.lookback if self.lookback else None
        return ReportBook.begin(self.status, listed, since=since), True

    def _saver(self, state: dict[str, Any]) -> Save:
        async def save() -> None:
            await save_asset_state(self, self._store_key, state)

        return save

    @property
    def _store_key(self) -> str:
        return f"diffio:{self.diffio_conn_id}:{self.status}"

    async def _confirm(self, fresh: Sequence[Listed]) -> dict[Listed, Mapping[str, Any]]:
        """Ask about each, and leave out those that Diffio gives no answer about now."""
        from airflow_provider_diffio.api import endpoints
        from airflow_provider_diffio.api.errors import DiffioError, DiffioNotFoundError

        slots = asyncio.Semaphore(CONCURRENCY)

        async def ask(client: DiffioAsyncClient, listed: Listed) -> Mapping[str, Any] | None:
            generation_id = listed.generation.generation_id
            async with slots:
                try:
                    progress = await client.call(
                        endpoints.get_generation_progress(generation_id, listed.project.api_project_id)
                    )
                except DiffioNotFoundError:
                    # Listed, and yet unknown; the list's word is all there is.
                    return generation_value(listed)
                except DiffioError as error:
                    self.log.warning("Generation %s is left for the next look: %s", generation_id, error)
                    return None
            # The lists may be ahead of the answer that everything else goes by.
            agreed = progress.is_complete if listed.ended_as("complete") else progress.is_failed
            return generation_value(listed, progress) if agreed else None

        async with await open_client(self.diffio_conn_id) as client:
            values = await asyncio.gather(*(ask(client, listed) for listed in fresh))
        return {listed: value for listed, value in zip(fresh, values, strict=True) if value is not None}


class PollProducer:
    """Airflow 3.3's ``SharedStreamProducer``: one look for several triggers, and word of what is stored."""

    def __init__(self, diffio_conn_id: str, poll_interval: float) -> None:
        self._conn_id = diffio_conn_id
        self._interval = poll_interval
        self._unsaved: list[Save] = []

    async def open_stream(self) -> AsyncIterator[tuple[Poll, Poll]]:
        """Poll for ever."""
        async for poll in polls(self._conn_id, self._interval):
            yield poll, poll

    async def advance(self, batch: Sequence[Any]) -> None:
        """Store what was reported, now that the events are in Airflow's database."""
        for item in batch:
            # A trigger that failed starts over from what is stored, so that nothing of its may be.
            if item.outcome.failed == 0:
                self._unsaved += item.broker_payload.saves
        while self._unsaved:
            try:
                await self._unsaved[0]()
            except Exception as error:
                # Raising here would start all triggers over, to report again what was not stored. The next
                # look brings the next attempt.
                _log.warning("Could not store what was reported: %s", type(error).__name__)
                return
            self._unsaved.pop(0)

    def get_advance_lane(self, broker_payload: Poll) -> Hashable:
        """One lane: each state includes the ones before it."""
        return None

    async def aclose(self) -> None:
        """Nothing is kept open between polls."""


async def polls(diffio_conn_id: str, poll_interval: float) -> AsyncIterator[Poll]:
    """Poll at a connection's lists for ever; what goes wrong is logged and tried again."""
    from airflow_provider_diffio.api.errors import DiffioError

    listing = Listing()
    while True:
        try:
            async with await open_client(diffio_conn_id) as client:
                listed = await listing.poll(client)
        except DiffioError as error:
            _log.warning("Could not look for finished generations of %s: %s", diffio_conn_id, error)
        except Exception as error:
            # Airflow's own trouble, a connection that is missing: both may be mended while this runs.
            _log.warning(
                "Could not look for finished generations of %s: %s", diffio_conn_id, type(error).__name__
            )
        else:
            yield Poll(listed)
        # Not in step with other triggerers and connections.
        await asyncio.sleep(poll_interval * random.uniform(0.9, 1.0))  # noqa: S311


async def open_client(diffio_conn_id: str) -> DiffioAsyncClient:
    """Return a client for an ``async with``; the connection is read anew each time, as keys are rotated."""
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient

    return DiffioAsyncClient(await read_settings(diffio_conn_id))
