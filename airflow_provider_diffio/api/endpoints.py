"""
Every endpoint of Diffio, stated once as data: path, body, result, and whether it may be sent again.

A function here makes a :class:`Call`; the two clients only carry it. Bad input raises
:class:`~airflow_provider_diffio.api.errors.DiffioInputError` here, before a byte is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from airflow_provider_diffio.api import models
from airflow_provider_diffio.api.defaults import DEFAULT_MODEL as DEFAULT_MODEL
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.json_fields import JSONFields

T = TypeVar("T")

DOWNLOAD_TYPES = ("audio", "video", "transcript")
#: The official SDK's second name for ``audio``, which is always an mp3.
DOWNLOAD_TYPE_ALIASES = {"mp3": "audio"}
#: What Diffio chooses between when a call names no type.
DEFAULT_DOWNLOAD_TYPES = ("audio", "video")
WEBHOOK_EVENT_TYPES = (
    "generation.queued",
    "generation.processing",
    "generation.failed",
    "generation.completed",
)
WEBHOOK_MODES = ("test", "live")
IDEMPOTENCY_KEY_LENGTH = 255
API_KEY_LABEL_LENGTH = 80

#: What a response may have at most, in bytes.
MAX_RESPONSE_BYTES = 1024 * 1024
#: The same for a progress response: a triggerer reads hundreds of them a second, and its loop stands still
#: while it decodes one.
MAX_PROGRESS_BYTES = 256 * 1024
#: The same for a list. Diffio has no pagination, and each project takes about 350 bytes.
MAX_LIST_BYTES = 128 * 1024 * 1024
#: How many times the timeout of a single read a whole list may take.
_LIST_PATIENCE = 10.0

#: Models whose path is not their own name.
_MODEL_PATHS = {"diffio-2": "diffio-2.0", "diffio-2-flash": "diffio-2.0-flash", "diffio-3": "diffio-3.0"}


class Body(Protocol):
    """A request body that is read in blocks, knows its length, and starts over at ``seek(0)``."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class Call(Generic[T]):
    """
    One call of an endpoint, not yet sent.

    :ivar path: path below the base URL.
    :ivar body: the JSON object to send.
    :ivar read: makes the result from the response.
    :ivar repeatable: whether sending it twice does no harm.
    :ivar may_bill: whether it may create something that is billed.
    :ivar max_bytes: bytes that its response may have. No response of the contract comes near this size; a
        bigger body comes from another service or an attacker.
    :ivar patience: how many times the timeout of a single read the whole response may take.
    :ivar project_id: for messages.
    :ivar generation_id: for messages.
    :ivar model: the model that it asks for, for messages.
    """

    path: str
    read: Callable[[JSONFields], T]
    body: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = True
    may_bill: bool = False
    max_bytes: int = MAX_RESPONSE_BYTES
    patience: float = 2.0
    project_id: str | None = None
    generation_id: str | None = None
    model: str | None = None

    @property
    def name(self) -> str:
        return self.path

    @cached_property
    def content(self) -> bytes:
        """The body as it is sent. Made once, since a waiting trigger sends the same call for hours."""
        return json.dumps(self.body).encode()


@dataclass(frozen=True)
class EdgeCall(Generic[T]):
    """One call of the edge upload API: another host, the session's token as its only credential."""

    session: models.EdgeUpload
    action: str
    read: Callable[[JSONFields], T]
    method: str = "POST"
    content: bytes | Body = b""
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    max_bytes: int = MAX_RESPONSE_BYTES
    patience: float = 2.0

    @property
    def url(self) -> str:
        return f"{self.session.base_url}/v1/uploads/{self.action}"

    @property
    def name(self) -> str:
        return f"uploads/{self.action}"


# --- projects ------------------------------------------------------------------------------------------


