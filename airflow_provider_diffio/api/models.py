"""
Diffio's responses as frozen dataclasses.

Names are snake_case; times are timezone-aware; status words are open strings, since Diffio may add one.
Secrets (tokens, signed links, plaintext keys) are fields that no ``repr`` shows.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_diffio.api.json_fields import JSONFields, presentable
from airflow_provider_diffio.api.results import Secret, Value, refuse_to_store

COMPLETE = "complete"
#: ``error`` is the word of webhooks; in a progress response it would mean the same.
FAILED_STATUSES = frozenset({"failed", "error"})

#: How a file may be sent to a signed URL; the contract knows PUT alone.
UPLOAD_METHODS = ("PUT", "POST")

#: Parameters of a signed URL that are credentials by themselves. The others are names and numbers, and
#: masking those would make logs unreadable.
_SIGNS = re.compile("sig|token|key|credential|policy|auth|secret|password", re.IGNORECASE).search
_SIGNATURE_LENGTH = 32


def secrets_of(result: object) -> list[str]:
    """Return the secrets that a response holds, in every form in which a log might show them."""
    if isinstance(result, CreatedProject):
        return secrets_of(result.upload)
    if isinstance(result, EdgeUpload):
        return [result.token]
    if isinstance(result, SignedPutUpload):
        return secrets_of_url(result.url)
    if isinstance(result, GenerationDownload):
        return secrets_of_url(result.download_url)
    if isinstance(result, ApiKey) and result.key:
        return [result.key]
    return []


def secrets_of_url(url: str) -> list[str]:
    """
    Return a signed URL, what a request line shows of it, and those of its parameters that may be signatures.

    The pieces of its path are not among them: they may be ids, which have to stay readable.

    :param url: the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    raw = [pair.partition("=")[::2] for pair in parts.query.split("&")]
    pairs = [*raw, *parse_qsl(parts.query)]
    signatures = [value for name, value in pairs if len(value) >= _SIGNATURE_LENGTH and _SIGNS(name)]
    # A bare "/" is no secret, and masking it would leave no log readable.
    return list(dict.fromkeys([url, *([target] if len(target) > 1 else []), *signatures]))


@dataclass(frozen=True)
class EdgeUpload(Secret):
    """An upload session of the edge protocol: parts, sent to another host under a token of its own."""

    instead: ClassVar[str] = "the project's id"

    session_id: str
    base_url: str
    token: str = field(repr=False)
    object_key: str
    part_size_bytes: int
    max_bytes: int
    expires_at: dt.datetime | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> EdgeUpload:
        return cls(
            session_id=fields.need_text("uploadSessionId"),
            base_url=fields.need_text("edgeBaseUrl").rstrip("/"),
            token=fields.need_text("uploadToken"),
            object_key=fields.need_text("objectKey"),
            part_size_bytes=fields.need_count("partSizeBytes"),
            max_bytes=fields.need_count("maxBytes"),
            expires_at=fields.time("expiresAt"),
        )


@dataclass(frozen=True)
class SignedPutUpload(Secret):
    """An upload of the signed-PUT protocol: one request to a URL that is itself the credential."""

    instead: ClassVar[str] = "the project's id"

    url: str = field(repr=False)
    method: str = "PUT"
    expires_at: dt.datetime | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> SignedPutUpload:
        method = (fields.text("uploadMethod") or "PUT").upper()
        if method not in UPLOAD_METHODS:
            raise fields.refuse("uploadMethod", " or ".join(UPLOAD_METHODS))
        return cls(
            url=fields.need_text("uploadUrl"),
            method=method,
            expires_at=fields.time("expiresAt"),
        )


@dataclass(frozen=True)
class CreatedProject(Secret):
    """
    The response of ``create_project``: a project without a file, and where to send the file.

    :ivar upload: :class:`EdgeUpload` or :class:`SignedPutUpload`, told apart by the response's shape.
    """

    instead: ClassVar[str] = "its api_project_id"

    api_project_id: str
    upload: EdgeUpload | SignedPutUpload
    object_path: str | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> CreatedProject:
        project_id = fields.need_text("apiProjectId")
        upload: EdgeUpload | SignedPutUpload
        if "uploadUrl" in fields.body and fields.object("upload") is None:
            upload = SignedPutUpload.read(fields)
        else:
            upload = EdgeUpload.read(fields.need_object("upload"))
        return cls(project_id, upload, fields.text("objectPath"))


