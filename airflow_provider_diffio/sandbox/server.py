"""The sandbox itself: two origins, one state."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from airflow_provider_diffio.sandbox.access_log import AccessLogger
from airflow_provider_diffio.sandbox.access_log import log as access_log
from airflow_provider_diffio.sandbox.account import Account
from airflow_provider_diffio.sandbox.api import Api
from airflow_provider_diffio.sandbox.contract import EVENT_TYPES
from airflow_provider_diffio.sandbox.control import Control
from airflow_provider_diffio.sandbox.faults import FaultBook
from airflow_provider_diffio.sandbox.generations import Generations
from airflow_provider_diffio.sandbox.jobs import Jobs
from airflow_provider_diffio.sandbox.journal import Journal
from airflow_provider_diffio.sandbox.keys import KeyRing
from airflow_provider_diffio.sandbox.ledger import totals
from airflow_provider_diffio.sandbox.media import Media
from airflow_provider_diffio.sandbox.observe import observer
from airflow_provider_diffio.sandbox.page import page_routes
from airflow_provider_diffio.sandbox.projects import Projects
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import State
from airflow_provider_diffio.sandbox.storage import SignedPuts
from airflow_provider_diffio.sandbox.uploads import EdgeUploads
from airflow_provider_diffio.sandbox.webhooks import Webhooks

#: A thousand pollers may connect in the same instant.
_BACKLOG = 2048
#: Projects, requests and deliveries on the page: the newest, so that a page is quick after days, too.
_SHOWN = 50


class Server:
    """Serves the API on one port, and uploads and downloads on another.

    Two ports are two origins: a client that sends its API key along to wherever the bytes are is caught.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api_url = ""
        self.media_url = ""
        self._own_folder = settings.data_dir is None
        self._root = Path(
            tempfile.mkdtemp(prefix="diffio-sandbox-") if settings.data_dir is None else settings.data_dir
        )
        secret = secrets.token_hex(32)
        self._state = State(self._root)
        self._keys = KeyRing(settings.api_key)
        self._faults = FaultBook()
        self._journal = Journal(self._state, self._keys)
        self._webhooks = Webhooks(settings, self._keys)
        self._jobs = Jobs(settings)
        self._projects = Projects(settings, self._state, self._media_address, secret)
        self._generations = Generations(
            settings,
            self._state,
            self._faults,
            self._jobs,
            self._media_address,
            self._webhooks.on_status,
        )
        self._account = Account(self._state, self._keys)
        self._secret = secret
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Listen on both ports."""
        settings = self.settings
        self.media_url = await self._listen(self._media_app(), settings.media_port, "--media-port")
        self.api_url = await self._listen(self._api_app(), settings.port, "--port")

    async def stop(self) -> None:
        """Stop listening, end what is going on, and delete the files if the folder is our own."""
        await self._generations.clear()
        await self._webhooks.close()
        await self._jobs.close()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._own_folder:
            await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)

    async def reset(self) -> None:
        """Forget everything but how it was started."""
        await self._generations.clear()
        await self._webhooks.clear()
        self._faults.clear()
        self._journal.clear()
        self._keys.clear()
        self._account.clear()
        self._state.clear()

    def overview(self) -> dict[str, Any]:
        """What the page shows."""
        return {
            "sandbox": {
                "apiUrl": f"{self.public_url}/v1",
                "mediaUrl": self._media_address(),
                "protocol": self.settings.protocol,
                "engine": self.settings.engine,
                "processingSeconds": self.settings.processing_seconds,
            },
            "projects": self._generations.describe(_SHOWN),
            "ledger": totals(self._state),
            "requests": self._journal.last(4 * _SHOWN),
            "webhooks": self._webhooks.describe(_SHOWN),
            "faults": self._faults.describe(),
        }

    def add_webhook(self, url: str) -> None:
        """Tell an address of everything that happens to the first key's generations."""
        key_id = self._keys.bootstrap.key_id
        self._webhooks.add(key_id, "live", url, EVENT_TYPES, key_id)

    @property
    def public_url(self) -> str:
        """The API's address as others see it."""
        return (self.settings.public_url or self.api_url).rstrip("/")

    def _media_address(self) -> str:
        """The address of uploads and downloads that responses name."""
        if self.settings.public_media_url is not None:
            return self.settings.public_media_url.rstrip("/")
        if self.settings.public_url is None:
            return self.media_url
        public = urlsplit(self.settings.public_url)
        host = f"[{public.hostname}]" if ":" in (public.hostname or "") else public.hostname
        return f"{public.scheme}://{host}:{urlsplit(self.media_url).port}"

    def _api_app(self) -> web.Application:
        app = web.Application(middlewares=[observer("api", self._journal, self._faults)])
        endpoints = {
            **self._projects.endpoints(),
            **self._generations.endpoints(),
            **self._account.endpoints(),
            **self._webhooks.endpoints(),
        }
        api = Api(self._keys, endpoints, self._generations.endpoint_of_model)
        app.router.add_route("*", "/v1/{path:.*}", api.handle)
        control = Control(
            self.settings,
            self._state,
            self._keys,
            self._faults,
            self._journal,
            self._webhooks,
            self.overview,
            self.reset,
        )
        app.add_routes(control.routes())
        app.add_routes(page_routes())
        return app

    def _media_app(self) -> web.Application:
        app = web.Application(middlewares=[observer("media", self._journal, self._faults)])
        app.add_routes(Media(self._state).routes())
        if self.settings.protocol == "edge":
            app.add_routes(EdgeUploads(self.settings, self._state).routes())
        else:
            app.add_routes(SignedPuts(self.settings, self._state, self._secret).routes())
        return app

    async def _listen(self, app: web.Application, port: int, option: str) -> str:
        host = self.settings.host
        runner = web.AppRunner(
            app,
            access_log_class=AccessLogger,
            access_log=access_log,
            shutdown_timeout=1.0,
            handle_signals=False,
        )
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise _in_words(error, host, port, option) from error
        # An address that stands for all of this machine's is none to connect to.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only looked up
        bound = runner.addresses[0][1]
        return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


def _in_words(error: OSError, host: str, port: int, option: str) -> OSError:
    """The same error with a sentence that says what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            text = f"port {port} is in use, perhaps by another sandbox; choose another with {option}"
        case errno.EACCES:
            text = f"port {port} is not for this user; choose one above 1023 with {option}"
        case errno.EADDRNOTAVAIL:
            text = f"{host} is no address of this machine; choose another with --host"
        case _ if isinstance(error, socket.gaierror):
            text = f"the host {host} is not known; choose another with --host"
        case _:
            text = error.strerror or str(error)
    return OSError(error.errno, text)
