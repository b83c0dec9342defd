"""The API's front door: who asks, for what, and in which order a request is refused."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from airflow_provider_diffio.sandbox.contract import INVALID_JSON, ROUTE_NOT_FOUND, ApiError, JSONObject
from airflow_provider_diffio.sandbox.keys import ApiKey, KeyRing

Handler = Callable[[ApiKey, JSONObject], Awaitable[JSONObject]]


@dataclass(frozen=True)
class Endpoint:
    """What serves a path, and the scope a key needs for it."""

    scope: str
    handler: Handler
    admin_only: bool = False


class Api:
    """Dispatches ``POST /v1/...``.

    The order of refusals is part of the contract: method (405), key (401, 403), body (400),
    route (404), permission (403), and then whatever the endpoint itself objects to.
    """

    def __init__(
        self,
        keys: KeyRing,
        endpoints: Mapping[str, Endpoint],
        generation: Callable[[str], Endpoint | None],
    ) -> None:
        self._keys = keys
        self._endpoints = endpoints
        self._generation = generation

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to one request under /v1."""
        if request.method == "OPTIONS":
            return _preflight()
        try:
            return web.json_response(await self._respond(request))
        except ApiError as error:
            return web.json_response(error.body(), status=error.status)

    async def _respond(self, request: web.Request) -> JSONObject:
        if request.method != "POST":
            raise ApiError(405, "Method not allowed.")
        key = self._keys.authenticate(_presented_key(request))
        body = await _json_object(request)
        path = request.match_info["path"]
        endpoint = self._endpoints.get(path) or self._generation(path)
        if endpoint is None:
            raise ApiError(404, ROUTE_NOT_FOUND)
        if endpoint.admin_only:
            key.require_admin()
        key.require(endpoint.scope)
        return await endpoint.handler(key, body)


def _presented_key(request: web.Request) -> str | None:
    """The key in any of the three headers that may carry it."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("X-Api-Key") or request.headers.get("Xi-Api-Key")


async def _json_object(request: web.Request) -> dict[str, Any]:
    """The body; an empty one counts as ``{}``, as it does at the vendor."""
    try:
        body = json.loads(await request.read() or b"{}")
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "Request body is too large.") from None
    except ValueError:
        raise ApiError(400, INVALID_JSON) from None
    if not isinstance(body, dict):
        raise ApiError(400, INVALID_JSON)
    return body


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "POST, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Api-Key, Xi-Api-Key",
        },
    )