@dataclass(frozen=True)
class EdgeUploadStart:
    """The response of the edge's ``start``. ``part_size_bytes`` outranks the session's when it is there."""

    upload_id: str
    part_size_bytes: int | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> EdgeUploadStart:
        size = fields.whole("partSizeBytes")
        return cls(fields.need_text("uploadId"), size if size and size > 0 else None)


@dataclass(frozen=True)
class EdgePart:
    """Receipt of one part."""

    etag: str

    @classmethod
    def read(cls, fields: JSONFields) -> EdgePart:
        return cls(fields.need_text("etag"))


@dataclass(frozen=True)
class EdgeUploadEnd:
    """The response of the edge's ``complete``: what is stored now."""

    size_bytes: int | None
    object_key: str | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> EdgeUploadEnd:
        return cls(fields.whole("sizeBytes"), fields.text("objectKey"))


@dataclass(frozen=True)
class UploadConfirmation(Value):
    """The response of ``complete_project_upload``."""

    api_project_id: str
    status: str
    size_bytes: int | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> UploadConfirmation:
        return cls(
            api_project_id=fields.need_text("apiProjectId"),
            status=fields.text("status") or "uploaded",
            size_bytes=fields.whole("sizeBytes"),
        )


@dataclass(frozen=True)
class Project(Value):
    """
    A project whose file has been uploaded and confirmed.

    :ivar api_project_id: Diffio's id.
    :ivar file_name: the name it was given at Diffio.
    :ivar content_type: the media type that was announced.
    :ivar size_bytes: bytes uploaded.
    :ivar status: Diffio's word for its state, ``uploaded`` after an upload.
    """

    api_project_id: str
    file_name: str
    content_type: str
    size_bytes: int
    status: str


@dataclass(frozen=True)
class Generation(Value):
    """
    The response of a generation's creation.

    :ivar generation_id: Diffio's id.
    :ivar api_project_id: the project's id.
    :ivar model: the model that it is made by.
    :ivar status: Diffio's word for its state, ``queued`` at first.
    :ivar idempotent_replay: True when the idempotency key was known and no new generation was started.
    """

    generation_id: str
    api_project_id: str
    model: str
    status: str
    idempotent_replay: bool = False

    def to_value(self) -> dict[str, Any]:
        """Return the *generation* value that flows through a DAG: plain JSON, no secrets."""
        return {
            "generation_id": self.generation_id,
            "api_project_id": self.api_project_id,
            "model": self.model,
            "status": self.status,
        }


@dataclass(frozen=True)
class Stage(Value):
    """One of the stages ``preProcessing``, ``inference`` and ``restoredVideo``."""

    status: str = "pending"
    progress: int = 0
    job_id: str | None = None
    job_state: str | None = None
    status_message: str | None = None
    error: str | None = None
    error_details: str | None = None

    @classmethod
    def read(cls, fields: JSONFields | None) -> Stage | None:
        if fields is None:
            return None
        return cls(
            status=fields.text("status") or "pending",
            progress=fields.whole("progress") or 0,
            job_id=fields.text("jobId"),
            job_state=fields.text("jobState"),
            status_message=fields.prose("statusMessage"),
            error=fields.prose("error"),
            error_details=fields.prose("errorDetails"),
        )


@dataclass(frozen=True)
class StageProgress(Value):
    """How far the current stage is; percent from 0 to 100, seconds of the recording. None is unknown."""

    overall_percent: float | None = None
    stage_percent: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    available_through_seconds: float | None = None
    duration_seconds: float | None = None

    @classmethod
    def read(cls, fields: JSONFields | None) -> StageProgress | None:
        if fields is None:
            return None
        return cls(
            overall_percent=fields.number("overallPercent"),
            stage_percent=fields.number("stagePercent"),
            bytes_done=fields.whole("bytesDone"),
            bytes_total=fields.whole("bytesTotal"),
            available_through_seconds=fields.number("availableThroughSeconds"),
            duration_seconds=fields.number("durationSeconds"),
        )


@dataclass(frozen=True)
class Queue(Value):
    """Where a waiting generation stands; None is unknown."""

    position: int | None = None
    connected_workers: int | None = None
    idle_workers: int | None = None
    busy_workers: int | None = None
    wait_reason: str | None = None
    message: str | None = None

    @classmethod
    def read(cls, fields: JSONFields | None) -> Queue | None:
        if fields is None:
            return None
        return cls(
            position=fields.whole("position"),
            connected_workers=fields.whole("connectedWorkers"),
            idle_workers=fields.whole("idleWorkers"),
            busy_workers=fields.whole("busyWorkers"),
            wait_reason=fields.prose("waitReason"),
            message=fields.prose("message"),
        )


