"""Projects: create, confirm the upload, list."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_diffio.sandbox.api import Endpoint
from airflow_provider_diffio.sandbox.contract import (
    ApiError,
    JSONObject,
    optional_object,
    optional_string,
    string_field,
)
from airflow_provider_diffio.sandbox.keys import ApiKey, signature
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import Project, State, iso

BUCKET = "diffio-sandbox"
_UPLOAD_TOO_LARGE = "contentLength exceeds the 2 GiB upload limit."


class Projects:
    """The endpoints about projects."""

    def __init__(self, settings: Settings, state: State, media_url: Callable[[], str], secret: str) -> None:
        self._settings = settings
        self._state = state
        self._media_url = media_url
        self._secret = secret

    def endpoints(self) -> dict[str, Endpoint]:
        """What is served; the confirmation came with the edge upload."""
        endpoints = {
            "create_project": Endpoint("projects:write", self.create),
            "list_projects": Endpoint("projects:read", self.list),
        }
        if self._settings.protocol == "edge":
            endpoints["complete_project_upload"] = Endpoint("projects:write", self.complete_upload)
        return endpoints

    async def create(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """A new project and where to upload to. Not idempotent: sent twice, it makes two."""
        file_name = string_field(body, "fileName")
        content_type = optional_string(body, "contentType") or "application/octet-stream"
        self._check_length(body.get("contentLength"))
        params = dict(optional_object(body, "params") or {})
        file_format = optional_string(body, "fileFormat")
        if file_format is not None:
            params.setdefault("fileFormat", file_format)
        project = self._state.add_project(
            key,
            file_name=file_name,
            content_type=content_type,
            params=params,
            token_life=self._settings.upload_seconds,
        )
        return self._session(project) if self._settings.protocol == "edge" else self._signed_put(project)

    async def complete_upload(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """Confirm an upload; safe to repeat."""
        project = self._state.project(string_field(body, "apiProjectId"), key)
        if project.stored is None:
            raise ApiError(409, "Upload has not completed yet.", "UPLOAD_MISSING")
        record_upload(project)
        return {
            "apiProjectId": project.project_id,
            "status": "uploaded",
            "sizeBytes": project.stored.size,
        }

    async def list(self, key: ApiKey, _body: JSONObject) -> JSONObject:
        """The key's own projects, oldest first."""
        return {"projects": [_summary(project) for project in self._state.projects_of(key)]}

    def _check_length(self, length: Any) -> None:
        if length is None:
            return
        if isinstance(length, bool) or not isinstance(length, int | float) or length < 0:
            raise ApiError(400, "contentLength must be a non-negative number.")
        if length > self._settings.max_bytes:
            raise ApiError(413, _UPLOAD_TOO_LARGE, "UPLOAD_TOO_LARGE")

    def _session(self, project: Project) -> JSONObject:
        expires = iso(project.token_expires)
        return {
            "apiProjectId": project.project_id,
            "upload": {
                "uploadSessionId": f"api-{project.project_id}",
                "edgeBaseUrl": self._media_url(),
                "uploadToken": project.upload_token,
                "objectKey": project.object_path,
                "partSizeBytes": self._settings.part_size,
                "maxBytes": self._settings.max_bytes,
                "expiresAt": expires,
            },
            "objectPath": project.object_path,
            "expiresAt": expires,
        }

    def _signed_put(self, project: Project) -> JSONObject:
        expires = str(int(project.token_expires))
        proof = signature(self._secret, "PUT", project.project_id, project.content_type, expires)
        query = urlencode({"project": project.project_id, "expires": expires, "signature": proof})
        return {
            "apiProjectId": project.project_id,
            "uploadUrl": f"{self._media_url()}/storage/{BUCKET}/{quote(project.object_path)}?{query}",
            "uploadMethod": "PUT",
            "objectPath": project.object_path,
            "bucket": BUCKET,
            "expiresAt": iso(project.token_expires),
        }


def record_upload(project: Project) -> None:
    """Note that the recording is there; preprocessing could start."""
    if project.status == "uploading":
        project.status = "uploaded"
        project.updated = time.time()


def _summary(project: Project) -> JSONObject:
    return {
        "apiProjectId": project.project_id,
        "status": project.status,
        "originalFileName": project.file_name,
        "contentType": project.content_type,
        "hasVideo": project.has_video,
        "generationCount": len(project.generations),
        "createdAt": iso(project.created),
        "updatedAt": iso(project.updated),
    }
