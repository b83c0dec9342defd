"""What an HTTP response means: the same reading for both clients."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.endpoints import Call, EdgeCall
from airflow_provider_diffio.api.json_fields import JSONFields, presentable
from airflow_provider_diffio.api.money import NOTHING_STARTED, money_of
from airflow_provider_diffio.api.retry import parse_retry_after

T = TypeVar("T")

#: The event loop of a triggerer stands still while it decodes a body of this size or less; a longer one is
#: decoded in a thread.
DECODE_IN_THREAD_BYTES = 64 * 1024

#: What gateways and proxies refuse for reasons that do not pass, such as their own limit for bodies. The same
#: call in a moment is pointless; the task may be tried again when somebody has changed the gateway.
_LASTING_STATUSES = frozenset({402, 405, 406, 407, 411, 413, 414, 415, 416, 417, 426, 431, 451})

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
        # A host that redirects a call has not carried it out.
        raise _response_error(
            call,
            "responded with a redirect, which is not followed, so that the API key stays with its host.",
            status,
            carried_out=False,
        )
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
        _place(error, call, status, carried_out=True)
        raise


def connection_error(
    call: Call[Any] | EdgeCall[Any], reason: str, host: str, *, sent: bool = True
) -> errors.DiffioConnectionError:
    """
    Make the error for a call that got no response.

    :param sent: whether the request may have reached the host; it has not when connecting failed.
    """
    error = errors.DiffioConnectionError(f"No response from {host}: {reason}.", endpoint=call.name)
    _place(error, call, None, carried_out=sent)
    return error


def too_large_error(call: Call[Any] | EdgeCall[Any], status: int) -> errors.DiffioResponseError:
    """Make the error for a response whose body is longer than the contract allows."""
    return _response_error(call, f"responded with more than {call.max_bytes} bytes.", status)


def _api_error(
    call: Call[Any] | EdgeCall[Any],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
) -> errors.DiffioError:
    message, code, fields = _read_error(body)
    retry_after = parse_retry_after(headers.get("retry-after"), time.time())
    if _is_from_gateway(call, status, body, message, code):
        return _gateway_error(call, status, presentable(_what_came(status, headers), secrets), retry_after)
    message = presentable(message or _what_came(status, headers), secrets)
    cls = _class_for(call, status, code)
    details: dict[str, Any] = {"code": presentable(code, secrets) if code else None}
    if cls is errors.DiffioModelRetiredError:
        supported = _supported_models(fields, secrets)
        details["supported_models"] = supported
        details["advice"] = f"Use one of: {', '.join(supported)}." if supported else "Use another model."
    elif cls is errors.DiffioNotFoundError and isinstance(call, Call) and call.model:
        message, details["advice"] = _model_or_project(call, message)
    error = cls(message, retry_after=retry_after, **details)
    # An error status below 500 is a refusal. After a 5xx (or a gateway's 408) the work may have been done.
    _place(error, call, status, carried_out=isinstance(error, errors.DiffioServerError))
    return error


def _is_from_gateway(
    call: Call[Any] | EdgeCall[Any], status: int, body: bytes, message: str | None, code: str | None
) -> bool:
    """Return whether an error status comes without an error of Diffio, and so says nothing about the call."""
    if message is not None or code is not None or status >= 500 or status in (408, 429):
        return False
    # The upload host is a program for this alone; of its errors, the object's shape is enough.
    return not (isinstance(call, EdgeCall) and isinstance(_json(body), dict))


def _gateway_error(
    call: Call[Any] | EdgeCall[Any], status: int, what: str, retry_after: float | None
) -> errors.DiffioResponseError:
    """Make the error for a status below 500 that does not come with an error of Diffio."""
    cls = errors.DiffioResponseError if status in _LASTING_STATUSES else errors.DiffioGatewayError
    error = cls(
        f"{call.name} responded with {what}",
        advice=errors.DiffioGatewayError.default_advice,
        retry_after=retry_after,
    )
    # It is unknown whether the call had passed the gateway.
    _place(error, call, status, carried_out=True)
    return error


def _supported_models(fields: Mapping[str, Any], secrets: Collection[str]) -> tuple[str, ...]:
    named = fields.get("supportedModels")
    if not isinstance(named, list):
        return ()
    return tuple(presentable(model, secrets)[:80] for model in named[:20] if isinstance(model, str))


def _model_or_project(call: Call[Any], message: str) -> tuple[str, str]:
    """Return message and advice for a 404 to the start of a generation: Diffio has a path for each model."""
    if "project" in message.lower():
        return message, errors.DiffioNotFoundError.default_advice
    return (
        f"Diffio has no model {call.model!r}: {message}",
        "Check the model's id in the task's argument 'model' or the connection's extra 'model'.",
    )


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
        if not isinstance(code, str):
            # Others write their errors in this shape too, with a number for the code.
            return None, None, {}
    else:
        message, code = inner, decoded.get("code")
    return (
        message if isinstance(message, str) and message.strip() else None,
        code if isinstance(code, str) and code.strip() else None,
        decoded,
    )


def _json(body: bytes) -> Any:
    try:
        if len(body) > DECODE_IN_THREAD_BYTES:
            return json.loads(body, object_pairs_hook=dict_of_pairs)
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def dict_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    Make an object, for a decoder that else runs from the first byte of a body to the last one in C.

    Being Python, this lets other threads run: the event loop of a triggerer while a long list is decoded.
    """
    return dict(pairs)


def _what_came(status: int, headers: Mapping[str, str]) -> str:
    content_type = headers.get("content-type", "").partition(";")[0].strip()
    return f"HTTP {status} with a body of type {content_type or 'unknown'}."


def _response_error(
    call: Call[Any] | EdgeCall[Any], what: str, status: int, *, carried_out: bool = True
) -> errors.DiffioResponseError:
    error = errors.DiffioResponseError(f"{call.name} {what}", endpoint=call.name)
    _place(error, call, status, carried_out=carried_out)
    return error


def _place(
    error: errors.DiffioError, call: Call[Any] | EdgeCall[Any], status: int | None, *, carried_out: bool
) -> None:
    """
    Put on an error what its call was about, and what that means for money.

    :param carried_out: whether Diffio may have done what the call asked for.
    """
    error.endpoint = call.name
    error.status_code = status
    if isinstance(call, EdgeCall):
        error.money = NOTHING_STARTED
    else:
        error.project_id = call.project_id
        error.generation_id = call.generation_id
        error.may_be_billed, error.money = money_of(call, carried_out=carried_out)
        if isinstance(error, (errors.DiffioModelRetiredError, errors.DiffioNotFoundError)) and call.may_bill:
            # Without the model or the project it is plain that nothing was started.
            error.money = ""