def create_project(
    file_name: str,
    *,
    content_type: str,
    content_length: int,
    file_format: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Call[models.CreatedProject]:
    """
    Announce a file and learn where to send it.

    Not idempotent: Diffio has no key for it. A second attempt after a lost response leaves a project in the
    state ``uploading`` behind, which is not billed and cannot be deleted; so it is repeatable in the sense
    that nothing is paid twice.
    """
    body: dict[str, Any] = {
        "fileName": _text(file_name, "file_name"),
        "contentType": _media_type(content_type),
        "contentLength": _count(content_length, "content_length"),
    }
    if file_format is not None:
        body["fileFormat"] = _text(file_format, "file_format")
    if params is not None:
        body["params"] = _json_object(params, "params")
    return Call("create_project", models.CreatedProject.read, body)


def complete_project_upload(project_id: str) -> Call[models.UploadConfirmation]:
    """Confirm that the file arrived, which starts preprocessing. Idempotent."""

    def read(fields: JSONFields) -> models.UploadConfirmation:
        confirmation = models.UploadConfirmation.read(fields)
        fields.need_same("apiProjectId", confirmation.api_project_id, project_id)
        return confirmation

    return _about_project("complete_project_upload", project_id, read)


def list_projects() -> Call[tuple[models.ProjectSummary, ...]]:
    """List the projects of the calling API key. There is no pagination."""
    return Call(
        "list_projects",
        _objects("projects", models.ProjectSummary.read),
        max_bytes=MAX_LIST_BYTES,
        patience=_LIST_PATIENCE,
    )


def list_project_generations(project_id: str) -> Call[tuple[models.GenerationSummary, ...]]:
    """List the generations of one project. There is no pagination."""

    def read(fields: JSONFields) -> tuple[models.GenerationSummary, ...]:
        fields.need_same("apiProjectId", fields.text("apiProjectId"), project_id)
        return fields.need_objects("generations", models.GenerationSummary.read)

    return replace(
        _about_project("list_project_generations", project_id, read),
        max_bytes=MAX_LIST_BYTES,
        patience=_LIST_PATIENCE,
    )


# --- generations ---------------------------------------------------------------------------------------


def create_generation(
    project_id: str,
    *,
    model: str = DEFAULT_MODEL,
    sampling: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Generation]:
    """
    Start a generation, which is billed. Sent again only under an idempotency key, which Diffio scopes to the
    project.

    The model is part of the path; any model id is accepted here, since Diffio decides which it offers.
    """
    model = check_model(model)
    options = check_generation(model=model, sampling=sampling, params=params, idempotency_key=idempotency_key)
    body = {"apiProjectId": _text(project_id, "project_id"), **options}

    def read(fields: JSONFields) -> models.Generation:
        fields.need_same("apiProjectId", fields.text("apiProjectId"), project_id)
        return models.Generation(
            generation_id=fields.need_text("generationId"),
            api_project_id=fields.text("apiProjectId") or project_id,
            model=fields.text("modelKey") or model,
            status=fields.text("status") or "queued",
            idempotent_replay=fields.flag("idempotentReplay") is True,
        )

    return Call(
        f"{quote(_MODEL_PATHS.get(model, model), safe='')}-generation",
        read,
        body,
        repeatable=idempotency_key is not None,
        may_bill=True,
        project_id=project_id,
        model=model,
    )


def check_generation(
    *,
    model: str,
    sampling: Mapping[str, Any] | None,
    params: Mapping[str, Any] | None,
    idempotency_key: str | None,
) -> dict[str, Any]:
    """
    Return the options of a generation as they are sent.

    :raises DiffioInputError: when one of them cannot work.
    """
    check_model(model)
    options: dict[str, Any] = {}
    if sampling is not None:
        options["sampling"] = _json_object(sampling, "sampling")
    if params is not None and params != {}:
        options["params"] = _json_object(params, "params")
    if idempotency_key is not None:
        options["idempotencyKey"] = check_idempotency_key(idempotency_key)
    return options


def get_generation_progress(
    generation_id: str, project_id: str | None = None
) -> Call[models.GenerationProgress]:
    """Ask how far a generation is. The project id only speeds up Diffio's lookup."""
    return _about_progress(generation_id, project_id, models.GenerationProgress.read)


def poll_generation(generation_id: str, project_id: str | None = None) -> Call[models.GenerationProgress]:
    """Ask the same for a long wait, which reads only what it goes by."""
    return _about_progress(generation_id, project_id, models.GenerationProgress.read_briefly)


def get_generation_download(
    generation_id: str, project_id: str, download_type: str | None = None
) -> Call[models.GenerationDownload]:
    """Ask for a link. Without a type Diffio chooses the video of a video project, else the audio."""
    body = {
        "generationId": _text(generation_id, "generation_id"),
        "apiProjectId": _text(project_id, "project_id"),
    }
    wanted: tuple[str, ...] = DEFAULT_DOWNLOAD_TYPES
    if download_type is not None:
        body["downloadType"] = check_download_type(download_type)
        wanted = (body["downloadType"],)

    def read(fields: JSONFields) -> models.GenerationDownload:
        link = models.GenerationDownload.read(fields)
        fields.need_same("generationId", link.generation_id, generation_id)
        fields.need_same("apiProjectId", link.api_project_id, project_id)
        if DOWNLOAD_TYPE_ALIASES.get(link.download_type, link.download_type) not in wanted:
            raise fields.refuse("downloadType", " or ".join(wanted))
        return link

    return Call(
        "get_generation_download",
        read,
        body,
        project_id=project_id,
        generation_id=generation_id,
    )


# --- account, keys, usage ------------------------------------------------------------------------------


def get_account_settings() -> Call[models.AccountSettings]:
    """Read the account's settings (scope ``account:read``)."""
    return Call("account/settings/get", models.AccountSettings.read)


def update_account_settings(billing_policy: Mapping[str, Any]) -> Call[models.AccountSettings]:
    """Set the account's billing policy (admin keys, scope ``account:write``)."""
    body = {"billingPolicy": _json_object(billing_policy, "billing_policy")}
    return Call("account/settings/update", models.AccountSettings.read, body)


def create_api_key(
    label: str, scopes: Collection[str], resource_bounds: Mapping[str, Any] | None = None
) -> Call[models.ApiKey]:
    """
    Create a scoped key (admin keys, scope ``keys:write``).

    Not repeatable: a lost response loses the only copy of the plaintext; a second call makes a second key.
    """
    if len(_text(label, "label")) > API_KEY_LABEL_LENGTH:
        raise DiffioInputError(f"label has {len(label)} characters; Diffio takes {API_KEY_LABEL_LENGTH}.")
    if not _is_list(scopes) or not all(isinstance(scope, str) and scope for scope in scopes):
        raise DiffioInputError("scopes must be a list of scope names such as 'projects:read'.")
    body = {
        "label": label,
        "scopes": list(scopes),
        "resourceBounds": _json_object({} if resource_bounds is None else resource_bounds, "resource_bounds"),
    }
    return Call("api_keys/create", models.ApiKey.read_with_secret, body, repeatable=False)


def list_api_keys() -> Call[tuple[models.ApiKey, ...]]:
    """List the account's keys without their plaintext (scope ``keys:read``)."""
    return Call("api_keys/list", _objects("keys", models.ApiKey.read))


def rotate_api_key(key_id: str) -> Call[models.ApiKey]:
    """Replace a key's plaintext (scope ``keys:write``). Not repeatable: each call makes a new plaintext."""
    body = {"keyId": _text(key_id, "key_id")}
    return Call("api_keys/rotate", models.ApiKey.read_with_secret, body, repeatable=False)


def revoke_api_key(key_id: str) -> Call[models.ApiKey]:
    """Revoke a key for good (scope ``keys:write``)."""
    return Call("api_keys/revoke", models.ApiKey.read, {"keyId": _text(key_id, "key_id")})


def get_usage_summary(api_key_id: str | None = None) -> Call[models.UsageSummary]:
    """Read what a key used, by billing period (scope ``usage:read``)."""
    body = {} if api_key_id is None else {"apiKeyId": _text(api_key_id, "api_key_id")}
    return Call("usage/summary", models.UsageSummary.read, body)


# --- webhooks ------------------------------------------------------------------------------------------


def configure_webhook(
    url: str, event_types: Collection[str], *, mode: str = "live", api_key_id: str | None = None
) -> Call[models.WebhookConfiguration]:
    """Tell Diffio where to deliver events (admin keys, scope ``webhooks:write``)."""
    if not _is_list(event_types) or not event_types:
        raise DiffioInputError("event_types must be a non-empty list of event types.")
    body: dict[str, Any] = {
        "mode": _one_of(mode, WEBHOOK_MODES, "mode"),
        "url": _text(url, "url"),
        "eventTypes": [_one_of(event, WEBHOOK_EVENT_TYPES, "event_types") for event in event_types],
    }
    if api_key_id is not None:
        body["apiKeyId"] = _text(api_key_id, "api_key_id")
    return Call("webhooks/configure", models.WebhookConfiguration.read, body)


def send_webhook_test_event(
    event_type: str,
    *,
    mode: str = "live",
    api_key_id: str | None = None,
    sample_payload: Mapping[str, Any] | None = None,
) -> Call[models.WebhookTestEvent]:
    """Have Diffio send a test event to the key's endpoints (scope ``webhooks:write``)."""
    body: dict[str, Any] = {
        "eventType": _one_of(event_type, WEBHOOK_EVENT_TYPES, "event_type"),
        "mode": _one_of(mode, WEBHOOK_MODES, "mode"),
    }
    if api_key_id is not None:
        body["apiKeyId"] = _text(api_key_id, "api_key_id")
    if sample_payload is not None:
        body["samplePayload"] = _json_object(sample_payload, "sample_payload")
    return Call("webhooks/send_test_event", models.WebhookTestEvent.read, body)


# --- the edge ------------------------------------------------------------------------------------------


def start_edge_upload(session: models.EdgeUpload) -> EdgeCall[models.EdgeUploadStart]:
    """Open a multipart upload; each call opens a fresh one."""
    return EdgeCall(session, "start", models.EdgeUploadStart.read, content=b"{}")


def send_edge_part(
    session: models.EdgeUpload, upload_id: str, number: int, content: bytes | Body
) -> EdgeCall[models.EdgePart]:
    """Send one part, numbered from 1; sending it again replaces it. ``content`` must know its length."""

    def read(fields: JSONFields) -> models.EdgePart:
        told = fields.whole("partNumber")
        if told is not None and told != number:
            raise fields.refuse("partNumber", str(number))
        return models.EdgePart.read(fields)

    return EdgeCall(
        session,
        f"parts/{number}",
        read,
        method="PUT",
        content=content,
        content_type="application/octet-stream",
        query={"uploadId": upload_id},
    )


def complete_edge_upload(
    session: models.EdgeUpload, upload_id: str, etags: Mapping[int, str]
) -> EdgeCall[models.EdgeUploadEnd]:
    """Put the parts together. Repeatable: for a repeat Diffio responds with the stored object."""
    parts = [{"partNumber": number, "etag": etags[number]} for number in sorted(etags)]
    content = json.dumps({"uploadId": upload_id, "parts": parts}).encode()
    return EdgeCall(session, "complete", models.EdgeUploadEnd.read, content=content)


def abort_edge_upload(session: models.EdgeUpload, upload_id: str) -> EdgeCall[None]:
    """Give an unfinished upload up, so that its parts are not kept."""
    content = json.dumps({"uploadId": upload_id}).encode()
    return EdgeCall(session, "abort", lambda _: None, content=content, repeatable=False)


# --- checks --------------------------------------------------------------------------------------------


def check_model(model: str) -> str:
    """
    Return the model id, trimmed.

    :raises DiffioInputError: when it cannot be part of an endpoint's path.
    """
    model = _text(model, "model").strip()
    if not all(letter.isascii() and (letter.isalnum() or letter in "-._") for letter in model) or not model:
        raise DiffioInputError(f"model {model!r} is no model id; {DEFAULT_MODEL!r} is one.")
    return model


def check_idempotency_key(key: str) -> str:
    """
    Return the key, trimmed as Diffio trims it.

    :raises DiffioInputError: when it is not 1 to 255 characters long.
    """
    if not isinstance(key, str) or not 1 <= len(key.strip()) <= IDEMPOTENCY_KEY_LENGTH:
        raise DiffioInputError(
            f"idempotency_key must be a string of 1 to {IDEMPOTENCY_KEY_LENGTH} characters after trimming,"
            f" not {key!r:.80}."
        )
    return key.strip()


def check_download_type(download_type: str) -> str:
    """
    Return the download type that Diffio knows: ``audio``, ``video`` or ``transcript``.

    :raises DiffioInputError: when it is none of them, nor the alias ``mp3``.
    """
    known = (*DOWNLOAD_TYPES, *DOWNLOAD_TYPE_ALIASES)
    chosen = _one_of(download_type, known, "download_type")
    return DOWNLOAD_TYPE_ALIASES.get(chosen, chosen)


def _about_progress(
    generation_id: str,
    project_id: str | None,
    read: Callable[[JSONFields], models.GenerationProgress],
) -> Call[models.GenerationProgress]:
    body = {"generationId": _text(generation_id, "generation_id")}
    if project_id is not None:
        body["apiProjectId"] = _text(project_id, "project_id")

    def read_own(fields: JSONFields) -> models.GenerationProgress:
        progress = read(fields)
        fields.need_same("generationId", progress.generation_id, generation_id)
        if project_id is not None:
            fields.need_same("apiProjectId", progress.api_project_id, project_id)
        return progress

    return Call(
        "get_generation_progress",
        read_own,
        body,
        max_bytes=MAX_PROGRESS_BYTES,
        project_id=project_id,
        generation_id=generation_id,
    )


def _about_project(path: str, project_id: str, read: Callable[[JSONFields], T]) -> Call[T]:
    body = {"apiProjectId": _text(project_id, "project_id")}
    return Call(path, read, body, project_id=project_id)


def _objects(field: str, read: Callable[[JSONFields], T]) -> Callable[[JSONFields], tuple[T, ...]]:
    return partial(_read_objects, field, read)


def _read_objects(field: str, read: Callable[[JSONFields], T], fields: JSONFields) -> tuple[T, ...]:
    return fields.need_objects(field, read)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DiffioInputError(f"{name} must be a non-empty string, not {value!r:.80}.")
    return value


def _one_of(value: Any, known: Collection[str], name: str) -> str:
    if value not in known:
        raise DiffioInputError(f"{name} must be one of {', '.join(known)}; not {value!r:.80}.")
    return str(value)


def _json_object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise DiffioInputError(f"{name} must be a mapping (a JSON object), not {type(value).__name__}.")
    try:
        # Encoding and decoding makes a deep copy; later changes of the caller's dict do not reach it.
        copy: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DiffioInputError(f"{name} cannot be sent as JSON: {error}.") from None
    return copy


def _is_list(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DiffioInputError(f"{name} must be a whole number of at least 0, not {value!r:.80}.")
    return value


def _media_type(value: Any) -> str:
    """Check what becomes the header of an upload, too."""
    text = _text(value, "content_type").strip()
    if not text.isascii() or not text.isprintable():
        raise DiffioInputError(f"content_type must be a media type such as 'audio/wav', not {text!r:.80}.")
    return text
