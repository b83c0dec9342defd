"""Whatever a server answers: a result or a DiffioError, and nothing else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.api.models import EdgeUpload, GenerationProgress, secrets_of, secrets_of_url
from airflow_provider_diffio.api.poll_interval import Observation
from airflow_provider_diffio.api.polling import GenerationWait, PollAgain, WaitSpec
from airflow_provider_diffio.api.responses import read_response
from airflow_provider_diffio.api.retry import MAX_RETRY_AFTER, parse_retry_after
from airflow_provider_diffio.api.settings import ClientSettings

KEY = "diffio_live_0123456789abcdef"
SESSION = EdgeUpload("api-p", "https://media.test", "v1.token.sig", "key", 33554432, 2147483648)
CALLS: list[Any] = [
    endpoints.create_project("a", content_type="a/b", content_length=1),
    endpoints.complete_project_upload("p"),
    endpoints.list_projects(),
    endpoints.list_project_generations("p"),
    endpoints.create_generation("p"),
    endpoints.get_generation_progress("g"),
    endpoints.poll_generation("g"),
    endpoints.get_generation_download("g", "p"),
    endpoints.get_account_settings(),
    endpoints.update_account_settings({}),
    endpoints.create_api_key("label", []),
    endpoints.list_api_keys(),
    endpoints.rotate_api_key("k"),
    endpoints.revoke_api_key("k"),
    endpoints.get_usage_summary(),
    endpoints.configure_webhook("https://me.test", ["generation.failed"]),
    endpoints.send_webhook_test_event("generation.failed"),
    endpoints.start_edge_upload(SESSION),
    endpoints.send_edge_part(SESSION, "u", 1, b""),
    endpoints.complete_edge_upload(SESSION, "u", {1: "e"}),
    endpoints.abort_edge_upload(SESSION, "u"),
]

#: Names that mean something somewhere, so that random objects get past the first check.
# fmt: off
FIELDS = [
    "apiProjectId", "upload", "uploadUrl", "uploadMethod", "uploadSessionId", "edgeBaseUrl",
    "uploadToken", "objectKey", "partSizeBytes", "maxBytes", "expiresAt", "uploadId", "etag",
    "sizeBytes", "status", "projects", "generations", "generationId", "modelKey", "idempotentReplay",
    "preProcessing", "inference", "restoredVideo", "progress", "stage", "stageProgress",
    "overallPercent", "queue", "position", "message", "transcription", "error", "errorDetails",
    "downloadType", "downloadUrl", "fileName", "mimeType", "account", "billingPolicy", "keyId", "key",
    "keys", "scopes", "usage", "periods", "modelSeconds", "webhook", "eventTypes", "code",
    "supportedModels", "createdAt", "updatedAt", "hasVideo",
]
# fmt: on
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["queued", "complete", "failed", "2026-05-09T12:00:00Z", "https://media.test/m/x?y=z", KEY]
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=12),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=20)
STATUSES = st.sampled_from([200, 201, 202, 204, 304, 400, 401, 402, 403, 404, 409, 410, 413, 429, 500, 503])


class PassingError(DiffioError):
    transient = True


def outcome(call: Any, status: int, headers: dict[str, str], body: bytes) -> Any:
    """Return the result or the DiffioError; let anything else escape."""
    try:
        return read_response(call, status, CaseInsensitiveDict(headers), body, [KEY])
    except DiffioError as error:
        found = error
    assert str(found).isprintable()
    assert KEY not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)  # noqa: S301
    return found


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CALLS), OBJECTS)
def test_any_object_as_a_success_is_a_result_or_an_error(call: Any, answered: dict[str, Any]) -> None:
    found = outcome(call, 200, {"Content-Type": "application/json"}, json.dumps(answered).encode())
    for secret in secrets_of(found):
        assert isinstance(secret, str)
    if isinstance(found, GenerationProgress):
        assert found.describe().isprintable()


@settings(max_examples=300, deadline=None)
@given(OBJECTS)
def test_a_wait_reads_of_an_answer_all_that_it_goes_by(answered: dict[str, Any]) -> None:
    body = {**answered, "generationId": "g", "status": answered.get("status") or "processing"}
    whole, brief = (
        outcome(call, 200, {"Content-Type": "application/json"}, json.dumps(body).encode())
        for call in (endpoints.get_generation_progress("g"), endpoints.poll_generation("g"))
    )
    if isinstance(whole, DiffioError):
        assert str(brief) == str(whole)
        return
    assert (brief.is_complete, brief.is_failed) == (whole.is_complete, whole.is_failed)
    assert Observation.of(brief, 1.0) == Observation.of(whole, 1.0)
    assert (brief.describe(), brief.failure()) == (whole.describe(), whole.failure())
    assert (brief.generation_id, brief.api_project_id) == (whole.generation_id, whole.api_project_id)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CALLS), STATUSES, VALUES, st.text(max_size=30), st.text(max_size=30))
def test_any_answer_of_any_status_is_a_result_or_an_error(
    call: Any, status: int, answered: Any, content_type: str, retry_after: str
) -> None:
    headers = {"content-TYPE": content_type, "Retry-After": retry_after}
    found = outcome(call, status, headers, json.dumps(answered).encode())
    assert isinstance(found, DiffioError) or status < 300


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CALLS), STATUSES, st.binary(max_size=300))
def test_any_bytes_of_any_status_are_a_result_or_an_error(call: Any, status: int, body: bytes) -> None:
    found = outcome(call, status, {"Content-Type": "application/json; charset=utf-8"}, body)
    assert isinstance(found, DiffioError) or status < 300


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.floats(0, 4e9))
def test_any_retry_after_is_seconds_or_nothing(header: str, now: float) -> None:
    seconds = parse_retry_after(header, now)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("htps:/@[]?#\\.%127", max_size=30))
def test_any_text_is_permitted_or_not(url: str) -> None:
    local = ClientSettings(KEY, base_url="http://127.0.0.1:1")
    assert local.permits(url) in (True, False)
    assert secrets_of_url(url)[0] == url


@pytest.mark.parametrize("deadline", [0.0, 50.0, 1e6])
@settings(max_examples=200, deadline=None)
@given(
    elapsed=st.floats(-1e6, 1e6),
    interval=st.floats(0.1, 1e4),
    longest=st.floats(0.1, 1e4),
    retry_after=st.none() | st.floats(0, 1e9),
)
def test_any_next_look_is_later_than_now_and_not_after_the_deadline(
    deadline: float, elapsed: float, interval: float, longest: float, retry_after: float | None
) -> None:
    started = 1_800_000_000.0
    now = started + elapsed
    waiting = GenerationWait(
        WaitSpec(
            "g",
            None,
            started_at=started,
            deadline=started + deadline,
            poll_interval=interval,
            max_poll_interval=longest,
        )
    )
    decision = waiting.on_error(PassingError("down", retry_after=retry_after), now)
    if now >= started + deadline:
        assert not isinstance(decision, PollAgain)
    else:
        assert isinstance(decision, PollAgain)
        assert now < decision.at <= started + deadline
