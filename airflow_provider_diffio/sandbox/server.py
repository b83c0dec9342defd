"""The sandbox itself: two origins, one state."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path

from aiohttp import web

from .account import Account
from .api import Api
from .contract import EVENT_TYPES
from .control import Control
from .faults import FaultBook
from .generations import Generations
from .jobs import Jobs
from .journal import Journal
from .keys import KeyRing
from .media import Media
from .observe import observer
from .projects import Projects
from .settings import Settings
from .state import State
from .storage import SignedPuts
from .uploads import EdgeUploads
from .webhooks import Webhooks

#: A thousand pollers may connect in the same instant.
_BACKLOG = 2048


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
        host, settings = self.settings.host, self.settings
        self.media_url = await self._listen(self._media_app(), host, settings.media_port)
        self.api_url = await self._listen(self._api_app(), host, settings.port)

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

    def add_webhook(self, url: str) -> None:
        """Tell an address of everything that happens to the first key's generations."""
        key_id = self._keys.bootstrap.key_id
        self._webhooks.add(key_id, "live", url, EVENT_TYPES, key_id)

    def _media_address(self) -> str:
        return self.media_url

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
        control = Control(self._state, self._keys, self._faults, self._journal, self._webhooks, self.reset)
        app.add_routes(control.routes())
        return app

    def _media_app(self) -> web.Application:
        app = web.Application(middlewares=[observer("media", self._journal, self._faults)])
        app.add_routes(Media(self._state).routes())
        if self.settings.protocol == "edge":
            app.add_routes(EdgeUploads(self.settings, self._state).routes())
        else:
            app.add_routes(SignedPuts(self.settings, self._state, self._secret).routes())
        return app

    async def _listen(self, app: web.Application, host: str, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        await site.start()
        bound = runner.addresses[0][1]
        return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
