"""What an HTTP response means: the same reading for both clients."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.endpoints import Call, EdgeCall
from airflow_provider_diffio.api.json_fields import JSONFields, presentable
from airflow_provider_diffio.api.retry import parse_retry_after

T = TypeVar("T")

#: No response of the contract comes near this size. A bigger body comes from another service or an attacker.
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_BY_STATUS: dict[int, type[errors.DiffioApiError]] = {
    400: errors.DiffioBadRequestError,
    401: errors.DiffioAuthenticationError,
    402: errors.DiffioBillingError,
    403: errors.DiffioPermissionError,
    404: errors.DiffioNotFoundError,
    408: errors.DiffioServerError,
    409: errors.DiffioConflictError,
    413: errors.DiffioTooLargeError,
    429: errors.DiffioRateLimitError,
}
_BY_CODE: dict[str, type[errors.DiffioApiError]] = {
    "UPLOAD_MISSING": errors.DiffioUploadMissingError,
    "UPLOAD_TOO_LARGE": errors.DiffioTooLargeError,
    "TRANSCRIPT_PENDING": errors.DiffioNotReadyError,
    "TRANSCRIPT_UNAVAILABLE": errors.DiffioTranscriptUnavailableError,
    "idempotencyKeyConflict": errors.DiffioIdempotencyConflictError,
}


def read_response(
    call: Call[T] | EdgeCall[T],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str] = (),
) -> T:
    """
    Return what the call asked for, or raise the error that the response stands for.

    :param call: the call that was sent.
    :param status: HTTP status.
    :param headers: headers of the response, in a mapping that ignores the case of names.
    :param body: the whole body.
    :param secrets: texts that must not show up in an error, should a server echo them.
    :raises DiffioApiError: for an error status.
    :raises DiffioResponseError: for a success that is not JSON or lacks what the call needs.
    """
    if status >= 400:
        raise _api_error(call, status, headers, body, secrets)
    if status >= 300:
        error = _response_error(
            call,
            "responded with a redirect, which is not followed, so that the API key stays with its host.",
            status,
        )
        # A host that redirects a call has not carried it out.
        error.may_be_billed = False
        error.advice = error.default_advice
        raise error
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        named = presentable(content_type, secrets) or "no content type"
        raise _response_error(call, f"responded with {named} instead of JSON.", status)
    decoded = _json(body)
    if not isinstance(decoded, dict):
        raise _response_error(call, "responded with something that is not a JSON object.", status)
    try:
        return call.read(JSONFields(decoded, call.name))
    except errors.DiffioResponseError as error:
        _place(error, call, status)
        raise


def connection_error(
    call: Call[Any] | EdgeCall[Any], reason: str, host: str, *, sent: bool = True
) -> errors.DiffioConnectionError:
    """
    Make the error for a call that got no response.

    :param sent: whether the request may have reached the host; it has not when connecting failed.
    """
    error = errors.DiffioConnectionError(f"No response from {host}: {reason}.", endpoint=call.name)
    _place(error, call, None)
    error.may_be_billed = error.may_be_billed and sent
    if error.may_be_billed:
        error.advice = _advice_for_lost_response(call)
    return error


def too_large_error(call: Call[Any] | EdgeCall[Any], status: int) -> errors.DiffioResponseError:
    """Make the error for a response whose body is longer than the contract allows."""
    return _response_error(call, f"responded with more than {MAX_RESPONSE_BYTES} bytes.", status)


def _api_error(
    call: Call[Any] | EdgeCall[Any],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
) -> errors.DiffioApiError:
    message, code, fields = _read_error(body)
    message = presentable(message or _what_came(status, headers), secrets)
    cls = _class_for(call, status, code)
    details: dict[str, Any] = {"code": presentable(code, secrets) if code else None}
    if cls is errors.DiffioModelRetiredError:
        models = fields.get("supportedModels")
        supported = tuple(m for m in models if isinstance(m, str)) if isinstance(models, list) else ()
        details["supported_models"] = supported
        named = presentable(", ".join(supported), secrets)
        details["advice"] = f"Use one of: {named}." if named else "Use another model."
    error = cls(message, **details)
    error.retry_after = parse_retry_after(headers.get("retry-after"), time.time())
    _place(error, call, status)
    # An error status below 500 is a refusal. After a 5xx (or a gateway's 408) the work may have been done.
    error.may_be_billed = error.may_be_billed and isinstance(error, errors.DiffioServerError)
    if error.may_be_billed:
        error.advice = _advice_for_lost_response(call)
    return error


def _class_for(call: Call[Any] | EdgeCall[Any], status: int, code: str | None) -> type[errors.DiffioApiError]:
    if isinstance(call, EdgeCall) and status in (401, 403):
        return errors.DiffioUploadRefusedError
    if isinstance(call, EdgeCall) and status == 400:
        # What the upload host finds wrong with parts may come out right in another upload.
        return errors.DiffioApiError
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code == "model_retired" or (status == 410 and isinstance(call, Call) and call.may_bill):
        return errors.DiffioModelRetiredError
    if status == 409 and code is None and call.name == "get_generation_download":
        return errors.DiffioNotReadyError
    if status >= 500:
        return errors.DiffioServerError
    return _BY_STATUS.get(status, errors.DiffioApiError)


def _read_error(body: bytes) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """Return message, code and all fields of the API's and of the edge's error shape."""
    decoded = _json(body)
    if not isinstance(decoded, dict):
        return None, None, {}
    inner = decoded.get("error")
    if isinstance(inner, dict):
        message, code = inner.get("message"), inner.get("code")
    else:
        message, code = inner, decoded.get("code")
    return (
        message if isinstance(message, str) and message.strip() else None,
        code if isinstance(code, str) and code.strip() else None,
        decoded,
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _what_came(status: int, headers: Mapping[str, str]) -> str:
    content_type = headers.get("content-type", "").partition(";")[0].strip()
    return f"HTTP {status} with a body of type {content_type or 'unknown'}."


def _response_error(call: Call[Any] | EdgeCall[Any], what: str, status: int) -> errors.DiffioResponseError:
    error = errors.DiffioResponseError(f"{call.name} {what}", endpoint=call.name)
    _place(error, call, status)
    return error


def _place(error: errors.DiffioError, call: Call[Any] | EdgeCall[Any], status: int | None) -> None:
    error.endpoint = call.name
    error.status_code = status
    if isinstance(call, Call):
        error.project_id = call.project_id
        error.generation_id = call.generation_id
        error.may_be_billed = call.may_bill
        if call.may_bill and isinstance(error, errors.DiffioResponseError):
            error.advice = _advice_for_lost_response(call)


def _advice_for_lost_response(call: Call[Any] | EdgeCall[Any]) -> str:
    if call.repeatable:
        return "The generation may exist and be billed. A retry under the same idempotency key pays once."
    return (
        "The generation may exist and be billed, and without an idempotency key a retry may start a"
        " second one. Check list_project_generations first."
    )