@dataclass(frozen=True)
class GenerationProgress(Value):
    """
    The response of ``get_generation_progress``. The overall ``status`` alone decides whether it is over.

    :ivar status: ``queued``, ``processing``, ``complete`` or ``failed``; another word means *not over*.
    :ivar has_video: whether the recording has a picture; None when Diffio does not say.
    :ivar stage: what is being done now.
    :ivar stage_progress: how far that is.
    :ivar queue: the place in the queue, while it waits there.
    :ivar transcription: ``pending``, ``available``, ``unavailable``, or None when Diffio does not say.
    :ivar error: Diffio's own text, when it failed.
    :ivar error_details: more of it.
    """

    generation_id: str
    api_project_id: str | None
    status: str
    has_video: bool | None = None
    stage: str | None = None
    stage_progress: StageProgress | None = None
    queue: Queue | None = None
    transcription: str | None = None
    error: str | None = None
    error_details: str | None = None
    pre_processing: Stage | None = None
    inference: Stage | None = None
    restored_video: Stage | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> GenerationProgress:
        transcription = fields.object("transcription")
        return cls(
            generation_id=fields.need_text("generationId"),
            api_project_id=fields.text("apiProjectId"),
            status=fields.need_text("status"),
            has_video=fields.flag("hasVideo"),
            stage=fields.text("stage"),
            stage_progress=StageProgress.read(fields.object("stageProgress")),
            queue=Queue.read(fields.object("queue")),
            transcription=transcription.text("status") if transcription else None,
            error=fields.prose("error"),
            error_details=fields.prose("errorDetails"),
            pre_processing=Stage.read(fields.object("preProcessing")),
            inference=Stage.read(fields.object("inference")),
            restored_video=Stage.read(fields.object("restoredVideo")),
        )

    @classmethod
    def read_briefly(cls, fields: JSONFields) -> GenerationProgress:
        """
        Read what a wait goes by: how it stands, how far it is, its place in the queue.

        A triggerer reads hundreds of responses a second, and most of a response is about single stages.
        """
        stage_progress = fields.object("stageProgress")
        percent = stage_progress.number("overallPercent") if stage_progress else None
        return cls(
            generation_id=fields.need_text("generationId"),
            api_project_id=fields.text("apiProjectId"),
            status=fields.need_text("status"),
            stage=fields.text("stage"),
            stage_progress=None if percent is None else StageProgress(percent),
            queue=Queue.read(fields.object("queue")),
            error=fields.prose("error"),
            error_details=fields.prose("errorDetails"),
            inference=Stage.read(fields.object("inference")) if percent is None else None,
        )

    @property
    def is_complete(self) -> bool:
        """Whether it is over, and restored."""
        return self.status == COMPLETE

    @property
    def is_failed(self) -> bool:
        """Whether it is over, and not restored."""
        return self.status in FAILED_STATUSES

    @property
    def percent(self) -> float | None:
        """Overall progress in percent, where Diffio says: from ``stageProgress``, else from the stages."""
        if self.stage_progress and self.stage_progress.overall_percent is not None:
            return self.stage_progress.overall_percent
        if self.inference and self.inference.progress:
            return float(self.inference.progress)
        return None

    def describe(self) -> str:
        """Return one line for a log: status, stage, percent, place in the queue."""
        parts = [self.status]
        if self.stage and self.stage != self.status:
            parts.append(f"stage {self.stage}")
        if self.percent is not None:
            parts.append(f"{self.percent:.0f} %")
        if self.queue and not self.is_complete:
            if self.queue.message:
                parts.append(self.queue.message)
            elif self.queue.position is not None:
                parts.append(f"position {self.queue.position} in the queue")
        return presentable(", ".join(parts))

    def failure(self) -> str:
        """Return what Diffio says about a failure, as one line; empty when it says nothing."""
        said = [presentable(part).rstrip(".") for part in (self.error, self.error_details) if part]
        return ": ".join(said)


