"""What surrounds every request: it is written down, and it may be made to fail."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from airflow_provider_diffio.sandbox.access_log import ENTRY
from airflow_provider_diffio.sandbox.faults import Fault, FaultBook
from airflow_provider_diffio.sandbox.journal import Entry, Journal
from airflow_provider_diffio.sandbox.media import MediaFile

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The page, and the control routes: what looks at the sandbox from outside is none of its requests.
_OUTSIDE: Final = ("/", "/sandbox/")
_CHUNK: Final = 256 * 1024


def observer(origin: str, journal: Journal, faults: FaultBook) -> Middleware:
    """The middleware of one origin, ``api`` or ``media``."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        if origin == "api" and (request.path == _OUTSIDE[0] or request.path.startswith(_OUTSIDE[1])):
            return await _plainly(handler, request)
        entry = request[ENTRY] = journal.open(request, origin)
        striking = faults.for_request(origin, request.method, request.path) if faults else []
        try:
            if striking:
                return await _with_faults(request, handler, entry, striking)
            response = await _plainly(handler, request)
        except (ConnectionError, web.RequestPayloadError):
            # The client is gone and does not read this. A killed client is no error of the sandbox.
            return web.Response()
        entry.status = response.status
        return response

    return observe


async def _plainly(handler: Handler, request: web.Request) -> web.StreamResponse:
    """The handler's response; what aiohttp raises for unknown routes becomes JSON like all else."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if request.path.startswith("/v1/uploads/"):
            return _error(404, {"code": "not_found", "message": "Unknown upload route"})
        if error.status in {404, 405}:
            return _error(404, {"code": "not_found", "message": "Unknown route"})
        return _error(error.status, error.reason)


async def _with_faults(
    request: web.Request, handler: Handler, entry: Entry, striking: list[Fault]
) -> web.StreamResponse:
    entry.fault = ", ".join(fault.kind for fault in striking)
    fault: Fault | None = None
    for fault in striking:
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
    if fault is None or fault.kind == "delay":
        response = await _plainly(handler, request)
        entry.status = response.status
        return response
    if fault.kind == "status":
        entry.status = fault.status
        return _made_up(fault, fault.status or 500)
    if fault.kind == "reset-before":
        await _read_some(request, fault.bytes)
        return _reset(request)
    response = await _plainly(handler, request)
    if fault.kind == "reset-after":
        return _reset(request)
    entry.status = response.status
    if fault.kind == "body":
        return _made_up(fault, fault.status or response.status)
    return await _truncated(request, response, fault.bytes)


def _made_up(fault: Fault, status: int) -> web.Response:
    """A made-up response. A string is sent as it is, anything else as JSON."""
    body = fault.body if isinstance(fault.body, str) else json.dumps({} if fault.body is None else fault.body)
    headers = {"Content-Type": fault.content_type, **fault.headers}
    return web.Response(status=status, body=body.encode(), headers=headers)


async def _read_some(request: web.Request, count: int) -> None:
    """Take in the beginning of a body, so that the reset comes in the middle of it."""
    while count > 0 and (chunk := await request.content.read(min(_CHUNK, count))):
        count -= len(chunk)


def _reset(request: web.Request) -> web.Response:
    """Drop the connection so that the peer sees a reset. The response returned is never sent."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _truncated(request: web.Request, response: web.StreamResponse, keep: int) -> web.StreamResponse:
    """Announce the whole response, send its first bytes, and hang up."""
    cut = web.StreamResponse(status=response.status)
    cut.headers.update(response.headers)
    file: BinaryIO | None = None
    if isinstance(response, MediaFile):
        first, length = _range(request, response.file_path)
        cut.set_status(200 if first is None else 206)
        if first is not None:
            size = response.file_path.stat().st_size
            cut.headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{size}"
        file = await asyncio.to_thread(response.file_path.open, "rb")
        file.seek(first or 0)
        body = b""
    else:
        body = (
            response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
        )
        length = len(body)
    cut.content_length = length
    await cut.prepare(request)
    left = min(keep, length)
    if file is None:
        await cut.write(body[:left])
    else:
        with file:
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                await cut.write(chunk)
                left -= len(chunk)
    if request.transport is not None:
        request.transport.close()
    return cut


def _range(request: web.Request, path: Path) -> tuple[int | None, int]:
    """Where a file's response begins (None: no range was asked) and how long it is."""
    size = path.stat().st_size
    wanted = request.http_range
    if wanted.start is None and wanted.stop is None:
        return None, size
    first, last, _ = wanted.indices(size)
    return first, max(0, last - first)


def _error(status: int, error: object) -> web.Response:
    return web.json_response({"error": error}, status=status)
