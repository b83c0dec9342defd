"""The page at ``/``. Anybody may load its files; what it shows comes from the control routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

_FOLDER: Final = Path(__file__).parent / "static"
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/sandbox/page.css": ("page.css", "text/css"),
    "/sandbox/page.js": ("page.js", "text/javascript"),
    "/sandbox/spectrogram.js": ("spectrogram.js", "text/javascript"),
}
_HEADERS: Final = {
    # Nothing is loaded from elsewhere, and no other site shows this page in a frame of its own.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[web.RouteDef]:
    """What is served."""
    return [web.get(path, _file(name, content_type)) for path, (name, content_type) in _FILES.items()]


def _file(name: str, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(_request: web.Request) -> web.StreamResponse:
        headers = {**_HEADERS, "Content-Type": f"{content_type}; charset=utf-8"}
        return web.FileResponse(_FOLDER / name, headers=headers)

    return serve