@dataclass(frozen=True)
class GenerationDownload(Secret):
    """The response of ``get_generation_download``: a link that is itself the credential, valid for hours."""

    instead: ClassVar[str] = "generation_id and api_project_id, or what DiffioHook.download() returns,"

    generation_id: str
    api_project_id: str
    download_type: str
    download_url: str = field(repr=False)
    file_name: str | None = None
    mime_type: str | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> GenerationDownload:
        return cls(
            generation_id=fields.need_text("generationId"),
            api_project_id=fields.need_text("apiProjectId"),
            download_type=fields.need_text("downloadType"),
            download_url=fields.need_text("downloadUrl"),
            file_name=fields.text("fileName"),
            mime_type=fields.text("mimeType"),
        )


@dataclass(frozen=True)
class ProjectSummary(Value):
    """One project of ``list_projects``."""

    api_project_id: str
    status: str | None = None
    original_file_name: str | None = None
    content_type: str | None = None
    has_video: bool | None = None
    generation_count: int | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> ProjectSummary:
        return cls(
            api_project_id=fields.need_text("apiProjectId"),
            status=fields.text("status"),
            original_file_name=fields.text("originalFileName"),
            content_type=fields.text("contentType"),
            has_video=fields.flag("hasVideo"),
            generation_count=fields.whole("generationCount"),
            created_at=fields.time("createdAt"),
            updated_at=fields.time("updatedAt"),
        )


@dataclass(frozen=True)
class GenerationSummary(Value):
    """One generation of ``list_project_generations``."""

    generation_id: str
    status: str
    model: str | None = None
    progress: float | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> GenerationSummary:
        return cls(
            generation_id=fields.need_text("generationId"),
            status=fields.text("status") or "queued",
            model=fields.text("modelKey"),
            progress=fields.number("progress"),
            created_at=fields.time("createdAt"),
            updated_at=fields.time("updatedAt"),
        )


@dataclass(frozen=True)
class AccountSettings(Value):
    """The response of the account settings endpoints. ``billing_policy`` is passed on as Diffio sent it."""

    api_key_id: str | None
    user_id: str | None = None
    billing_mode: str | None = None
    billing_status: str | None = None
    billing_policy: Mapping[str, Any] = field(default_factory=dict)
    currency: str | None = None
    updated_at: dt.datetime | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> AccountSettings:
        account = fields.need_object("account")
        return cls(
            api_key_id=fields.text("apiKeyId"),
            user_id=account.text("userId"),
            billing_mode=account.text("billingMode"),
            billing_status=account.text("billingStatus"),
            billing_policy=account.plain("billingPolicy"),
            currency=account.text("currency"),
            updated_at=account.time("updatedAt"),
        )


@dataclass(frozen=True)
class ApiKey(Value):
    """
    An API key of the account. With a plaintext it cannot be returned from a task.

    :ivar key: the plaintext key, which Diffio shows once, at creation and at rotation; None otherwise.
    """

    key_id: str
    label: str | None = None
    status: str | None = None
    key_prefix: str | None = None
    role: str | None = None
    scopes: tuple[str, ...] = ()
    resource_bounds: Mapping[str, Any] = field(default_factory=dict)
    parent_key_id: str | None = None
    created_at: dt.datetime | None = None
    rotated_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, fields: JSONFields) -> ApiKey:
        return cls(
            key_id=fields.need_text("keyId"),
            label=fields.text("label"),
            status=fields.text("status"),
            key_prefix=fields.text("keyPrefix"),
            role=fields.text("role"),
            scopes=fields.texts("scopes"),
            resource_bounds=fields.plain("resourceBounds"),
            parent_key_id=fields.text("parentKeyId"),
            created_at=fields.time("createdAt"),
            rotated_at=fields.time("rotatedAt"),
            revoked_at=fields.time("revokedAt"),
            key=fields.text("key"),
        )

    @classmethod
    def read_with_secret(cls, fields: JSONFields) -> ApiKey:
        """Read the response of a creation or rotation, which is useless without the plaintext key."""
        fields.need_text("key")
        return cls.read(fields)

    def to_value(self) -> dict[str, Any]:
        """Return the fields but for the plaintext."""
        return {name: value for name, value in super().to_value().items() if name != "key"}

    def items(self) -> Any:
        """Return the fields but for the plaintext. With one, refuse: Airflow stores by this method."""
        if self.key:
            refuse_to_store(self, "its key_id")
        return super().items()


