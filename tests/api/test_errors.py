"""What an error status becomes, and what an error says."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_provider_diffio.api import endpoints, errors
from airflow_provider_diffio.api.models import EdgeUpload
from airflow_provider_diffio.api.responses import connection_error, read_response

SESSION = EdgeUpload("api-p", "https://media.test", "v1.token.sig", "key", 33554432, 2147483648)
JSON = {"Content-Type": "application/json"}
KEY = "diffio_live_0123456789abcdef"

UNKEYED = endpoints.create_generation("p")
KEYED = endpoints.create_generation("p", idempotency_key="k")
CREATE = endpoints.create_project("a", content_type="a/b", content_length=1)
DOWNLOAD = endpoints.get_generation_download("g", "p", "transcript")
PART = endpoints.send_edge_part(SESSION, "u", 1, b"x")


def refused(
    call: Any, status: int, body: Any = None, headers: dict[str, str] | None = None
) -> errors.DiffioApiError:
    raw = (
        body
        if isinstance(body, bytes)
        else json.dumps(body if body is not None else {"error": "No."}).encode()
    )
    with pytest.raises(errors.DiffioApiError) as caught:
        read_response(call, status, CaseInsensitiveDict({**JSON, **(headers or {})}), raw, [KEY])
    return caught.value


def api(message: str = "No.", code: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"error": message, **({"code": code} if code else {}), **fields}


def edge(code: str, message: str = "No.") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    ("call", "status", "body", "cls"),
    [
        (CREATE, 400, api("fileName is required."), errors.DiffioBadRequestError),
        (CREATE, 401, api("Invalid API key."), errors.DiffioAuthenticationError),
        (UNKEYED, 402, api(code="paymentFailed"), errors.DiffioBillingError),
        (UNKEYED, 402, api(code="spendLimitExceeded"), errors.DiffioBillingError),
        (CREATE, 403, api(), errors.DiffioPermissionError),
        (UNKEYED, 404, api("API project not found."), errors.DiffioNotFoundError),
        (CREATE, 405, api(), errors.DiffioApiError),
        (CREATE, 408, api(), errors.DiffioServerError),
        (UNKEYED, 409, api(code="UPLOAD_MISSING"), errors.DiffioUploadMissingError),
        (UNKEYED, 409, api(code="idempotencyKeyConflict"), errors.DiffioIdempotencyConflictError),
        (UNKEYED, 409, api(), errors.DiffioConflictError),
        (UNKEYED, 409, api(code="someNewCode"), errors.DiffioConflictError),
        (DOWNLOAD, 409, api(), errors.DiffioNotReadyError),
        (DOWNLOAD, 409, api(code="TRANSCRIPT_PENDING"), errors.DiffioNotReadyError),
        (DOWNLOAD, 409, api(code="someNewCode"), errors.DiffioConflictError),
        (DOWNLOAD, 404, api(code="TRANSCRIPT_UNAVAILABLE"), errors.DiffioTranscriptUnavailableError),
        (DOWNLOAD, 404, api(), errors.DiffioNotFoundError),
        (UNKEYED, 410, api(code="model_retired"), errors.DiffioModelRetiredError),
        (UNKEYED, 410, api(), errors.DiffioModelRetiredError),
        (DOWNLOAD, 410, api(), errors.DiffioApiError),
        (CREATE, 413, api(code="UPLOAD_TOO_LARGE"), errors.DiffioTooLargeError),
        (CREATE, 418, api(), errors.DiffioApiError),
        (CREATE, 429, api(), errors.DiffioRateLimitError),
        (CREATE, 500, api(), errors.DiffioServerError),
        (CREATE, 503, b"<html>", errors.DiffioServerError),
        (CREATE, 599, b"", errors.DiffioServerError),
        (PART, 400, edge("bad_request"), errors.DiffioApiError),
        (PART, 400, edge("upload_failed"), errors.DiffioApiError),
        (PART, 401, edge("invalid_token"), errors.DiffioUploadRefusedError),
        (PART, 403, edge("token_expired"), errors.DiffioUploadRefusedError),
        (PART, 404, edge("not_found"), errors.DiffioNotFoundError),
        (PART, 411, edge("bad_request"), errors.DiffioApiError),
        (PART, 413, edge("payload_too_large"), errors.DiffioTooLargeError),
        (PART, 413, edge("upload_too_large"), errors.DiffioTooLargeError),
        (PART, 503, edge("internal_error"), errors.DiffioServerError),
    ],
)
def test_the_class_of_each_status_and_code(call: Any, status: int, body: Any, cls: type[Exception]) -> None:
    error = refused(call, status, body)
    assert type(error) is cls
    assert error.status_code == status


@pytest.mark.parametrize(
    ("cls", "transient", "final"),
    [
        (errors.DiffioInputError, False, True),
        (errors.DiffioConfigurationError, False, True),
        (errors.DiffioSourceChangedError, False, False),
        (errors.DiffioConnectionError, True, False),
        (errors.DiffioResponseError, False, False),
        (errors.DiffioTransferError, True, False),
        (errors.DiffioLinkRefusedError, True, False),
        (errors.DiffioUploadRefusedError, False, False),
        (errors.DiffioAuthenticationError, False, True),
        (errors.DiffioBillingError, False, True),
        (errors.DiffioPermissionError, False, True),
        (errors.DiffioNotFoundError, False, True),
        (errors.DiffioNotReadyError, True, False),
        (errors.DiffioUploadMissingError, False, False),
        (errors.DiffioIdempotencyConflictError, False, True),
        (errors.DiffioModelRetiredError, False, True),
        (errors.DiffioTooLargeError, False, True),
        (errors.DiffioRateLimitError, True, False),
        (errors.DiffioServerError, True, False),
        (errors.DiffioGenerationFailedError, False, False),
    ],
)
def test_what_a_retry_may_do_about_each(cls: type[errors.DiffioError], transient: bool, final: bool) -> None:
    assert (cls.transient, cls.final) == (transient, final)


def test_an_error_says_what_where_and_what_to_do() -> None:
    error = refused(KEYED, 402, api("Payment failed.", "paymentFailed"))
    assert str(error) == (
        "Payment failed. [endpoint diffio-4.6-flash-generation, HTTP 402, code paymentFailed, project p]"
        " Settle it in Diffio's billing portal, or raise the key's limit. This call started no generation."
    )
    assert repr(error) == f"<DiffioBillingError: {error}>"


# --- gateways ---------------------------------------------------------------------------------------------

FOREIGN = {
    "a page": b"<html><h1>403 Forbidden</h1>",
    "nothing": b"",
    "a text": b"Forbidden",
    "another json": b'{"message": "Forbidden"}',
    "a list": b'["error"]',
    "an empty error": b'{"error": " "}',
    "a number": b'{"error": 403}',
    "an error of another shape": b'{"error": {"code": 403, "message": "No.", "status": "DENIED"}}',
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 421, 422, 425, 444, 499])
def test_a_refusal_that_is_not_diffios_own_is_trouble_and_passes(status: int, body: bytes) -> None:
    found = answered(endpoints.poll_generation("g", "p"), status, {"Content-Type": "text/html"}, body)
    assert isinstance(found, errors.DiffioGatewayError)
    assert (found.transient, found.final, found.status_code) == (True, False, status)
    assert found.message == (
        f"get_generation_progress responded with HTTP {status} with a body of type text/html."
    )


@pytest.mark.parametrize("status", [402, 405, 407, 411, 413, 414, 415, 431, 451])
def test_what_a_gateway_will_refuse_again_is_not_tried_at_once_and_is_not_final(status: int) -> None:
    found = answered(CREATE, status, {"Content-Type": "text/html"}, b"<html>")
    assert (found.transient, found.final) == (False, False)


@pytest.mark.parametrize(
    ("status", "cls"), [(408, errors.DiffioServerError), (429, errors.DiffioRateLimitError)]
)
def test_a_status_that_says_it_all_needs_no_body(status: int, cls: type[errors.DiffioError]) -> None:
    assert type(refused(CREATE, status, b"<html>", {"Content-Type": "text/html"})) is cls


def test_a_page_of_the_upload_host_is_no_refusal_of_the_upload() -> None:
    assert isinstance(answered(PART, 403, {}, b"<html>"), errors.DiffioGatewayError)


def test_a_gateways_refusal_does_not_prove_that_nothing_was_started() -> None:
    assert answered(UNKEYED, 403, {}, b"<html>").may_be_billed
    assert "pays once" in str(answered(KEYED, 404, {}, b"<html>"))


def test_an_unknown_model_is_named() -> None:
    found = refused(KEYED, 404, api("Not found."))
    assert found.message == "Diffio has no model 'diffio-4.6-flash': Not found."
    assert "'model'" in found.advice
    assert refused(KEYED, 404, api("API project not found.")).message == "API project not found."


def test_the_ids_of_the_call_are_on_the_error() -> None:
    error = refused(DOWNLOAD, 404)
    assert (error.endpoint, error.project_id, error.generation_id) == ("get_generation_download", "p", "g")


def test_a_retired_model_comes_with_those_that_are_offered() -> None:
    error = refused(UNKEYED, 410, api(code="model_retired", supportedModels=["diffio-5", 7, "diffio-5-pro"]))
    assert isinstance(error, errors.DiffioModelRetiredError)
    assert error.supported_models == ("diffio-5", "diffio-5-pro")
    assert str(error).endswith("Use one of: diffio-5, diffio-5-pro.")


@pytest.mark.parametrize("models", [None, 7, [], "diffio-5"])
def test_a_retired_model_without_a_list_is_no_trouble(models: Any) -> None:
    assert str(refused(UNKEYED, 410, api(code="model_retired", supportedModels=models))).endswith(
        "Use another model."
    )


@pytest.mark.parametrize(
    "error",
    [
        refused(UNKEYED, 410, api(code="model_retired", supportedModels=["a"]), {"Retry-After": "7"}),
        errors.DiffioGenerationFailedError("m", error="e", error_details="d", generation_id="g"),
        errors.DiffioInputError("m", advice="a"),
    ],
)
def test_an_error_survives_pickle_and_copy(error: errors.DiffioError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


def every_class(base: type[errors.DiffioError] = errors.DiffioError) -> set[type[errors.DiffioError]]:
    return {base}.union(*(every_class(sub) for sub in base.__subclasses__()))


def test_every_public_class_is_in_the_tree_at_the_top() -> None:
    public = {cls.__name__ for cls in every_class() if cls.__module__ == errors.__name__}
    drawn = {word for word in (errors.__doc__ or "").split() if word.startswith("Diffio") and word in public}
    assert drawn == public


# --- money ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 410, 413, 429])
def test_a_refused_generation_is_not_billed(status: int) -> None:
    assert not refused(UNKEYED, status).may_be_billed


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_generation_whose_creation_failed_at_the_server_may_be_billed(status: int) -> None:
    assert "may exist and be billed" in str(refused(UNKEYED, status))
    assert "list_project_generations" in str(refused(UNKEYED, status))
    assert "pays once" in str(refused(KEYED, status))
    assert refused(KEYED, status).may_be_billed


@pytest.mark.parametrize("call", [CREATE, endpoints.list_projects()])
def test_a_call_that_is_about_no_generation_says_nothing_about_money(call: Any) -> None:
    for found in (refused(call, 503), refused(call, 403), connection_error(call, "it is gone", "h")):
        assert (found.may_be_billed, found.money) == (False, "")


def test_an_error_of_an_upload_says_that_nothing_was_started() -> None:
    for found in (refused(PART, 401, edge("invalid_token")), connection_error(PART, "it is gone", "h")):
        assert not found.may_be_billed
        assert str(found).endswith("No generation was started for this project.")


ABOUT_GENERATIONS = [DOWNLOAD, endpoints.get_generation_progress("g"), endpoints.poll_generation("g", "p")]


@pytest.mark.parametrize("call", ABOUT_GENERATIONS)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 410, 413, 429, 500, 503])
def test_every_error_about_a_generation_that_exists_says_that_it_is_billed(call: Any, status: int) -> None:
    for found in (
        refused(call, status),
        refused(call, 404, api(code="TRANSCRIPT_UNAVAILABLE")),
        answered(call, 403, {"Content-Type": "text/html"}, b"<html>"),
        answered(call, 200, JSON, b"{}"),
        connection_error(call, "it is gone", "h"),
    ):
        assert found.may_be_billed
        assert "billed once" in str(found)
        assert "no generation" not in str(found)


def test_an_error_that_is_marked_as_billed_later_says_so() -> None:
    marked = errors.DiffioTransferError("It broke.")
    assert "billed" not in str(marked)
    marked.may_be_billed = True
    assert str(marked).endswith("A generation exists, or may exist, and is billed.")
    assert (
        str(errors.DiffioError("It broke.", advice="You paid.", may_be_billed=True)) == "It broke. You paid."
    )


def test_a_lost_answer_about_a_generation_may_be_billed() -> None:
    error = connection_error(UNKEYED, "nothing came for 60 s", "api.diffio.ai")
    assert error.may_be_billed
    assert error.message == "No response from api.diffio.ai: nothing came for 60 s."


def test_a_request_that_was_never_sent_started_nothing() -> None:
    error = connection_error(UNKEYED, "it refused the connection", "api.diffio.ai", sent=False)
    assert not error.may_be_billed
    assert "billed" not in str(error)


def answered(call: Any, status: int, headers: dict[str, str], body: bytes) -> errors.DiffioResponseError:
    with pytest.raises(errors.DiffioResponseError) as caught:
        read_response(call, status, CaseInsensitiveDict(headers), body, [KEY])
    return caught.value


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, b"<p>", "responded with text/html instead of JSON"),
        ({}, b"{}", "responded with no content type instead of JSON"),
        (JSON, b"<html>", "not a JSON object"),
        (JSON, b"[]", "not a JSON object"),
        (JSON, b"", "not a JSON object"),
        (JSON, b"\xff\xfe\xfa", "not a JSON object"),
        (JSON, b"[" * 100_000, "not a JSON object"),
        (JSON, b"{}", "has no usable 'generationId'"),
    ],
)
def test_a_success_that_can_not_be_read_may_be_billed(
    headers: dict[str, str], body: bytes, says: str
) -> None:
    error = answered(UNKEYED, 200, headers, body)
    assert says in error.message
    assert error.may_be_billed
    assert error.status_code == 200


def test_a_redirect_started_nothing() -> None:
    error = answered(UNKEYED, 302, {"Location": "https://elsewhere.test"}, b"")
    assert not error.may_be_billed
    assert "redirect" in error.message
    assert "Check that the connection's host is the Diffio API" in str(error)


# --- what servers write -----------------------------------------------------------------------------------


def test_the_api_key_is_not_repeated() -> None:
    body = api(f"Key {KEY} is unknown.", f"bad-{KEY}", supportedModels=[f"model-{KEY}"])
    error = refused(UNKEYED, 410, {**body, "code": "model_retired"})
    assert KEY not in str(error)
    assert KEY not in str(refused(UNKEYED, 400, body))
    assert refused(UNKEYED, 400, body).message == "Key *** is unknown."


def test_the_api_key_is_not_repeated_from_a_content_type() -> None:
    assert KEY not in str(answered(UNKEYED, 200, {"Content-Type": f"text/{KEY}"}, b""))
    assert KEY not in str(answered(UNKEYED, 400, {"Content-Type": f"text/{KEY}"}, b""))


@pytest.mark.parametrize("text", ["x" * 100_000, "a\nb\r\nc\x1b[31m\x00", "\u202e gnol", "y\n" * 5000])
def test_a_servers_text_is_one_line_of_bearable_length(text: str) -> None:
    message = refused(CREATE, 400, api(text)).message
    assert message.isprintable()
    assert 0 < len(message) <= 503


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway",
        b"null",
        b"[]",
        b'"text"',
        b'{"error": 7}',
        b'{"error": ""}',
        b'{"error": {}}',
    ],
)
def test_an_error_without_a_message_says_what_came(body: bytes) -> None:
    assert refused(CREATE, 502, body, {"Content-Type": "text/html"}).message == (
        "HTTP 502 with a body of type text/html."
    )


@pytest.mark.parametrize("code", [7, None, "", " ", ["x"], {}])
def test_a_code_of_another_type_is_no_code(code: Any) -> None:
    assert refused(DOWNLOAD, 409, {"error": "Wait.", "code": code}).code is None


@pytest.mark.parametrize("text", ["half \ud83d", "NUL \x00", "reversed \u202e", "red \x1b[31m", "C1 \x9b"])
def test_a_message_can_be_stored_and_logged_whatever_it_quotes(text: str) -> None:
    from airflow_provider_diffio.api.errors import DiffioError

    error = DiffioError(f"Diffio says {text}", generation_id=text, advice=text, money=text)
    assert not set(f"{error}{error.message}{error.args}") & set("\ud83d\x00\u202e\x1b\x9b")
    assert str(error).encode().decode() == str(error)
    assert "Diffio says" in error.message
