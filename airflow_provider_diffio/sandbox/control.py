"""The routes that show and steer the sandbox, for tests and for the page. They take no API key.

Only this machine reaches them. With a control token, every machine does that sends the token, and no other.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from airflow_provider_diffio.sandbox.contract import (
    DOWNLOAD_TYPES,
    EVENT_TYPES,
    SCOPES,
    WEBHOOK_MODES,
    ApiError,
)
from airflow_provider_diffio.sandbox.faults import Fault, FaultBook
from airflow_provider_diffio.sandbox.journal import Journal
from airflow_provider_diffio.sandbox.keys import KeyRing
from airflow_provider_diffio.sandbox.ledger import ledger
from airflow_provider_diffio.sandbox.settings import Settings, is_loopback
from airflow_provider_diffio.sandbox.state import State
from airflow_provider_diffio.sandbox.webhooks import Webhooks

_DATA: Final = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "no-store",
}
_NOT_HERE: Final = "Control routes are for this machine only, unless the sandbox has a --control-token."


class Control:
    """``/sandbox/...`` on the API's port."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        keys: KeyRing,
        faults: FaultBook,
        journal: Journal,
        webhooks: Webhooks,
        overview: Callable[[], dict[str, Any]],
        reset: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._state = state
        self._keys = keys
        self._faults = faults
        self._journal = journal
        self._webhooks = webhooks
        self._overview = overview
        self._reset = reset

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.get("/sandbox/overview", self._guarded(self.overview)),
            web.get("/sandbox/ledger", self._guarded(self.ledger)),
            web.get("/sandbox/requests", self._guarded(self.requests)),
            web.post("/sandbox/reset", self._guarded(self.reset)),
            web.get("/sandbox/faults", self._guarded(self.faults)),
            web.post("/sandbox/faults", self._guarded(self.add_faults)),
            web.delete("/sandbox/faults", self._guarded(self.clear_faults)),
            web.post("/sandbox/keys", self._guarded(self.add_key)),
            web.post("/sandbox/links/expire", self._guarded(self.expire_links)),
            web.get("/sandbox/webhooks", self._guarded(self.webhooks)),
            web.post("/sandbox/webhooks", self._guarded(self.add_webhook)),
            web.post("/sandbox/webhooks/resend", self._guarded(self.resend)),
            web.get("/sandbox/originals/{project}", self._guarded(self.original)),
            web.get("/sandbox/results/{generation}/{kind}", self._guarded(self.result)),
        ]

    async def overview(self, _request: web.Request) -> web.StreamResponse:
        """What the page shows."""
        return web.json_response(self._overview())

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

    async def original(self, request: web.Request) -> web.StreamResponse:
        """The recording that was uploaded."""
        project = self._state.projects.get(request.match_info["project"])
        if project is None or project.stored is None or not project.stored.path.is_file():
            return web.json_response({"error": "No recording of that project."}, status=404)
        # Never as what it claims to be: a page that somebody uploaded must not run as a page of the sandbox.
        return web.FileResponse(project.stored.path, headers=_DATA)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """A result's bytes, without asking for a link first."""
        generation = self._state.generations.get(request.match_info["generation"])
        kind = request.match_info["kind"]
        asset = None if generation is None or kind not in DOWNLOAD_TYPES else generation.assets.get(kind)
        if asset is None:
            return web.json_response({"error": f"No {kind} result of that generation."}, status=404)
        return web.FileResponse(asset.path, headers={**_DATA, "Content-Type": asset.mime_type})

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Only for those who may steer the sandbox."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if (refusal := self._refusal(request)) is not None:
                return refusal
            try:
                return await handler(request)
            except (ApiError, TypeError, ValueError) as error:
                return web.json_response({"error": str(error)}, status=400)

        return guarded

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Why a request may not steer the sandbox, or None."""
        token = self._settings.control_token
        if token is not None:
            scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "bearer" and _same(shown.strip(), token):
                return None
            return web.json_response(
                {"error": "Control routes need the sandbox's control token: Authorization: Bearer <token>."},
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not is_loopback(request.remote or ""):
            return web.json_response({"error": _NOT_HERE}, status=403)
        # A browser on this machine shows pages of others, and they must not steer the sandbox through it.
        origin = request.headers.get("Origin")
        if not self._is_own_name(request.host) or (
            origin is not None and urlsplit(origin).netloc != request.host
        ):
            return web.json_response({"error": "Control routes are not for other sites."}, status=403)
        return None

    def _is_own_name(self, host: str) -> bool:
        """Whether a Host header names this machine, and not a site whose name leads here."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        public = urlsplit(self._settings.public_url or "").hostname
        return is_loopback(name) or name in {self._settings.host, public}


def _same(shown: str, token: str) -> bool:
    """Whether two tokens are equal, in a time that does not tell how much of them is."""
    # aiohttp keeps bytes that are no UTF-8 as surrogates.
    return hmac.compare_digest(shown.encode(errors="surrogateescape"), token.encode())


async def _object(request: web.Request) -> dict[str, Any]:
    body = await _body(request)
    if not isinstance(body, dict):
        raise TypeError("the body must be a JSON object")
    return body


async def _body(request: web.Request) -> Any:
    return json.loads(await request.read())
