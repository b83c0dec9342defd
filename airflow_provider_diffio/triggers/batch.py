"""DiffioBatchTrigger: waits for many generations of one task on the triggerer's event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    WaitSpec,
)
from airflow_provider_diffio.api.progress_log import BatchProgress, SpacedLog, batch_kill_notice
from airflow_provider_diffio.triggers._shared_poller import join_shared_poller, sleep_until

#: The form of the arguments and of the event that this version writes. Higher ones are refused.
VERSION = 1
#: Seconds after which the task is resumed with whatever is over.
PATIENCE = 15 * 60.0
#: What MySQL keeps of a text, in bytes. It cuts a longer one off.
MOST_STORED_BYTES = 65_535
#: Bytes of the arguments besides the generations: ids of connections may be 250 characters long.
_OTHER_ARGUMENTS = 2_200


class OpenGeneration(NamedTuple):
    """
    A generation that is waited for.

    :ivar generation_id: the generation.
    :ivar project_id: its project.
    :ivar started_at: when it was started, in seconds since the epoch.
    """

    generation_id: str
    project_id: str
    started_at: float

    def encode(self) -> str:
        """Return the text that stands for it in the trigger's arguments."""
        return f"{_quoted(self.generation_id)} {_quoted(self.project_id)} {int(self.started_at)}"


def encode(generations: Iterable[OpenGeneration]) -> str:
    """Return the text that stands for generations in the trigger's arguments."""
    return ",".join(generation.encode() for generation in generations)


def decode(text: str) -> list[OpenGeneration]:
    """Return the generations that a text stands for."""
    found = []
    for part in text.split(",") if text else ():
        generation_id, project_id, started_at = part.split(" ")
        found.append(OpenGeneration(unquote(generation_id), unquote(project_id), float(started_at)))
    return found


def fitting(generations: Iterable[OpenGeneration]) -> int:
    """
    Return how many of the generations, from the first one on, a deferral can store in every database.

    Airflow 2 encrypts the arguments, which makes a third more of them.

    :param generations: in order.
    """
    left = room()
    count = 0
    for generation in generations:
        left -= len(generation.encode()) + 1
        if left < 0:
            break
        count += 1
    return count


def room() -> int:
    """Return how many bytes of a deferral's arguments are there for generations."""
    # Fernet: base64 of 57 bytes, and of the text padded to 16.
    return MOST_STORED_BYTES // 4 * 3 - 57 - 16 - _OTHER_ARGUMENTS


def read_over(event: dict[str, Any], count: int) -> set[int]:
    """
    Return which generations an event says are over, as their numbers in the trigger's order.

    :param event: the event.
    :param count: how many generations the trigger had.
    :raises ValueError: when it is no such event.
    """
    bits = int(event["over"], 16)
    if event["version"] > VERSION or bits < 0 or bits >> count:
        raise ValueError("not an event of these generations")
    return {number for number in range(count) if bits >> number & 1}


