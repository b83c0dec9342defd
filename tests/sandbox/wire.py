"""Talks to a sandbox in plain HTTP, stating every path and field by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import requests

from airflow_provider_diffio.sandbox import RemoteSandbox

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class WireResponse:
    """What came back."""

    status: int
    body: Any


class Wire:
    """One client of one sandbox."""

    def __init__(self, sandbox: RemoteSandbox) -> None:
        self.sandbox = sandbox
        self.http = requests.Session()
        self.http.trust_env = False

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> WireResponse:
        """POST /v1/{path} with a Bearer key."""
        response = self.http.post(
            f"{self.sandbox.api_url}/v1/{path}",
            json={} if body is None else body,
            headers={"Authorization": f"Bearer {key or self.sandbox.api_key}"},
            timeout=20,
        )
        return WireResponse(response.status_code, response.json())

    def ok(self, path: str, body: Any = None, *, key: str | None = None) -> JSONObject:
        """The body of a response that has to be 200."""
        response = self.post(path, body, key=key)
        assert response.status == 200, response
        body = response.body
        assert isinstance(body, dict)
        return body

    def edge(
        self, session: JSONObject, action: str, body: Any = None, *, token: str | None = None
    ) -> WireResponse:
        """POST to the upload host."""
        response = self.http.post(
            f"{session['edgeBaseUrl']}/v1/uploads/{action}",
            json={} if body is None else body,
            headers={"Authorization": f"Bearer {token or session['uploadToken']}"},
            timeout=20,
        )
        return WireResponse(response.status_code, response.json())

    def part(self, session: JSONObject, upload_id: str, number: int, data: Any) -> WireResponse:
        """PUT one part."""
        response = self.http.put(
            f"{session['edgeBaseUrl']}/v1/uploads/parts/{number}",
            params={"uploadId": upload_id},
            data=data,
            headers={
                "Authorization": f"Bearer {session['uploadToken']}",
                "Content-Type": "application/octet-stream",
            },
            timeout=20,
        )
        return WireResponse(response.status_code, response.json())

    def project(self, **fields: Any) -> JSONObject:
        """A new project."""
        return self.ok("create_project", {"fileName": "talk.wav", **fields})

    def uploaded(self, data: bytes = b"sound", *, key: str | None = None, **fields: Any) -> str:
        """The id of a project whose recording has been uploaded and confirmed."""
        project = self.ok("create_project", {"fileName": "talk.wav", **fields}, key=key)
        session = project["upload"]
        upload_id = self.edge(session, "start").body["uploadId"]
        size = session["partSizeBytes"]
        pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        parts = [self.part(session, upload_id, n, piece).body for n, piece in enumerate(pieces, start=1)]
        finished = self.edge(session, "complete", {"uploadId": upload_id, "parts": parts})
        assert finished.body.get("sizeBytes") == len(data), finished
        project_id = str(project["apiProjectId"])
        self.ok("complete_project_upload", {"apiProjectId": project_id}, key=key)
        return project_id

    def generation(
        self, project_id: str, *, model: str = "diffio-4.6-flash", key: str | None = None, **fields: Any
    ) -> str:
        """The id of a generation that has just been started."""
        response = self.ok(f"{model}-generation", {"apiProjectId": project_id, **fields}, key=key)
        return str(response["generationId"])

    def progress(self, generation_id: str) -> JSONObject:
        """Where a generation is."""
        return self.ok("get_generation_progress", {"generationId": generation_id})

    def finished(self, generation_id: str, *, seconds: float = 20.0) -> JSONObject:
        """The progress of a generation once it is over."""
        deadline = time.monotonic() + seconds
        while True:
            progress = self.progress(generation_id)
            if progress["status"] in {"complete", "failed"}:
                return progress
            assert time.monotonic() < deadline, progress
            time.sleep(0.02)

    def download(self, generation_id: str, **fields: Any) -> WireResponse:
        """Ask for a link."""
        project_id = self.progress(generation_id)["apiProjectId"]
        body = {"generationId": generation_id, "apiProjectId": project_id, **fields}
        return self.post("get_generation_download", body)

    def restored(self, data: bytes = b"sound", **fields: Any) -> str:
        """The id of a generation that is complete."""
        generation_id = self.generation(self.uploaded(data, **fields))
        assert self.finished(generation_id)["status"] == "complete"
        return generation_id
