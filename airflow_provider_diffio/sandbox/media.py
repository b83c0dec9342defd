"""Downloads: ``GET /m/{token}/...`` with ranges, straight from disk."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from airflow_provider_diffio.sandbox.contract import EdgeError
from airflow_provider_diffio.sandbox.state import State


class MediaFile(web.FileResponse):
    """A file whose path stays readable, and whose ``If-Range`` understands entity tags.

    aiohttp compares ``If-Range`` with dates only and would serve a range of a file that has changed.
    """

    def __init__(self, path: Path, headers: dict[str, str]) -> None:
        super().__init__(path, chunk_size=256 * 1024, headers=headers)
        self.file_path = path

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the file, whole if the range was asked of another version of it."""
        condition = request.headers.get("If-Range", "")
        if condition.startswith(('"', "W/")) and condition != entity_tag(self.file_path):
            headers = request.headers.copy()
            headers.popall("Range", None)
            request = request.clone(headers=headers)
        return await super().prepare(request)


class Media:
    """Serves what download links point to."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.get("/m/{token}/{path:.+}", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The file behind a link that is still good."""
        link = self._state.links.get(request.match_info["token"])
        if (
            link is None
            or time.time() >= link.expires
            or not request.match_info["path"].endswith("/" + link.asset.path.name)
            or not link.asset.path.is_file()
        ):
            return web.json_response(EdgeError(404, "not_found", "No such media").body(), status=404)
        headers = {"Content-Type": link.asset.mime_type, "Cache-Control": "private, no-store"}
        name = request.query.get("download")
        if name:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return MediaFile(link.asset.path, headers)


def entity_tag(path: Path) -> str:
    """The ETag aiohttp gives a file."""
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