class DiffioBatchTrigger(BaseTrigger):
    """
    Fires when all of its generations are over, when enough are for the task to go on with, or after a while.

    That is: when all are over; when ``wake_at`` are; 15 minutes after ``deferred_at``, when any is; and at
    the deadline. The arguments are stored in Airflow's database, in plain text on Airflow 3; they hold ids
    and times, no secret, and take 65,535 bytes at most. The event says which are
    over; the resumed task asks Diffio itself what became of each.

    :param version: the form of the arguments; 1.
    :param generations: what is waited for: "generation_id project_id time", separated by commas.
    :param diffio_conn_id: id of the Diffio connection; ``diffio_default`` by default.
    :param deferred_at: when the task deferred, in seconds since the epoch.
    :param deadline: when to give up, in seconds since the epoch.
    :param not_before: no event before this time, in seconds since the epoch: an event within seconds of the
        deferral makes Airflow's scheduler fail the task.
    :param wake_at: how many have to be over for the task to go on, as long as more recordings wait; 0, the
        default: all.
    :param poll_interval: seconds between polls of one generation at least; 5 by default.
    :param max_poll_interval: seconds between polls of one generation at most; 180 by default.
    :param total: recordings of the batch, for the log; 0 by default.
    :param done: those that are restored; 0 by default.
    :param failed: those that failed; 0 by default.
    :param began: when the batch began, in seconds since the epoch; ``deferred_at`` by default.
    """

    def __init__(
        self,
        *,
        version: int = VERSION,
        generations: str,
        diffio_conn_id: str = "diffio_default",
        deferred_at: float,
        deadline: float,
        not_before: float = 0.0,
        wake_at: int = 0,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float = DEFAULT_MAX_POLL_INTERVAL,
        total: int = 0,
        done: int = 0,
        failed: int = 0,
        began: float = 0.0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "version": version,
            "generations": generations,
            "diffio_conn_id": diffio_conn_id,
            "deferred_at": deferred_at,
            "deadline": deadline,
            "not_before": not_before,
            "wake_at": wake_at,
            "poll_interval": poll_interval,
            "max_poll_interval": max_poll_interval,
            "total": total,
            "done": done,
            "failed": failed,
            "began": began,
        }
        self.generations = decode(generations)
        self.diffio_conn_id = diffio_conn_id
        self.deadline = deadline
        self._over: set[int] = set()
        self._changed = asyncio.Event()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path, and the arguments to make it again from."""
        return f"{type(self).__module__}.{type(self).__qualname__}", dict(self.arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and send one event: ``version``, ``status``, ``over`` (bits in hexadecimal) and ``count``."""
        status = await self._status()
        await sleep_until(self.arguments["not_before"])
        bits = sum(1 << number for number in self._over)
        yield TriggerEvent(
            {
                "version": VERSION,
                "status": status,
                "over": format(bits, "x"),
                "count": len(self.generations),
                "diffio_conn_id": self.diffio_conn_id,
            }
        )

    async def on_kill(self) -> None:
        """Say what goes on at Diffio (Airflow 3.3 and later call this, and not for kills alone)."""
        self.log.warning("%s", batch_kill_notice(len(self.generations) - len(self._over)))

    async def _status(self) -> str:
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        if self.arguments["version"] > VERSION:
            self.log.error("A newer version of the provider has deferred this task.")
            return "error"
        poller = join_shared_poller(self.diffio_conn_id)
        waits: list[asyncio.Task[None]] = []
        try:
            await poller.open_until(self.deadline, self.arguments["poll_interval"], self.log)
            waits = [asyncio.create_task(self._wait(number)) for number in range(len(self.generations))]
            return await self._until_worth_it()
        except (DiffioError, AirflowNotFoundException) as error:
            # The resumed task runs into the same, and says so where its user looks.
            self.log.error("The wait ends: %s", error)  # noqa: TRY400 - the sentence says it all
            return "error"
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            await poller.leave()

    async def _wait(self, number: int) -> None:
        generation = self.generations[number]
        spec = WaitSpec(
            generation.generation_id,
            generation.project_id,
            generation.started_at,
            self.deadline,
            self.arguments["poll_interval"],
            self.arguments["max_poll_interval"],
        )
        # Each counts as a waiter of the connection, as if it had a trigger of its own.
        poller = join_shared_poller(self.diffio_conn_id)
        try:
            await poller.wait_for(spec, not_before=self.arguments["not_before"])
        finally:
            await poller.leave()
        if time.time() < self.deadline:
            self._over.add(number)
            self._changed.set()

    async def _until_worth_it(self) -> str:
        """Return why the task is to be resumed, once it is."""
        progress_log = SpacedLog(self.log)
        patience_ends = self.arguments["deferred_at"] + PATIENCE
        while True:
            over, now = len(self._over), time.time()
            self._tell(progress_log, over)
            if over == len(self.generations):
                return "over"
            if now >= self.deadline:
                return "timeout"
            if over and (now >= patience_ends or 0 < self.arguments["wake_at"] <= over):
                return "some"
            self._changed.clear()
            moment = min(self.deadline, patience_ends if over and now < patience_ends else self.deadline)
            with suppress(TimeoutError):
                # No longer than some time at once, since somebody may set the clock.
                await asyncio.wait_for(self._changed.wait(), min(max(0.0, moment - now) + 0.001, 30.0))

    def _tell(self, progress_log: SpacedLog, over: int) -> None:
        given = self.arguments
        progress = BatchProgress(
            total=given["total"] or len(self.generations),
            done=given["done"],
            failed=given["failed"],
            at_diffio=len(self.generations) - over,
            to_fetch=over,
        )
        progress_log.tell(progress, given["began"] or given["deferred_at"], given["done"] + given["failed"])


def stored_bytes(trigger: DiffioBatchTrigger) -> int:
    """
    Return the bytes that a trigger's arguments take in the database of the Airflow that needs most.

    :param trigger: the trigger.
    """
    # Airflow 2 encloses them in an object of its own before it encrypts them.
    plain = len(json.dumps({"__var": trigger.serialize()[1], "__type": "dict"}))
    return 4 * -(-(57 + 16 * (plain // 16 + 1)) // 3)


def _quoted(text: str) -> str:
    return quote(text, safe="-._~:|")
