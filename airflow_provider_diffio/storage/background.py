"""A thread that works while a file is written, one job at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundWorker:
    """
    Runs jobs of one kind in a thread, which starts with the first job.

    The next call here raises what a job raised, so that no failure is lost. After a failure the caller gives
    the file up.

    :param name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Any] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job is still running."""
        return self._running is not None and not self._running.done()

    def start(self, work: Callable[..., object], *arguments: Any) -> None:
        """Wait for the job before this one, then start this one."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._running = self._pool.submit(work, *arguments)

    def wait(self) -> None:
        """Wait for the running job, and raise what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def end(self) -> None:
        """Wait for the running job, ignore how it ended, and end the thread. Never raises."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


def within(seconds: float, work: Callable[[], object]) -> None:
    """
    Do something that may wait for a server, but wait no longer than some seconds for it.

    It goes on in a thread of its own, which keeps no process alive. Libraries repeat a request for minutes
    before they give it up; a task whose time is over has to end.

    :param seconds: the longest wait.
    :param work: is called once.
    :raises TimeoutError: when it is not done by then.
    :raises Exception: what it raised.
    """
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="diffio-tidy", daemon=True).start()
    future.result(seconds)
