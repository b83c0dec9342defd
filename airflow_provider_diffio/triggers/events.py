"""DiffioGenerationEventTrigger: polls Diffio and reports generations that finish as events of an asset."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_diffio._compat import event_trigger_arguments, load_asset_state, save_asset_state
from airflow_provider_diffio.api.clean_text import clean_exceptions, clean_text
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
#: Generations in one event; the rest follows with the next poll. Large events block a triggerer's loop.
MAX_REPORTED = 500

Save = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)


class Poll:
    """The generations that one poll found, and what to store once its events are in Airflow's database."""

    def __init__(self, listed: tuple[Listed, ...]) -> None:
        self.listed = listed
        self.saves: list[Save] = []


class DiffioGenerationEventTrigger(BaseEventTrigger):
    """
    Watches Diffio for generations that finish, for an ``AssetWatcher`` (Airflow 3).

    It serves an Airflow that no webhook can reach; ``diffio_completed_asset(poll_interval=60)`` sets it up.
    Each event's payload is ``{"generations": [...]}``: the *generation* values of all that finished since the
    last poll. :func:`~airflow_provider_diffio.assets.finished_generations` reads them. The trigger watches
    all generations of the connection's API key, whoever started them. A poll asks ``list_projects``,
    ``list_project_generations`` for projects that changed, and ``get_generation_progress`` once for each
    generation that finished.

    **What is reported, and how often.** Generations that finished before the first poll are not reported.
    From then on, on Airflow 3.3 and later, each generation is reported once, over restarts of the triggerer:
    the trigger stores what it reported with the asset, after Airflow has stored the event. When the triggerer
    is killed in the second between the two, these generations are reported again; none is missed. The trigger
    waits at most seven days for a generation to finish. Before Airflow 3.3 a trigger can store nothing:
    generations that finish while no triggerer runs are missed, or, with ``lookback``, reported again.

    **How many requests.** On Airflow 3.3 and later, all triggers of a triggerer with the same connection and
    interval share one poll. Before that, each trigger polls for itself.

    :param diffio_conn_id: id of the Diffio connection.
    :param status: ``complete`` (default) or ``failed``.
    :param poll_interval: seconds between polls; 60 by default, 10 at least.
    :param lookback: where nothing is stored yet, also report what finished in this many seconds before the
        first poll; 0 by default.
    :param queue: the triggerer queue that runs the trigger (Airflow 3.4 and later); None by default.
    :raises ValueError: for another status, a shorter interval or a negative lookback.
    :raises RuntimeError: when a queue is given and this Airflow's event triggers have none.
    """

    def __init__(
        self,
        *,
        diffio_conn_id: str = "diffio_default",
        status: str = "complete",
        poll_interval: float = 60.0,
        lookback: float = 0.0,
        queue: str | None = None,
    ) -> None:
        super().__init__(**event_trigger_arguments(queue))
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
        """Share one poll among all triggers with this connection and interval (Airflow 3.3 and later)."""
        return ("diffio", self.diffio_conn_id, self.poll_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: Mapping[str, Any]) -> PollProducer:
        """Return the producer that polls, and that Airflow tells when events are stored (3.3 and later)."""
        return PollProducer(kwargs["diffio_conn_id"], float(kwargs["poll_interval"]))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Make this trigger's events from the shared polls."""
        with clean_exceptions():
            async for poll in shared_stream:
                async for event in self._events(poll):
                    yield event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll alone, on Airflow before 3.3."""
        async for event in self.filter_shared_stream(polls(self.diffio_conn_id, self.poll_interval)):
            yield event

    async def _events(self, poll: Poll) -> AsyncIterator[TriggerEvent]:
        changed = False
        if self._book is None:
            self._book, changed = await self._open_book(poll.listed)
        fresh = self._book.news(poll.listed)[:MAX_REPORTED]
        confirmed = await self._confirm(fresh) if fresh else {}
        if confirmed:
            self.log.info("%d generations %s since the last poll.", len(confirmed), self.status)
            yield TriggerEvent({"generations": list(confirmed.values())})
            self._book.enter(confirmed)
        self._book.settle(poll.listed)
        if changed or confirmed:
            poll.saves.append(self._saver(self._book.state()))

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
        """Ask about each generation, and leave out those about which Diffio does not respond now."""
        from airflow_provider_diffio.api import endpoints
        from airflow_provider_diffio.api.errors import (
            DiffioError,
            DiffioGatewayError,
            DiffioNotFoundError,
            DiffioResponseError,
        )

        slots = asyncio.Semaphore(CONCURRENCY)

        async def ask(client: DiffioAsyncClient, listed: Listed) -> Mapping[str, Any] | None:
            generation_id = listed.generation.generation_id
            async with slots:
                try:
                    progress = await client.call(
                        endpoints.get_generation_progress(generation_id, listed.project.api_project_id)
                    )
                except DiffioNotFoundError:
                    # Listed, and yet unknown: nothing is known but what the list says.
                    return generation_value(listed)
                except DiffioError as error:
                    if isinstance(error, DiffioResponseError) and not isinstance(error, DiffioGatewayError):
                        # A response that cannot be read, for its length perhaps: the next would be alike.
                        return generation_value(listed)
                    self.log.warning(
                        "Generation %s is left for the next poll: %s",
                        clean_text(generation_id),
                        clean_text(str(error)),
                    )
                    return None
            # A list may be ahead of the progress, which is what everything else goes by.
            agreed = progress.is_complete if listed.ended_as("complete") else progress.is_failed
            return generation_value(listed, progress) if agreed else None

        async with await open_client(self.diffio_conn_id) as client:
            values = await asyncio.gather(*(ask(client, listed) for listed in fresh))
        return {listed: value for listed, value in zip(fresh, values, strict=True) if value is not None}


class PollProducer:
    """Airflow's ``SharedStreamProducer`` (3.3 and later): polls for several triggers, and stores reports."""

    def __init__(self, diffio_conn_id: str, poll_interval: float) -> None:
        self._conn_id = diffio_conn_id
        self._interval = poll_interval
        self._unsaved: list[Save] = []

    async def open_stream(self) -> AsyncIterator[tuple[Poll, Poll]]:
        """Yield each poll, for ever."""
        async for poll in polls(self._conn_id, self._interval):
            yield poll, poll

    async def advance(self, batch: Sequence[Any]) -> None:
        """Store what was reported, once the events are in Airflow's database."""
        for item in batch:
            # A trigger that failed starts over from its stored state, so nothing new of it may be stored.
            if item.outcome.failed == 0:
                self._unsaved += item.broker_payload.saves
        while self._unsaved:
            try:
                await self._unsaved[0]()
            except Exception as error:
                # Raising here would start all triggers over, and report everything again. The next poll
                # tries again.
                log.warning("Could not store what was reported: %s", type(error).__name__)
                return
            self._unsaved.pop(0)

    def get_advance_lane(self, broker_payload: Poll) -> Hashable:
        """Return one lane for all: each state includes those before it."""
        return None

    async def aclose(self) -> None:
        """Do nothing: no connection stays open between polls."""


async def polls(diffio_conn_id: str, poll_interval: float) -> AsyncIterator[Poll]:
    """Poll a connection's lists for ever; log what goes wrong, and try again."""
    from airflow_provider_diffio.api.errors import DiffioError

    listing = Listing()
    while True:
        try:
            async with await open_client(diffio_conn_id) as client:
                listed = await listing.poll(client)
        except DiffioError as error:
            log.warning(
                "Could not poll for finished generations of %s: %s", diffio_conn_id, clean_text(str(error))
            )
        except Exception as error:
            # Trouble of Airflow's own, or a missing connection: somebody may fix both while this runs.
            log.warning(
                "Could not poll for finished generations of %s: %s", diffio_conn_id, type(error).__name__
            )
        else:
            yield Poll(listed)
        # Random, so that triggerers and connections do not poll in step.
        await asyncio.sleep(poll_interval * random.uniform(0.9, 1.0))  # noqa: S311


async def open_client(diffio_conn_id: str) -> DiffioAsyncClient:
    """Return a client for an ``async with``, from the connection as it is now, since keys are rotated."""
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient

    return DiffioAsyncClient(await read_settings(diffio_conn_id))
