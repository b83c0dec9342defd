"""A sandbox inside a test: its own thread, its own event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from airflow_provider_diffio.sandbox.remote import RemoteSandbox
from airflow_provider_diffio.sandbox.settings import Settings


class Sandbox(RemoteSandbox):
    """A sandbox for the length of a ``with`` block.

    >>> with Sandbox(processing_seconds=0.2) as sandbox:  # doctest: +SKIP
    ...     connect(sandbox.connection)

    Takes the fields of :class:`~airflow_provider_diffio.sandbox.settings.Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        super().__init__(
            "",
            "",
            self.settings.api_key,
            self.settings.webhook_secret,
            control_token=self.settings.control_token,
        )
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> Self:
        """Listen; returns when it serves requests."""
        if self._thread is not None:
            raise RuntimeError("this sandbox is already running")
        listening: Future[tuple[str, str, str]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="diffio-sandbox", daemon=True
        )
        self._thread.start()
        self.api_url, self.media_url, self.public_url = listening.result(timeout=30)
        return self

    def stop(self) -> None:
        """Stop listening and delete the files."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, listening: Future[tuple[str, str, str]]) -> None:
        from airflow_provider_diffio.sandbox.server import Server

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = Server(self.settings)
            try:
                await server.start()
                listening.set_result((server.api_url, server.media_url, server.public_url))
                await self._stop.wait()
            finally:
                await server.stop()
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)
