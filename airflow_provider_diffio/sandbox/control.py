"""The routes a test steers the sandbox with. They take no key, and only this machine reaches them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from .contract import DOWNLOAD_TYPES, EVENT_TYPES, SCOPES, WEBHOOK_MODES, ApiError
from .faults import Fault, FaultBook
from .journal import Journal
from .keys import KeyRing
from .ledger import ledger
from .settings import is_loopback
from .state import State
from .webhooks import Webhooks


class Control:
    """``/sandbox/...`` on the API's port."""

    def __init__(
        self,
        state: State,
        keys: KeyRing,
        faults: FaultBook,
        journal: Journal,
        webhooks: Webhooks,
        reset: Callable[[], Awaitable[None]],
    ) -> None:
        self._state = state
        self._keys = keys
        self._faults = faults
        self._journal = journal
        self._webhooks = webhooks
        self._reset = reset

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.get("/sandbox/ledger", self._local(self.ledger)),
            web.get("/sandbox/requests", self._local(self.requests)),
            web.post("/sandbox/reset", self._local(self.reset)),
            web.get("/sandbox/faults", self._local(self.faults)),
            web.post("/sandbox/faults", self._local(self.add_faults)),
            web.delete("/sandbox/faults", self._local(self.clear_faults)),
            web.post("/sandbox/keys", self._local(self.add_key)),
            web.post("/sandbox/links/expire", self._local(self.expire_links)),
            web.get("/sandbox/webhooks", self._local(self.webhooks)),
            web.post("/sandbox/webhooks", self._local(self.add_webhook)),
            web.post("/sandbox/webhooks/resend", self._local(self.resend)),
            web.get("/sandbox/results/{generation}/{kind}", self._local(self.result)),
        ]

    async def ledger(self, _request: web.Request) -> web.StreamResponse:
        """What would have been billed."""
        return web.json_response(ledger(self._state))

    async def requests(self, _request: web.Request) -> web.StreamResponse:
        """Every request seen."""
        return web.json_response({"requests": self._journal.entries()})

    async def reset(self, _request: web.Request) -> web.StreamResponse:
        """Forget everything but how the sandbox was started."""
        await self._reset()
        return web.json_response({})

    async def faults(self, _request: web.Request) -> web.StreamResponse:
        """The faults in force."""
        return web.json_response({"faults": self._faults.describe()})

    async def add_faults(self, request: web.Request) -> web.StreamResponse:
        """Put faults in force: one object or a list of them."""
        specs = await _body(request)
        made = [Fault.from_json(spec) for spec in (specs if isinstance(specs, list) else [specs])]
        self._faults.add(made)
        return web.json_response({"faults": [fault.fault_id for fault in made]})

    async def clear_faults(self, _request: web.Request) -> web.StreamResponse:
        """Nothing goes wrong any more."""
        self._faults.clear()
        return web.json_response({})

    async def add_key(self, request: web.Request) -> web.StreamResponse:
        """Make a key: ``scopes``, or the ``permissions`` of a key from before scopes; ``resourceBounds``.

        ``permissions`` are ``read``, ``write`` and ``downloadGenerations``, each true or false.
        """
        body = await _object(request)
        scopes, permissions = body.get("scopes", []), body.get("permissions")
        bounds = body.get("resourceBounds", {})
        if not isinstance(scopes, list) or not set(scopes) <= SCOPES or not isinstance(bounds, dict):
            raise ValueError(f"scopes is a list of {', '.join(sorted(SCOPES))}; resourceBounds is an object")
        if permissions is not None and (
            scopes
            or not isinstance(permissions, dict)
            or not set(permissions) <= {"read", "write", "downloadGenerations"}
            or not all(isinstance(value, bool) for value in permissions.values())
        ):
            raise ValueError(
                "permissions takes read, write and downloadGenerations, each true or false, instead of scopes"
            )
        label = str(body.get("label", "made by the sandbox"))
        key = self._keys.create(self._keys.bootstrap, label, tuple(scopes), bounds, permissions)
        return web.json_response({"keyId": key.key_id, "key": key.plaintext})

    async def expire_links(self, _request: web.Request) -> web.StreamResponse:
        """Let every download link that was given out expire now."""
        now = time.time()
        for token, link in self._state.links.items():
            self._state.links[token] = replace(link, expires=min(link.expires, now))
        return web.json_response({"expired": len(self._state.links)})

    async def webhooks(self, _request: web.Request) -> web.StreamResponse:
        """Endpoints and deliveries."""
        return web.json_response(self._webhooks.describe())

    async def add_webhook(self, request: web.Request) -> web.StreamResponse:
        """Add an endpoint: ``url``, and perhaps ``eventTypes``, ``mode`` and ``apiKeyId``."""
        body = await _object(request)
        url, mode = body.get("url"), body.get("mode", "live")
        event_types = tuple(body.get("eventTypes", EVENT_TYPES))
        if not isinstance(url, str) or mode not in WEBHOOK_MODES or not set(event_types) <= set(EVENT_TYPES):
            raise ValueError("a webhook needs a url; mode is test or live; eventTypes are generation.*")
        key_id = body.get("apiKeyId", self._keys.bootstrap.key_id)
        return web.json_response({"webhook": self._webhooks.add(key_id, mode, url, event_types, "portal")})

    async def resend(self, request: web.Request) -> web.StreamResponse:
        """Deliver a message again under the same id: ``{"messageId"}``."""
        found = self._webhooks.resend(str((await _object(request)).get("messageId")))
        return web.json_response({"resent": found}, status=200 if found else 404)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """A result's bytes, without asking for a link first."""
        generation = self._state.generations.get(request.match_info["generation"])
        kind = request.match_info["kind"]
        asset = None if generation is None or kind not in DOWNLOAD_TYPES else generation.assets.get(kind)
        if asset is None:
            return web.json_response({"error": f"No {kind} result of that generation."}, status=404)
        return web.FileResponse(asset.path, headers={"Content-Type": asset.mime_type})

    def _local(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Only for callers on this machine, however the sandbox was bound."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not is_loopback(request.remote or ""):
                return web.json_response({"error": "Control routes are for this machine only."}, status=403)
            try:
                return await handler(request)
            except (ApiError, TypeError, ValueError) as error:
                return web.json_response({"error": str(error)}, status=400)

        return guarded


async def _object(request: web.Request) -> dict[str, Any]:
    body = await _body(request)
    if not isinstance(body, dict):
        raise TypeError("the body must be a JSON object")
    return body


async def _body(request: web.Request) -> Any:
    return json.loads(await request.read())
