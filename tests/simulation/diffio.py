"""
A Diffio in memory, below ``requests``: nothing leaves the process, and a seed plays the same again.

It states the part of the contract that a restoration uses once more, apart from the sandbox, and keeps what
the invariants ask for: what was billed, for what content, and which task instance had asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import requests.adapters
import urllib3

HOST = "http://127.0.0.1:9"
BASE_URL = f"{HOST}/v1"
MODELS = ("diffio-4.6-flash", "diffio-4.6-pro")
PART_BYTES = 1000
#: Every secret that this Diffio hands out holds this word; an API key does, too.
SECRET = "canary5ecret"
#: How a gateway in front of Diffio answers in its place.
PAGE = b"<html><h1>Sorry</h1></html>"

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Project:
    """A project, with its file once it has arrived."""

    project_id: str
    file_name: str
    content: bytes | None = None
    confirmed: bool = False
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Generation:
    """
    A generation, billed once.

    :ivar asked_by: who had the first request sent.
    :ivar over_at: when it is over, on the simulation's clock.
    :ivar fails: whether it ends as failed.
    :ivar key: its idempotency key.
    """

    generation_id: str
    project: Project
    model: str
    key: str | None
    request: str
    asked_by: str
    over_at: float
    fails: bool

    @property
    def restored(self) -> bytes:
        """What it makes of the recording: never the recording itself."""
        assert self.project.content is not None
        digest = hashlib.sha256(self.project.content + self.model.encode()).digest()
        return b"RESTORED" + digest * (1 + len(self.project.content) // 64)


@dataclass
class ScriptedDiffio:
    """
    Diffio, as far as a restoration uses it.

    :ivar now: the simulation's clock.
    :ivar asked_by: on whose behalf requests come at present.
    :ivar fates: how the next generations end: seconds they take, and whether they fail.
    :ivar keys: the API keys that are valid.
    :ivar refuses: an answer that every call of the API gets while the account is blocked.
    """

    now: Callable[[], float]
    asked_by: str = "nobody"
    fates: list[tuple[float, bool]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    refuses: tuple[int, str] | None = None
    projects: dict[str, Project] = field(default_factory=dict)
    generations: dict[str, Generation] = field(default_factory=dict)
    served: int = 0

    def answer(self, request: requests.PreparedRequest) -> Answer:
        """Do what a request asks for."""
        self.served += 1
        url = urlsplit(str(request.url))
        body = _bytes(request.body)
        if url.path.startswith("/edge/"):
            return self._edge(request, url.path, parse_qs(url.query), body)
        if url.path.startswith("/m/"):
            return self._media(url.path, request.headers)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.keys:
            return _json({"error": "Invalid API key."}, 401)
        if self.refuses:
            return _json({"error": self.refuses[1]}, self.refuses[0])
        return self._api(url.path.removeprefix("/v1/"), json.loads(body or b"{}"))

    def _api(self, name: str, body: Mapping[str, Any]) -> Answer:
        if name == "create_project":
            return self._create_project(body)
        if name.endswith("-generation"):
            return self._create_generation(name.removesuffix("-generation"), body)
        if name == "complete_project_upload":
            return self._complete_project_upload(self.projects.get(body["apiProjectId"]))
        if name == "list_project_generations":
            return self._list_project_generations(body["apiProjectId"])
        generation = self.generations.get(body.get("generationId", ""))
        if generation is None:
            return _json({"error": "Generation not found."}, 404)
        if name == "get_generation_progress":
            return _json(
                {
                    "generationId": generation.generation_id,
                    "apiProjectId": generation.project.project_id,
                    "status": self.status(generation),
                    "hasVideo": False,
                }
            )
        assert name == "get_generation_download", name
        if self.status(generation) != "complete":
            return _json({"error": "Generation is not complete."}, 409)
        token = f"v1.{SECRET}{generation.generation_id}.signature0123456789"
        return _json(
            {
                "generationId": generation.generation_id,
                "apiProjectId": generation.project.project_id,
                "downloadType": "audio",
                "downloadUrl": f"{HOST}/m/{token}/{generation.generation_id}/restored.mp3",
                "fileName": "restored.mp3",
                "mimeType": "audio/mpeg",
            }
        )

    def status(self, generation: Generation) -> str:
        """Return Diffio's word for how far a generation is."""
        if self.now() < generation.over_at:
            return "processing"
        return "failed" if generation.fails else "complete"

    def _create_project(self, body: Mapping[str, Any]) -> Answer:
        project = Project(f"proj-{len(self.projects)}", body["fileName"])
        self.projects[project.project_id] = project
        return _json(
            {
                "apiProjectId": project.project_id,
                "upload": {
                    "uploadSessionId": f"api-{project.project_id}",
                    "edgeBaseUrl": f"{HOST}/edge/{project.project_id}",
                    "uploadToken": f"v1.{SECRET}{project.project_id}.signature0123456789",
                    "objectKey": f"api/{project.project_id}/original",
                    "partSizeBytes": PART_BYTES,
                    "maxBytes": 2**31,
                },
            }
        )

    def _complete_project_upload(self, project: Project | None) -> Answer:
        if project is None:
            return _json({"error": "API project not found."}, 404)
        if project.content is None:
            return _json({"error": "Upload has not completed yet.", "code": "UPLOAD_MISSING"}, 409)
        project.confirmed = True
        return _json(
            {"apiProjectId": project.project_id, "status": "uploaded", "sizeBytes": len(project.content)}
        )

    def _list_project_generations(self, project_id: str) -> Answer:
        if project_id not in self.projects:
            return _json({"error": "API project not found."}, 404)
        found = [
            {"generationId": each.generation_id, "status": self.status(each), "modelKey": each.model}
            for each in self.generations.values()
            if each.project.project_id == project_id
        ]
        return _json({"apiProjectId": project_id, "generations": found})

    def _create_generation(self, model: str, body: Mapping[str, Any]) -> Answer:
        project = self.projects.get(body["apiProjectId"])
        if project is None:
            return _json({"error": "API project not found."}, 404)
        if project.content is None:
            return _json({"error": "Upload the project file first.", "code": "UPLOAD_MISSING"}, 409)
        key = body.get("idempotencyKey")
        for generation in self.generations.values():
            if key is not None and (generation.key, generation.project) == (key, project):
                return _json({**self._started(generation), "idempotentReplay": True})
        seconds, fails = self.fates.pop(0) if self.fates else (30.0, False)
        request = json.dumps([model, body.get("sampling"), body.get("params")], sort_keys=True)
        generation = Generation(
            f"gen-{len(self.generations)}",
            project,
            model,
            key,
            request,
            self.asked_by,
            self.now() + seconds,
            fails,
        )
        self.generations[generation.generation_id] = generation
        return _json(self._started(generation))

    def _started(self, generation: Generation) -> dict[str, Any]:
        return {
            "generationId": generation.generation_id,
            "apiProjectId": generation.project.project_id,
            "modelKey": generation.model,
            "status": "queued",
        }

    def _edge(
        self, request: requests.PreparedRequest, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> Answer:
        project = self.projects[path.split("/")[2]]
        assert SECRET in request.headers["Authorization"]
        if path.endswith("/start"):
            project.parts.clear()
            return _json({"uploadId": "upload-1", "partSizeBytes": PART_BYTES})
        if part := re.search(r"/parts/(\d+)$", path):
            project.parts[int(part[1])] = body
            return _json({"partNumber": int(part[1]), "etag": hashlib.md5(body).hexdigest()})  # noqa: S324
        if path.endswith("/complete"):
            project.content = b"".join(project.parts[number] for number in sorted(project.parts))
            return _json({"objectKey": "key", "sizeBytes": len(project.content), "etag": "whole"})
        return _json({})

    def _media(self, path: str, headers: Mapping[str, str]) -> Answer:
        assert "Authorization" not in headers
        content = self.generations[path.split("/")[3]].restored
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        base = {"content-type": "audio/mpeg", "etag": etag}
        if begins := re.match(r"bytes=(\d+)-$", headers.get("Range", "")):
            start = int(begins[1])
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return 206, {**base, "content-range": span}, content[start:]
        return 200, base, content


def to_response(request: requests.PreparedRequest, answer: Answer, cut: int | None = None) -> Any:
    """Return an answer as ``requests`` does; ``cut`` bytes of the body arrive, then the connection breaks."""
    status, headers, body = answer
    raw = urllib3.HTTPResponse(
        body=io.BytesIO(body if cut is None else body[:cut]),
        status=status,
        headers={**headers, "content-length": str(len(body))},
        preload_content=False,
        enforce_content_length=True,
        request_method=request.method,
    )
    return requests.adapters.HTTPAdapter().build_response(request, raw)


def _json(value: Any, status: int = 200) -> Answer:
    return status, {"content-type": "application/json"}, json.dumps(value).encode()


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else bytes(body.read())
