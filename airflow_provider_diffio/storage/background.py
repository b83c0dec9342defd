"""Work that goes on beside the writing of a file, one piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundWorker:
    """
    A thread for one kind of work. It begins with the first piece; without any, there is none.

    What a piece raises is raised by the next call here, so that no failure is lost. One failure is enough:
    after it the file is given up.

    :param name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Any] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a piece of work is not done yet."""
        return self._running is not None and not self._running.done()

    def start(self, work: Callable[..., object], *arguments: Any) -> None:
        """Wait until the piece before is done, and begin another one."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._running = self._pool.submit(work, *arguments)

    def wait(self) -> None:
        """Wait until nothing is left to do."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def end(self) -> None:
        """Let what is running come to its end, whatever comes of it, and end the thread. Never raises."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
