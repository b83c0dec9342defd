"""The signed-PUT protocol: one PUT to an address that carries its own proof."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from xml.sax.saxutils import escape

from aiohttp import web

from airflow_provider_diffio.sandbox.keys import signature
from airflow_provider_diffio.sandbox.projects import BUCKET, record_upload
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import State, StoredObject


class SignedPuts:
    """Receives a whole recording in one request, as an object store does: errors are XML, not JSON."""

    def __init__(self, settings: Settings, state: State, secret: str) -> None:
        self._settings = settings
        self._state = state
        self._secret = secret

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.put(f"/storage/{BUCKET}/{{path:.+}}", self.put)]

    async def put(self, request: web.Request) -> web.Response:
        """Store the body if the address was made for exactly this request."""
        if "Authorization" in request.headers:
            return _refused(400, "InvalidArgument", "A signed address takes no Authorization header.")
        project = self._state.projects.get(request.query.get("project", ""))
        expires = request.query.get("expires", "")
        if project is None or project.object_path != request.match_info["path"]:
            return _refused(403, "AccessDenied", "The address is not valid.")
        content_type = request.headers.get("Content-Type", "")
        proof = signature(self._secret, "PUT", project.project_id, content_type, expires)
        if not hmac.compare_digest(proof, request.query.get("signature", "")):
            return _refused(
                403, "SignatureDoesNotMatch", "The signature does not fit the address and Content-Type."
            )
        if time.time() >= float(expires):
            return _refused(403, "ExpiredToken", "The address has expired.")
        if (request.content_length or 0) > self._settings.max_bytes:
            return _refused(413, "EntityTooLarge", "The object is too large.")
        digest, size = hashlib.md5(usedforsecurity=False), 0
        partial = project.folder / f"{uuid.uuid4().hex}.part"
        try:
            with partial.open("wb") as file:
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > self._settings.max_bytes:
                        return _refused(413, "EntityTooLarge", "The object is too large.")
                    file.write(chunk)
                    digest.update(chunk)
            project.stored = StoredObject(project.folder / "original", size, digest.hexdigest())
            partial.replace(project.stored.path)
        finally:
            partial.unlink(missing_ok=True)
        record_upload(project)
        return web.Response(headers={"ETag": f'"{project.stored.etag}"'})


def _refused(status: int, code: str, message: str) -> web.Response:
    return web.Response(
        status=status,
        text=f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
        f"<Message>{escape(message)}</Message></Error>",
        content_type="application/xml",
    )