@dataclass(frozen=True)
class UsagePeriod(Value):
    """
    What one API key used in one billing period.

    :ivar reserved_cents: as Diffio counts them.
    :ivar finalized_cents: as Diffio counts them.
    :ivar total_cents: as Diffio counts them.
    :ivar model_seconds: seconds by model.
    :ivar model_cents: cents by model.
    """

    period_id: str | None
    reserved_cents: float | None = None
    finalized_cents: float | None = None
    total_cents: float | None = None
    model_seconds: Mapping[str, Any] = field(default_factory=dict)
    model_cents: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, fields: JSONFields) -> UsagePeriod:
        return cls(
            period_id=fields.text("periodId"),
            reserved_cents=fields.number("reservedCents"),
            finalized_cents=fields.number("finalizedCents"),
            total_cents=fields.number("totalCents"),
            model_seconds=fields.plain("modelSeconds"),
            model_cents=fields.plain("modelCents"),
        )


@dataclass(frozen=True)
class UsageSummary(Value):
    """The response of ``usage/summary``, newest period first. ``billing`` is passed on as Diffio sent it."""

    api_key_id: str | None
    periods: tuple[UsagePeriod, ...]
    billing: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, fields: JSONFields) -> UsageSummary:
        usage = fields.need_object("usage")
        return cls(
            api_key_id=usage.text("apiKeyId"),
            periods=usage.need_objects("periods", UsagePeriod.read),
            billing=fields.plain("billing"),
        )


@dataclass(frozen=True)
class WebhookConfiguration(Value):
    """The response of ``webhooks/configure``. It lacks the signing secret, which Diffio's dashboard shows."""

    api_key_id: str | None
    mode: str | None
    url: str | None
    event_types: tuple[str, ...]
    endpoint_id: str | None = None
    signing: str | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> WebhookConfiguration:
        webhook = fields.need_object("webhook")
        return cls(
            api_key_id=webhook.text("apiKeyId"),
            mode=webhook.text("mode"),
            url=webhook.text("url"),
            event_types=webhook.texts("eventTypes"),
            endpoint_id=webhook.text("endpointId"),
            signing=webhook.text("signing"),
        )


@dataclass(frozen=True)
class WebhookTestEvent(Value):
    """The response of ``webhooks/send_test_event``."""

    svix_message_id: str | None
    event_id: str | None
    event_type: str | None
    mode: str | None
    api_key_id: str | None = None

    @classmethod
    def read(cls, fields: JSONFields) -> WebhookTestEvent:
        return cls(
            svix_message_id=fields.text("svixMessageId"),
            event_id=fields.text("eventId"),
            event_type=fields.text("eventType"),
            mode=fields.text("mode"),
            api_key_id=fields.text("apiKeyId"),
        )


@dataclass(frozen=True)
class WebhookEvent(Value):
    """
    A verified webhook delivery.

    :ivar message_id: Svix's id of the delivery, the same on every redelivery.
    :ivar status: ``queued``, ``processing``, ``error`` or ``complete`` (webhooks say ``error`` where
        progress says ``failed``).
    """

    message_id: str
    event_id: str
    event_type: str
    created_at: dt.datetime | None
    api_key_id: str
    generation_id: str
    status: str
    api_project_id: str | None = None
    has_video: bool | None = None
    model: str | None = None
    error: str | None = None
    error_details: str | None = None
    transcription: str | None = None

    @classmethod
    def read(cls, fields: JSONFields, message_id: str) -> WebhookEvent:
        transcription = fields.object("transcription")
        return cls(
            message_id=message_id,
            event_id=fields.need_text("eventId"),
            event_type=fields.need_text("eventType"),
            created_at=fields.time("createdAt"),
            api_key_id=fields.need_text("apiKeyId"),
            generation_id=fields.need_text("generationId"),
            status=fields.need_text("status"),
            api_project_id=fields.text("apiProjectId"),
            has_video=fields.flag("hasVideo"),
            model=fields.text("modelKey"),
            error=fields.prose("error"),
            error_details=fields.prose("errorDetails"),
            transcription=transcription.text("status") if transcription else None,
        )


@dataclass(frozen=True)
class DownloadedFile(Value):
    """
    A restored file that has been written whole.

    :ivar path: where it is: a local path, or a URI without credentials.
    :ivar size_bytes: its length.
    :ivar sha256: its digest, in hexadecimal.
    :ivar mime_type: its media type as Diffio names it.
    :ivar file_name: its name at Diffio, reduced to a safe base name.
    :ivar download_type: ``audio``, ``video`` or ``transcript``.
    """

    path: str
    size_bytes: int
    sha256: str
    mime_type: str | None
    file_name: str
    download_type: str
    generation_id: str
    api_project_id: str
