"""Diffio's wire contract as the sandbox states it: models, scopes, messages and the shape of errors.

Nothing here is shared with the provider's client. Both sides spell the contract out for themselves, so
that a misreading shows up as a failing test instead of agreeing with itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

JSONObject = dict[str, Any]

CURRENT_MODELS: Final = ("diffio-4.6-flash", "diffio-4.6-pro")
#: The predecessors of the current models, and what the vendor's newest SDK turns each of them into.
SUCCESSORS: Final[Mapping[str, str]] = MappingProxyType(
    {"diffio-4.5-flash": "diffio-4.6-flash", "diffio-4.5-pro": "diffio-4.6-pro"}
)
SIGNED_PUT_MODELS: Final = (
    "diffio-2",
    "diffio-2-flash",
    "diffio-3",
    "diffio-3.4",
    "diffio-3.5",
    "diffio-4.0-flash",
    "diffio-4.0-pro",
)

#: Models whose path does not simply repeat their name.
_PATH_NAMES: Final = MappingProxyType(
    {"diffio-2": "diffio-2.0", "diffio-2-flash": "diffio-2.0-flash", "diffio-3": "diffio-3.0"}
)
_MODEL_OF_PATH_NAME: Final = MappingProxyType({path: model for model, path in _PATH_NAMES.items()})
_GENERATION_PATH: Final = re.compile(r"(diffio-[^/]+)-generation")

EVENT_TYPES: Final = (
    "generation.queued",
    "generation.processing",
    "generation.failed",
    "generation.completed",
)
#: Webhooks say ``error`` where progress says ``failed``.
EVENT_OF_STATUS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "queued": ("generation.queued", "queued"),
        "processing": ("generation.processing", "processing"),
        "failed": ("generation.failed", "error"),
        "complete": ("generation.completed", "complete"),
    }
)
WEBHOOK_MODES: Final = ("test", "live")
DOWNLOAD_TYPES: Final = ("audio", "video", "transcript")

SCOPES: Final = frozenset(
    {
        "projects:read",
        "projects:write",
        "generations:read",
        "generations:write",
        "artifacts:read",
        "account:read",
        "account:write",
        "keys:read",
        "keys:write",
        "usage:read",
        "webhooks:write",
        "admin",
    }
)

MAX_PART_NUMBER: Final = 10_000
MAX_IDEMPOTENCY_KEY: Final = 255
MAX_LABEL: Final = 80
MINIMUM_BILLED_SECONDS: Final = 60

INVALID_KEY: Final = "Invalid API key."
INVALID_JSON: Final = "Invalid JSON body."
ROUTE_NOT_FOUND: Final = "Not found."
PROJECT_NOT_FOUND: Final = "API project not found."
GENERATION_NOT_FOUND: Final = "Generation not found."


class ApiError(Exception):
    """A response of the API that is not 200: ``{"error": message}``, perhaps a code and more fields."""

    def __init__(self, status: int, message: str, code: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.fields = fields

    def body(self) -> JSONObject:
        """The JSON object to send."""
        coded = {} if self.code is None else {"code": self.code}
        return {"error": self.message, **coded, **self.fields}


class EdgeError(Exception):
    """A response of the upload and media host that is not 200: ``{"error": {"code", "message"}}``."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> JSONObject:
        """The JSON object to send."""
        return {"error": {"code": self.code, "message": self.message}}


def model_of_path(name: str) -> str | None:
    """The model a generation path such as ``diffio-2.0-generation`` means, or None for another path."""
    found = _GENERATION_PATH.fullmatch(name)
    return None if found is None else _MODEL_OF_PATH_NAME.get(found[1], found[1])


def model_retired(model: str) -> ApiError:
    """The 410 for every model but the current ones."""
    return ApiError(
        410,
        f"{model} has been retired. Use diffio-4.6-flash or diffio-4.6-pro "
        "(/v1/diffio-4.6-flash-generation or /v1/diffio-4.6-pro-generation).",
        "model_retired",
        retiredModel=model,
        supportedModels=list(CURRENT_MODELS),
    )


def string_field(body: JSONObject, name: str) -> str:
    """A required, non-empty string of a request body."""
    value = body.get(name)
    if value is None or value == "":
        raise ApiError(400, f"{name} is required.")
    if not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string.")
    return value


def optional_string(body: JSONObject, name: str) -> str | None:
    """A string of a request body that may be left out."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string.")
    return value


def optional_object(body: JSONObject, name: str) -> JSONObject | None:
    """An object of a request body that may be left out."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise ApiError(400, f"{name} must be an object.")
    return value
