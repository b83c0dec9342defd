"""How many generations a task instance has started, over all of its tries and exactly, whatever dies."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import DiffioError

if TYPE_CHECKING:
    from airflow_provider_diffio.storage.object_directory import ObjectDirectory

_READ_AT_A_TIME = 8


class Budget:
    """
    Numbered slots in the ledger, one for each start. Each is made by one process alone, before the start.

    So two processes of the same task instance cannot start more than the bound together. A start that a
    killed try had begun finds its own slot again, since that says which start it is for.

    :param objects: the ledger's directory.
    :param directory: where this task instance's slots are.
    :param most: the bound; None for no bound.
    """

    def __init__(self, objects: ObjectDirectory, directory: str, most: int | None) -> None:
        self._objects = objects
        self._directory = directory
        self._most = most
        self._taken: dict[int, str | None] = {}
        self._numbers: dict[str, int] = {}
        self._next = 1
        #: How many threads are about one start at the moment, and those starts that nobody has made yet.
        self._users: dict[str, int] = {}
        self._unused: set[str] = set()
        self._lock = threading.Lock()

    def load(self, *, read: bool) -> None:
        """
        List the slots that are taken.

        :param read: whether to read which starts they are for: an earlier try may have died in the middle.
        :raises DiffioError: when the ledger could not be read.
        """
        names = self._objects.names(self._directory)
        numbers = sorted(int(name) for name in names if name.isdigit())
        starts: list[str | None] = [None] * len(numbers)
        if read and numbers:
            with ThreadPoolExecutor(_READ_AT_A_TIME) as pool:
                starts = list(pool.map(self._read, numbers))
        for number, start in zip(numbers, starts, strict=True):
            self._note(number, start)

    @property
    def count(self) -> int:
        """How many generations were started, or may have been."""
        return len(self._taken)

    @property
    def left(self) -> int | None:
        """How many more may be started; None for no bound."""
        return None if self._most is None else max(0, self._most - self.count)

    @property
    def is_spent(self) -> bool:
        """Whether no further start is allowed."""
        return self._most is not None and self.count >= self._most

    def has(self, start: str) -> bool:
        """Tell whether a start has a slot."""
        return start in self._numbers

    def reserve(self, start: str) -> bool:
        """
        Take a slot for a start, unless it has one. If this returns True, :meth:`settle` has to follow.

        :param start: which start of which recording.
        :return: whether it may be started.
        :raises DiffioError: when the ledger could not be written; then nothing may be started.
        """
        with self._lock:
            while start not in self._numbers:
                while self._next in self._taken:
                    self._next += 1
                if self.is_spent:
                    return False
                number = self._next
                body = json.dumps({"version": 1, "start": start, "writer": uuid.uuid4().hex})
                created = self._objects.create(self._name(number), body.encode())
                # If not, another process of this task instance was first.
                self._note(number, start if created else self._read(number))
                if created:
                    self._unused.add(start)
            self._users[start] = self._users.get(start, 0) + 1
            return True

    def settle(self, start: str, *, happened: bool) -> None:
        """
        Say what became of a start. A slot is freed when it was taken by this process and nothing was started.

        :param start: as for :meth:`reserve`.
        :param happened: whether a generation was started by this task instance, or may have been.
        """
        with self._lock:
            self._users[start] -= 1
            if happened:
                self._unused.discard(start)
            if self._users[start] == 0:
                del self._users[start]
                if start in self._unused:
                    self._free(start)

    def _free(self, start: str) -> None:
        number = self._numbers[start]
        with suppress(DiffioError):  # it counts as started then, which errs on the safe side
            self._objects.delete(self._name(number))
            del self._taken[number], self._numbers[start]
            self._next = min(self._next, number)
        self._unused.discard(start)

    def _note(self, number: int, start: str | None) -> None:
        self._taken[number] = start
        if start is not None:
            self._numbers[start] = number

    def _name(self, number: int) -> str:
        return f"{self._directory}/{number:07d}"

    def _read(self, number: int) -> str | None:
        data: Any = self._objects.read(self._name(number))
        try:
            return str(json.loads(data)["start"])
        except (KeyError, TypeError, ValueError):
            return None
