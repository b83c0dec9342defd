"""Deliveries: which are Diffio's, and what they say."""

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
from svix.webhooks import Webhook

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.webhooks import split_secrets, verify_webhook


def secret_of(text: str) -> str:
    return "whsec_" + base64.b64encode(text.encode().ljust(24, b".")).decode()


SECRET, OLD_SECRET, FOREIGN = secret_of("the secret"), secret_of("the old one"), secret_of("someone else's")

EVENT = {
    "eventType": "generation.completed",
    "eventId": "evt_123",
    "createdAt": "2026-01-28T12:34:56Z",
    "apiKeyId": "key_123",
    "apiProjectId": "proj_123",
    "generationId": "gen_123",
    "status": "complete",
    "hasVideo": False,
    "modelKey": "diffio-2",
    "error": None,
    "errorDetails": None,
    "transcription": {"status": "available"},
}
NEEDED = ("eventType", "eventId", "apiKeyId", "generationId", "status")


def delivery(event: Any = EVENT, *, secret: str = SECRET, age: float = 0.0) -> tuple[bytes, dict[str, str]]:
    """Sign a body as Svix does."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    headers = {
        "Svix-Id": "msg_123",
        "Svix-Timestamp": str(int(at.timestamp())),
        "Svix-Signature": Webhook(secret).sign("msg_123", at, body.decode()),
    }
    return body, headers


def refusal(body: bytes | str, headers: Mapping[str, str], secrets: Any = SECRET) -> str:
    with pytest.raises(errors.DiffioWebhookError) as caught:
        verify_webhook(body, headers, secrets)
    return caught.value.message


def test_a_good_delivery_is_read() -> None:
    event = verify_webhook(*delivery(), SECRET)
    assert (event.message_id, event.event_id, event.event_type) == (
        "msg_123",
        "evt_123",
        "generation.completed",
    )
    assert (event.generation_id, event.api_project_id, event.api_key_id) == ("gen_123", "proj_123", "key_123")
    assert event.created_at == dt.datetime(2026, 1, 28, 12, 34, 56, tzinfo=dt.UTC)
    assert (event.status, event.has_video, event.model) == ("complete", False, "diffio-2")
    assert (event.error, event.error_details, event.transcription) == (None, None, "available")


def test_a_body_may_be_text() -> None:
    body, headers = delivery()
    assert verify_webhook(body.decode(), headers, SECRET).event_id == "evt_123"


def test_what_is_not_needed_may_be_missing() -> None:
    event = verify_webhook(*delivery({name: EVENT[name] for name in NEEDED}), SECRET)
    assert (event.api_project_id, event.created_at, event.transcription) == (None, None, None)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("worse", [None, 7, ""])
def test_what_is_needed_is_named_when_it_is_missing(name: str, worse: Any) -> None:
    assert f"'{name}'" in refusal(*delivery({**EVENT, name: worse}))


@pytest.mark.parametrize(
    "secrets", [f"{OLD_SECRET},{SECRET}", f" {SECRET} , {OLD_SECRET} ,", [OLD_SECRET, SECRET], (SECRET,)]
)
def test_any_of_several_secrets_will_do_while_they_are_rotated(secrets: Any) -> None:
    assert verify_webhook(*delivery(), secrets).event_id == "evt_123"


def test_any_of_several_signatures_will_do_while_they_are_rotated() -> None:
    body, headers = delivery()
    old = delivery(secret=OLD_SECRET)[1]["Svix-Signature"]
    headers["Svix-Signature"] = f"v1a,AAAA {old} {headers['Svix-Signature']}"
    assert verify_webhook(body, headers, SECRET).event_id == "evt_123"


def test_another_secret_does_not_fit() -> None:
    assert "does not fit" in refusal(*delivery(secret=FOREIGN), f"{SECRET},{OLD_SECRET}")


@pytest.mark.parametrize(
    "signature", ["v1,AAAA", "v2,AAAA", "AAAA", "v1,!!!", "v1", ",", " ", "v1,\u00e4", "v1," + "A" * 9999]
)
def test_a_wrong_signature_does_not_fit(signature: str) -> None:
    body, headers = delivery()
    refusal(body, {**headers, "Svix-Signature": signature})


def test_a_changed_body_does_not_fit() -> None:
    body, headers = delivery()
    assert "does not fit" in refusal(body.replace(b"gen_123", b"gen_666"), headers)


def test_a_changed_message_id_does_not_fit() -> None:
    body, headers = delivery()
    assert "does not fit" in refusal(body, {**headers, "Svix-Id": "msg_666"})


@pytest.mark.parametrize("age", [299, -299])
def test_a_delivery_may_be_five_minutes_off(age: float) -> None:
    assert verify_webhook(*delivery(age=age), SECRET).event_id == "evt_123"


@pytest.mark.parametrize("age", [302, -302, 86400])
def test_an_old_or_future_delivery_is_refused(age: float) -> None:
    assert "time is off" in refusal(*delivery(age=age))


@pytest.mark.parametrize("timestamp", ["soon", "nan", "inf", "-1", "9" * 40, "1e300", "0x10"])
def test_a_timestamp_that_is_none_is_refused(timestamp: str) -> None:
    body, headers = delivery()
    refusal(body, {**headers, "Svix-Timestamp": timestamp})


@pytest.mark.parametrize("name", ["Svix-Id", "Svix-Timestamp", "Svix-Signature"])
def test_missing_headers_are_named(name: str) -> None:
    body, headers = delivery()
    assert refusal(body, {**headers, name: ""}) == f"The delivery lacks the headers {name.lower()}."
    del headers[name]
    assert name.lower() in refusal(body, headers)


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'"text"', b"[" * 100_000])
def test_a_signed_body_that_is_no_object_is_told_apart_from_a_wrong_signature(body: bytes) -> None:
    assert refusal(*delivery(body)) == "The delivery's body is not a JSON object."


def test_a_body_that_is_no_text_is_refused() -> None:
    _, headers = delivery()
    refusal(b"\xff\xfe", headers)


@pytest.mark.parametrize("secrets", ["", " , ", [], [""], None])
def test_no_secret_is_a_mistake_in_the_connection(secrets: Any) -> None:
    with pytest.raises(errors.DiffioConfigurationError, match="There is no webhook secret"):
        verify_webhook(*delivery(), secrets)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_a", "whsec_\u00e4", [7]])
def test_a_malformed_secret_is_a_mistake_in_the_connection_and_not_repeated(secret: Any) -> None:
    with pytest.raises(errors.DiffioConfigurationError, match="not of the form whsec_<base64>") as caught:
        verify_webhook(*delivery(), secret)
    assert "whsec_a" not in str(caught.value)


def test_secrets_are_split() -> None:
    assert split_secrets(" a,, b ") == ["a", "b"]


def test_without_svix_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    body, headers = delivery()
    monkeypatch.setitem(sys.modules, "svix.webhooks", None)
    with pytest.raises(errors.DiffioInputError, match=r"airflow-provider-diffio\[webhooks\]"):
        verify_webhook(body, headers, SECRET)


def test_a_delivery_is_verified_by_the_clock_of_now() -> None:
    body, headers = delivery()
    assert abs(int(headers["Svix-Timestamp"]) - time.time()) < 5
    assert verify_webhook(body, headers, SECRET).status == "complete"


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: (value, "other"), str.encode])
def test_headers_may_be_lists(wrap: Any) -> None:
    body, headers = delivery()
    assert (
        verify_webhook(body, {name: wrap(value) for name, value in headers.items()}, SECRET).event_id
        == "evt_123"
    )


@pytest.mark.parametrize("value", [[], [7], None, 7, {}])
def test_a_header_that_is_no_text_is_missing(value: Any) -> None:
    body, headers = delivery()
    assert refusal(body, {**headers, "Svix-Id": value}) == "The delivery lacks the headers svix-id."


@pytest.mark.parametrize(("size", "short"), [(1, True), (15, True), (16, False), (64, False)])
def test_a_secret_that_could_be_guessed_is_refused(size: int, short: bool) -> None:
    secret = "whsec_" + base64.b64encode(b"s" * size).decode()
    body, headers = delivery(secret=secret)
    if short:
        with pytest.raises(
            errors.DiffioConfigurationError, match=f"has {size} bytes; less than 16"
        ) as caught:
            verify_webhook(body, headers, [SECRET, secret])
        assert secret not in str(caught.value)
    else:
        assert verify_webhook(body, headers, secret).event_id == "evt_123"


def test_texts_of_a_delivery_are_cleaned() -> None:
    broken = json.dumps({**EVENT, "error": "cut \ud83d", "errorDetails": "a\x00b", "modelKey": "\udc00"})
    event = verify_webhook(*delivery(broken.encode()), SECRET)
    assert (event.error, event.error_details, event.model) == ("cut \ufffd", "a\ufffdb", "\ufffd")
