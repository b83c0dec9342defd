"""The sandbox's state: projects, uploads, generations, links. In memory; bytes are on disk."""

from __future__ import annotations

import secrets
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_diffio.sandbox.contract import GENERATION_NOT_FOUND, PROJECT_NOT_FOUND, ApiError
from airflow_provider_diffio.sandbox.keys import ApiKey

_OUT_OF_BOUNDS = "API key is limited to other projects."


def iso(moment: float) -> str:
    """A time as the API writes it: ISO 8601 in UTC with a Z."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Part:
    """One received part of a multipart upload."""

    size: int
    etag: str


@dataclass(frozen=True)
class StoredObject:
    """A finished upload."""

    path: Path
    size: int
    etag: str


@dataclass
class MultipartUpload:
    """One ``start``: parts are written into a single file, each at its own offset."""

    upload_id: str
    path: Path
    parts: dict[int, Part] = field(default_factory=dict)
    finished: dict[str, Any] | None = None


@dataclass
class Project:
    """One recording and its upload."""

    project_id: str
    key_id: str
    file_name: str
    content_type: str
    params: dict[str, Any]
    object_path: str
    upload_token: str
    token_expires: float
    folder: Path
    has_video: bool
    created: float
    updated: float
    status: str = "uploading"
    stored: StoredObject | None = None
    uploads: dict[str, MultipartUpload] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    #: idempotency key -> the generation it made
    replays: dict[str, Generation] = field(default_factory=dict)

    @property
    def open_uploads(self) -> int:
        """Multipart uploads that were started and neither finished nor aborted."""
        return sum(upload.finished is None for upload in self.uploads.values())


@dataclass(frozen=True)
class Asset:
    """A file that can be downloaded."""

    path: Path
    file_name: str
    mime_type: str
    storage_path: str


@dataclass(frozen=True)
class Plan:
    """What faults have in store for one generation."""

    processing_seconds: float
    error: str | None = None
    error_details: str | None = None
    transcript_delay: float = 0.0
    transcript_unavailable: bool = False
    artifact_delay: float = 0.0
    artifact_status: int = 409


@dataclass
class Generation:
    """One restoration of a project's recording; what a bill would list."""

    generation_id: str
    project: Project
    #: The key that started it, which is billed for it and whose webhooks hear of it.
    key_id: str
    model: str
    idempotency_key: str | None
    sampling: dict[str, Any] | None
    params: dict[str, Any] | None
    plan: Plan
    folder: Path
    created: float
    updated: float
    status: str = "queued"
    started: float | None = None
    finished: float | None = None
    has_video: bool = False
    duration: float | None = None
    error: str | None = None
    error_details: str | None = None
    #: Why there is no video although the recording has pictures.
    video_error: str | None = None
    assets: dict[str, Asset] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """Whether its status can still change."""
        return self.finished is not None


@dataclass(frozen=True)
class Link:
    """One signed download address."""

    asset: Asset
    expires: float


class State:
    """Everything the sandbox knows. Only the event loop's thread touches it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects: dict[str, Project] = {}
        self.generations: dict[str, Generation] = {}
        self.links: dict[str, Link] = {}
        self._by_token: dict[str, Project] = {}

    def add_project(
        self,
        key: ApiKey,
        *,
        file_name: str,
        content_type: str,
        params: dict[str, Any],
        token_life: float,
    ) -> Project:
        """Add a new project that waits for its upload."""
        if key.is_bound:
            raise ApiError(403, _OUT_OF_BOUNDS)
        project_id = str(uuid.uuid4())
        folder = self.root / "projects" / project_id
        folder.mkdir(parents=True)
        now = time.time()
        project = Project(
            project_id=project_id,
            key_id=key.key_id,
            file_name=file_name,
            content_type=content_type,
            params=params,
            object_path=f"api/users/user-sandbox/projects/{project_id}/original/{safe_name(file_name)}",
            upload_token=f"v1.{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(16)}",
            token_expires=now + token_life,
            folder=folder,
            has_video=content_type.startswith("video/"),
            created=now,
            updated=now,
        )
        self.projects[project_id] = project
        self._by_token[project.upload_token] = project
        return project

    def project(self, project_id: str, key: ApiKey) -> Project:
        """The project with that id, if it is the key's own."""
        project = self.projects.get(project_id)
        if project is None:
            raise ApiError(404, PROJECT_NOT_FOUND)
        if not key.may_use(project.project_id, project.key_id):
            raise ApiError(403, _OUT_OF_BOUNDS if key.is_bound else "API project belongs to another API key.")
        return project

    def project_of_token(self, token: str) -> Project | None:
        """The project whose upload a token authorizes."""
        return self._by_token.get(token)

    def generation(self, generation_id: str, key: ApiKey, project_id: str | None = None) -> Generation:
        """The generation with that id, if it is the key's own and of that project."""
        generation = self.generations.get(generation_id)
        if generation is None or (project_id is not None and generation.project.project_id != project_id):
            raise ApiError(404, GENERATION_NOT_FOUND)
        project = generation.project
        if not key.may_use(project.project_id, project.key_id):
            raise ApiError(403, _OUT_OF_BOUNDS if key.is_bound else "Generation belongs to another API key.")
        return generation

    def projects_of(self, key: ApiKey) -> Iterator[Project]:
        """The projects within a key's reach, oldest first."""
        return (
            project for project in self.projects.values() if key.may_use(project.project_id, project.key_id)
        )

    def clear(self) -> None:
        """Forget everything and delete the files."""
        self.projects.clear()
        self.generations.clear()
        self.links.clear()
        self._by_token.clear()
        shutil.rmtree(self.root / "projects", ignore_errors=True)


def safe_name(file_name: str) -> str:
    """A name that can be part of a path: the base name without control characters."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(character for character in base if character.isprintable()).strip(". ")
    return kept or "upload"
