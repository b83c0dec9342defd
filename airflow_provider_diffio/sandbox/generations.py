"""Generations: start one, watch it, fetch the result."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from airflow_provider_diffio.sandbox.api import Endpoint
from airflow_provider_diffio.sandbox.contract import (
    CURRENT_MODELS,
    DOWNLOAD_TYPES,
    MAX_IDEMPOTENCY_KEY,
    SIGNED_PUT_MODELS,
    SUCCESSORS,
    ApiError,
    JSONObject,
    model_of_path,
    model_retired,
    optional_object,
    optional_string,
    string_field,
)
from airflow_provider_diffio.sandbox.faults import FaultBook
from airflow_provider_diffio.sandbox.jobs import RestorationError, Restored
from airflow_provider_diffio.sandbox.keys import ApiKey
from airflow_provider_diffio.sandbox.ledger import bill
from airflow_provider_diffio.sandbox.lifecycle import (
    QUEUED_SHARE,
    moment,
    percent,
    progress_body,
    transcription_status,
)
from airflow_provider_diffio.sandbox.projects import BUCKET
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import Generation, Link, Project, State, iso

#: Seconds that a poll waits at most for a generation that takes no time.
_AT_ONCE = 2.0


class Restorer(Protocol):
    """Whoever does the work on the recording."""

    async def restore(self, generation: Generation) -> Restored:
        """The finished files, or a RestorationError."""


class Generations:
    """The endpoints about generations, and the life each one leads between two requests."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        faults: FaultBook,
        restorer: Restorer,
        media_url: Callable[[], str],
        on_status: Callable[[Generation], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._faults = faults
        self._restorer = restorer
        self._media_url = media_url
        self._on_status = on_status
        self._edge = settings.protocol == "edge"
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._ready: set[str] = set()
        self._order: dict[str, int] = {}
        self._left_queue = 0

    def endpoints(self) -> dict[str, Endpoint]:
        """What is served besides the model paths."""
        return {
            "get_generation_progress": Endpoint("generations:read", self.progress),
            "get_generation_download": Endpoint("artifacts:read", self.download),
            "list_project_generations": Endpoint("generations:read", self.list),
        }

    def endpoint_of_model(self, path: str) -> Endpoint | None:
        """What serves ``{model}-generation``: the start of one, or the 410 of a retired model."""
        model = model_of_path(path)
        if self._settings.accept_4_5 and model is not None:
            model = SUCCESSORS.get(model, model)
        if model is None or (not self._edge and model not in SIGNED_PUT_MODELS):
            return None
        handler = self.create if not self._edge or model in CURRENT_MODELS else _refuse_retired
        return Endpoint("generations:write", partial(handler, model))

    async def create(self, model: str, key: ApiKey, body: JSONObject) -> JSONObject:
        """Start a generation, or find the one that the same idempotency key started before."""
        project_id = string_field(body, "apiProjectId")
        sampling = optional_object(body, "sampling")
        params = optional_object(body, "params")
        idempotency_key = _idempotency_key(body)
        project = self._state.project(project_id, key)
        if project.stored is None:
            raise ApiError(409, "Upload the project file before creating a generation.", "UPLOAD_MISSING")
        known = project.replays.get(idempotency_key) if idempotency_key is not None else None
        if known is not None:
            if known.model != model:
                raise ApiError(
                    409,
                    "idempotencyKey was already used for another model in this project.",
                    "idempotencyKeyConflict",
                )
            return {**_created(known), "idempotentReplay": True}
        return _created(self._begin(key, project, model, idempotency_key, sampling, params))

    async def progress(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """Where a generation is."""
        generation_id = string_field(body, "generationId")
        generation = self._state.generation(generation_id, key, optional_string(body, "apiProjectId"))
        await self._let_end(generation)
        ahead = max(0, self._order[generation_id] - self._left_queue)
        return progress_body(
            generation,
            time.time(),
            edge=self._edge,
            result_ready=generation_id in self._ready,
            queue=(ahead, self._settings.workers),
        )

    async def _let_end(self, generation: Generation) -> None:
        """Let what takes no time be over when somebody asks: the next poll is seconds away, in every test."""
        life = self._lives.get(generation.generation_id)
        if (
            life is not None
            and self._settings.engine == "passthrough"
            and not generation.plan.processing_seconds
        ):
            await asyncio.wait({life}, timeout=_AT_ONCE)

    async def list(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """A project's generations, oldest first."""
        project = self._state.project(string_field(body, "apiProjectId"), key)
        now = time.time()
        return {
            "apiProjectId": project.project_id,
            "generations": [
                {
                    "generationId": generation.generation_id,
                    "status": generation.status,
                    "modelKey": generation.model,
                    "progress": percent(
                        generation, now, result_ready=generation.generation_id in self._ready
                    ),
                    "createdAt": iso(generation.created),
                    "updatedAt": iso(generation.updated),
                }
                for generation in project.generations
            ],
        }

    async def download(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """A link to one of the results; each call makes a new one."""
        generation_id, project_id = string_field(body, "generationId"), string_field(body, "apiProjectId")
        wanted = optional_string(body, "downloadType")
        if wanted is not None and wanted not in DOWNLOAD_TYPES:
            raise ApiError(400, "downloadType must be audio, video, or transcript.")
        generation = self._state.generation(generation_id, key, project_id)
        download_type = wanted or ("video" if generation.has_video else "audio")
        self._require_available(generation, download_type)
        asset = generation.assets[download_type]
        token = f"v1.{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(16)}"
        self._state.links[token] = Link(asset, time.time() + self._settings.link_life)
        relative = f"generations/{generation_id}/{asset.path.name}"
        response = {
            "generationId": generation_id,
            "apiProjectId": project_id,
            "downloadType": download_type,
            "downloadUrl": (
                f"{self._media_url()}/m/{token}/{quote(relative)}?download={quote(asset.file_name, safe='')}"
            ),
            "fileName": asset.file_name,
            "storagePath": asset.storage_path,
            "mimeType": asset.mime_type,
        }
        return response if self._edge else {**response, "bucket": BUCKET}

    def describe(self, count: int) -> Sequence[JSONObject]:
        """The newest projects with their generations, newest first, for the page."""
        newest = list(self._state.projects.values())[: -count - 1 : -1]
        return [
            {
                "apiProjectId": project.project_id,
                "fileName": project.file_name,
                "contentType": project.content_type,
                "status": project.status,
                "sizeBytes": None if project.stored is None else project.stored.size,
                "createdAt": iso(project.created),
                "generations": [self._described(generation) for generation in project.generations[-count:]],
            }
            for project in newest
        ]

    def _described(self, generation: Generation) -> JSONObject:
        at = moment(generation, time.time(), result_ready=generation.generation_id in self._ready)
        share = bill(generation)
        return {
            "generationId": generation.generation_id,
            "model": generation.model,
            "status": generation.status,
            "stage": at.stage,
            "percent": int(at.overall * 100),
            "error": generation.error or generation.video_error,
            "errorDetails": generation.error_details,
            "billedSeconds": share.seconds,
            "billedCents": share.cents,
            "durationSeconds": generation.duration,
            "hasVideo": generation.has_video,
            "results": sorted(generation.assets) if generation.status == "complete" else [],
            "createdAt": iso(generation.created),
        }

    async def clear(self) -> None:
        """End every life; called when the state is cleared and at the end."""
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        self._lives.clear()
        self._ready.clear()
        self._order.clear()
        self._left_queue = 0

    def _begin(
        self,
        key: ApiKey,
        project: Project,
        model: str,
        idempotency_key: str | None,
        sampling: dict[str, Any] | None,
        params: dict[str, Any] | None,
    ) -> Generation:
        generation_id = str(uuid.uuid4())
        folder = project.folder / "generations" / generation_id
        folder.mkdir(parents=True)
        now = time.time()
        generation = Generation(
            generation_id=generation_id,
            project=project,
            key_id=key.key_id,
            model=model,
            idempotency_key=idempotency_key,
            sampling=sampling,
            params=params,
            plan=self._faults.plan(self._settings.processing_seconds),
            folder=folder,
            created=now,
            updated=now,
            has_video=project.has_video,
        )
        project.generations.append(generation)
        if idempotency_key is not None:
            project.replays[idempotency_key] = generation
        self._order[generation_id] = len(self._order)
        self._state.generations[generation_id] = generation
        self._on_status(generation)
        life = asyncio.create_task(self._live(generation))
        self._lives[generation_id] = life
        life.add_done_callback(lambda _: self._lives.pop(generation_id, None))
        return generation

    async def _live(self, generation: Generation) -> None:
        """From queued to the end: over when the set time has passed and the result exists."""
        total = generation.plan.processing_seconds
        work = asyncio.create_task(self._work(generation))
        try:
            await asyncio.sleep(total * QUEUED_SHARE)
            self._left_queue += 1
            generation.started = time.time()
            self._change(generation, "processing")
            await asyncio.sleep(max(0.0, generation.created + total - time.time()))
            await work
            status = "complete"
            generation.project.status = "complete"
            generation.project.updated = time.time()
        except RestorationError as error:
            generation.error, generation.error_details = error.message, error.details
            status = "failed"
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, RestorationError):
                await work
        generation.finished = time.time()
        self._change(generation, status)

    async def _work(self, generation: Generation) -> None:
        plan = generation.plan
        if plan.error is not None:
            raise RestorationError(plan.error, plan.error_details)
        restored = await self._restorer.restore(generation)
        generation.duration = restored.duration
        generation.has_video = generation.project.has_video = restored.has_video
        generation.video_error = restored.video_error
        generation.assets = restored.assets
        self._ready.add(generation.generation_id)

    def _change(self, generation: Generation, status: str) -> None:
        generation.status = status
        generation.updated = time.time()
        self._on_status(generation)

    def _require_available(self, generation: Generation, download_type: str) -> None:
        if download_type == "video" and not generation.has_video:
            raise ApiError(400, "downloadType video is only available for video projects.")
        if generation.status != "complete" or generation.finished is None:
            raise ApiError(409, "Generation is not complete.")
        if download_type == "video" and generation.video_error is not None:
            raise ApiError(409, "Restored video job has not succeeded.")
        now = time.time()
        if download_type == "transcript":
            status = transcription_status(generation, now)
            transcription = {"status": status}
            if status == "pending":
                raise ApiError(
                    409, "Transcript is not ready yet.", "TRANSCRIPT_PENDING", transcription=transcription
                )
            if status == "unavailable":
                raise ApiError(
                    404, "Transcript is unavailable.", "TRANSCRIPT_UNAVAILABLE", transcription=transcription
                )
        if now < generation.finished + generation.plan.artifact_delay:
            if generation.plan.artifact_status == 404:
                raise ApiError(404, f"Restored {download_type} file not found.")
            raise ApiError(409, "Generation is not marked complete.")


async def _refuse_retired(model: str, _key: ApiKey, _body: JSONObject) -> JSONObject:
    raise model_retired(model)


def _idempotency_key(body: JSONObject) -> str | None:
    value = optional_string(body, "idempotencyKey")
    if value is None:
        return None
    trimmed = value.strip()
    if not 1 <= len(trimmed) <= MAX_IDEMPOTENCY_KEY:
        raise ApiError(400, f"idempotencyKey must be 1 to {MAX_IDEMPOTENCY_KEY} characters.")
    return trimmed


def _created(generation: Generation) -> JSONObject:
    return {
        "generationId": generation.generation_id,
        "apiProjectId": generation.project.project_id,
        "modelKey": generation.model,
        "status": generation.status,
    }
