"""The edge upload protocol: start, parts, complete, abort."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
import uuid
from typing import Any, BinaryIO

from aiohttp import web

from airflow_provider_diffio.sandbox.contract import MAX_PART_NUMBER, EdgeError
from airflow_provider_diffio.sandbox.projects import record_upload
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import MultipartUpload, Part, Project, State, StoredObject

#: The edge tells the API about a finished upload by itself, a moment after it responded.
_CALLBACK_SECONDS = 0.2
_MIB = 1024 * 1024
#: Also for an uploadId that the edge does not know.
_NEED_PART = "Need a part number and uploadId"
_NEED_PARTS = "Need uploadId and parts"


class EdgeUploads:
    """Receives recordings in parts. A part goes straight to its place in one file, so nothing larger than
    a socket buffer is in memory and finishing is a rename.
    """

    def __init__(self, settings: Settings, state: State) -> None:
        self._settings = settings
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.post("/v1/uploads/start", _edge(self.start)),
            web.put("/v1/uploads/parts/{number}", _edge(self.part)),
            web.post("/v1/uploads/complete", _edge(self.complete)),
            web.post("/v1/uploads/abort", _edge(self.abort)),
        ]

    async def start(self, request: web.Request) -> dict[str, Any]:
        """Open a multipart upload; each call opens another one."""
        project = self._project(request)
        await _json(request)
        upload_id = f"upload-{uuid.uuid4().hex}"
        upload = MultipartUpload(upload_id, project.folder / f"{upload_id}.part")
        upload.path.touch()
        project.uploads[upload_id] = upload
        return {
            "uploadId": upload_id,
            "partSizeBytes": self._settings.part_size,
            "maxBytes": self._settings.max_bytes,
        }

    async def part(self, request: web.Request) -> dict[str, Any]:
        """Receive one part; sending it again replaces it."""
        project = self._project(request)
        number = self._part_number(request)
        upload_id = request.query.get("uploadId")
        if not upload_id:
            raise EdgeError(400, "bad_request", _NEED_PART)
        part_size = self._settings.part_size
        if request.content_length is None:
            raise EdgeError(411, "bad_request", "Parts need a Content-Length")
        if request.content_length > part_size:
            raise EdgeError(413, "payload_too_large", f"Part exceeds {_size(part_size)}")
        if number * part_size > self._settings.max_bytes + part_size:
            raise EdgeError(413, "upload_too_large", "Part is beyond the upload size limit")
        upload = project.uploads.get(upload_id)
        if upload is None or upload.finished is not None:
            raise EdgeError(400, "bad_request", _NEED_PART)
        upload.parts.pop(number, None)
        digest = hashlib.md5(usedforsecurity=False)
        with upload.path.open("r+b") as file:
            file.seek((number - 1) * part_size)
            size = await _receive(request, file, digest.update)
        upload.parts[number] = Part(size, digest.hexdigest())
        return {"partNumber": number, "etag": upload.parts[number].etag}

    async def complete(self, request: web.Request) -> dict[str, Any]:
        """Put the parts together; repeated, it responds from what is stored."""
        project = self._project(request)
        body = await _json(request)
        upload_id, listed = body.get("uploadId"), body.get("parts")
        if not isinstance(upload_id, str) or not upload_id or not isinstance(listed, list) or not listed:
            raise EdgeError(400, "bad_request", _NEED_PARTS)
        upload = project.uploads.get(upload_id)
        if upload is None:
            raise EdgeError(400, "bad_request", _NEED_PARTS)
        if upload.finished is not None:
            return upload.finished
        total, etag = self._check(upload, listed)
        os.truncate(upload.path, total)
        stored = StoredObject(project.folder / "original", total, etag)
        upload.path.replace(stored.path)
        project.stored = stored
        upload.finished = {"objectKey": project.object_path, "sizeBytes": total, "etag": etag}
        asyncio.get_running_loop().call_later(_CALLBACK_SECONDS, record_upload, project)
        return upload.finished

    async def abort(self, request: web.Request) -> dict[str, Any]:
        """Drop a multipart upload; unknown ones are fine too."""
        project = self._project(request)
        upload_id = (await _json(request)).get("uploadId")
        upload = project.uploads.get(upload_id) if isinstance(upload_id, str) else None
        if upload is not None and upload.finished is None:
            del project.uploads[upload.upload_id]
            upload.path.unlink(missing_ok=True)
        return {}

    def _project(self, request: web.Request) -> Project:
        """The project the upload token stands for; an API key counts for nothing here."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        project = self._state.project_of_token(token.strip()) if scheme.lower() == "bearer" else None
        if project is None:
            raise EdgeError(401, "invalid_token", "Upload token refused")
        if time.time() >= project.token_expires:
            raise EdgeError(401, "token_expired", "Upload token refused")
        return project

    def _part_number(self, request: web.Request) -> int:
        text = request.match_info["number"]
        number = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= number <= MAX_PART_NUMBER:
            raise EdgeError(400, "bad_request", _NEED_PART)
        return number

    def _check(self, upload: MultipartUpload, listed: list[Any]) -> tuple[int, str]:
        """The size and etag of the finished object, if the list fits what was received."""
        claimed: dict[int, Any] = {}
        for item in listed:
            number = item.get("partNumber") if isinstance(item, dict) else None
            if isinstance(number, bool) or not isinstance(number, int):
                raise EdgeError(400, "bad_request", _NEED_PARTS)
            claimed[number] = item.get("etag")
        total, digests = 0, hashlib.md5(usedforsecurity=False)
        for number in range(1, len(claimed) + 1):
            part = upload.parts.get(number)
            if number not in claimed or part is None:
                raise EdgeError(400, "upload_failed", f"Part {number} is missing")
            if claimed[number] != part.etag:
                raise EdgeError(400, "upload_failed", "Part etag mismatch")
            if number < len(claimed) and part.size != self._settings.part_size:
                raise EdgeError(400, "upload_failed", f"Part {number} is not partSizeBytes long")
            total += part.size
            digests.update(bytes.fromhex(part.etag))
        if total > self._settings.max_bytes:
            raise EdgeError(413, "upload_too_large", "Upload is too large")
        return total, f"{digests.hexdigest()}-{len(claimed)}"


def _edge(handler: Any) -> Any:
    """Respond with JSON, and with the edge's own shape of error."""

    async def respond(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(await handler(request))
        except EdgeError as error:
            return web.json_response(error.body(), status=error.status)

    return respond


async def _receive(request: web.Request, file: BinaryIO, update: Any) -> int:
    size = 0
    async for chunk in request.content.iter_any():
        file.write(chunk)
        update(chunk)
        size += len(chunk)
    return size


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise EdgeError(400, "bad_request", "Need a JSON object")
    return body


def _size(count: int) -> str:
    return f"{count // _MIB} MiB" if count % _MIB == 0 else f"{count} bytes"
