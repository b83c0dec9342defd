"""Webhooks: configured, signed, delivered, retried."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.receiver import Received, receiver
from tests.sandbox.wire import Wire

ALL = ["generation.queued", "generation.processing", "generation.failed", "generation.completed"]


def configure(wire: Wire, url: str, **fields: Any) -> dict[str, Any]:
    body = {"mode": "live", "url": url, "eventTypes": ALL, **fields}
    webhook = wire.ok("webhooks/configure", body)["webhook"]
    assert isinstance(webhook, dict)
    return webhook


def verified(wire: Wire, delivery: Received) -> dict[str, Any]:
    from svix.webhooks import Webhook

    event = Webhook(wire.sandbox.webhook_secret).verify(delivery.body, delivery.headers)
    assert isinstance(event, dict)
    return event


def test_an_endpoint_is_described(wire: Wire) -> None:
    webhook = configure(wire, "https://example.org/hook")
    assert webhook.pop("endpointId")
    assert webhook == {
        "apiKeyId": "key_sandbox",
        "mode": "live",
        "eventTypes": ALL,
        "url": "https://example.org/hook",
        "signing": "svix",
        "updatedByKeyId": "key_sandbox",
    }


def test_configuring_again_replaces_the_endpoint(wire: Wire) -> None:
    configure(wire, "https://example.org/old")
    configure(wire, "https://example.org/new")
    configure(wire, "https://example.org/test", mode="test")
    urls = [endpoint["url"] for endpoint in wire.sandbox.webhooks()["endpoints"]]
    assert urls == ["https://example.org/new", "https://example.org/test"]


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://example.org/hook"},
        {"url": "ftp://127.0.0.1/hook"},
        {"url": ""},
        {"mode": "prod"},
        {"eventTypes": []},
        {"eventTypes": ["generation.exploded"]},
    ],
)
def test_an_endpoint_has_to_make_sense(wire: Wire, fields: dict[str, Any]) -> None:
    body = {"mode": "live", "url": "https://example.org/hook", "eventTypes": ALL, **fields}
    assert wire.post("webhooks/configure", body).status == 400


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://airflow:8080/hook", 200),
        ("http://10.1.2.3/hook", 200),
        ("http://[fd00::1]:8080/hook", 200),
        ("http://airflow.default.svc.cluster.local/hook", 200),
        ("http://host.docker.internal:8080/hook", 200),
        ("http://127.0.0.1/hook", 200),
        ("http://example.org/hook", 400),
        ("http://8.8.8.8/hook", 400),
        ("http:///hook", 400),
    ],
)
def test_plain_http_to_private_hosts_is_a_setting(wire: Wire, url: str, status: int) -> None:
    body = {"mode": "live", "url": url, "eventTypes": ALL}
    assert wire.post("webhooks/configure", body).status == (200 if "127.0.0.1" in url else 400)
    with Sandbox(engine="passthrough", allow_private_http=True) as sandbox:
        assert Wire(sandbox).post("webhooks/configure", body).status == status


def test_every_change_of_status_is_told_and_signed(wire: Wire) -> None:
    with receiver() as post:
        configure(wire, post.url)
        generation_id = wire.restored()
        events = [verified(wire, delivery) for delivery in post.wait(3)]
    by_type = {event["eventType"]: event for event in events}
    assert {kind: event["status"] for kind, event in by_type.items()} == {
        "generation.queued": "queued",
        "generation.processing": "processing",
        "generation.completed": "complete",
    }
    completed = by_type["generation.completed"]
    assert completed.pop("eventId").startswith("evt_")
    assert completed.pop("createdAt").endswith("Z")
    assert completed == {
        "eventType": "generation.completed",
        "apiKeyId": "key_sandbox",
        "apiProjectId": wire.progress(generation_id)["apiProjectId"],
        "generationId": generation_id,
        "status": "complete",
        "hasVideo": False,
        "modelKey": "diffio-4.6-flash",
        "error": None,
        "errorDetails": None,
        "transcription": {"status": "available"},
    }


def test_failure_is_called_error(wire: Wire) -> None:
    wire.sandbox.add_fault("fail-generation", error="No speech.")
    with receiver() as post:
        configure(wire, post.url, eventTypes=["generation.failed"])
        wire.finished(wire.generation(wire.uploaded()))
        (delivery,) = post.wait(1)
    event = verified(wire, delivery)
    assert (event["eventType"], event["status"], event["error"]) == (
        "generation.failed",
        "error",
        "No speech.",
    )


def test_a_refused_delivery_comes_again_under_the_same_id(wire: Wire) -> None:
    with receiver([500, 302, 200]) as post:
        # 5 s and 5 min of the real schedule are 0.05 s and 3 s here.
        configure(wire, post.url, eventTypes=["generation.completed"])
        wire.restored()
        deliveries = post.wait(3)
    assert len({delivery.headers["svix-id"] for delivery in deliveries}) == 1
    assert len({delivery.body for delivery in deliveries}) == 1
    for delivery in deliveries:
        verified(wire, delivery)


def test_a_receiver_can_ask_for_no_more_retries(wire: Wire) -> None:
    with receiver([500] * 9, {"webhook-delivery": "abort-message"}) as post:
        configure(wire, post.url, eventTypes=["generation.completed"])
        wire.restored()
        post.wait(1)
        deadline = time.monotonic() + 5
        while wire.sandbox.webhooks()["deliveries"][0]["state"] == "pending":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert wire.sandbox.webhooks()["deliveries"][0]["attempts"] == [500]


def test_a_message_can_be_sent_again(wire: Wire) -> None:
    with receiver() as post:
        wire.sandbox.add_webhook(post.url, eventTypes=["generation.completed"])
        wire.restored()
        (first,) = post.wait(1)
        wire.sandbox.resend_webhook(first.headers["svix-id"])
        _, second = post.wait(2)
    assert first.body == second.body
    assert first.headers["svix-id"] == second.headers["svix-id"]


def test_a_test_event_goes_to_all_endpoints_of_the_key(wire: Wire) -> None:
    with receiver() as live, receiver() as test:
        configure(wire, live.url)
        configure(wire, test.url, mode="test")
        response = wire.ok(
            "webhooks/send_test_event",
            {
                "eventType": "generation.completed",
                "mode": "test",
                "samplePayload": {"apiProjectId": "proj_123", "status": "ignored"},
            },
        )
        deliveries = [*live.wait(1), *test.wait(1)]
    for delivery in deliveries:
        event = verified(wire, delivery)
        assert delivery.headers["svix-id"] == response["svixMessageId"]
        assert event["eventId"] == response["eventId"]
        assert (event["apiProjectId"], event["status"]) == ("proj_123", "complete")
    assert (response["mode"], response["apiKeyId"]) == ("test", "key_sandbox")


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "live"},
        {"mode": "live", "eventType": "generation.exploded"},
        {"mode": "prod", "eventType": "generation.completed"},
        {"mode": "live", "eventType": "generation.completed", "samplePayload": []},
    ],
)
def test_a_test_event_has_to_make_sense(wire: Wire, body: dict[str, Any]) -> None:
    assert wire.post("webhooks/send_test_event", body).status == 400


def test_events_stay_with_the_key_that_started(wire: Wire) -> None:
    scopes = ["projects:write", "generations:write", "generations:read", "webhooks:write"]
    child = wire.ok("api_keys/create", {"label": "child", "scopes": scopes})
    with receiver() as post:
        configure(wire, post.url, apiKeyId=child["keyId"], eventTypes=["generation.completed"])
        wire.restored()
        generation_id = wire.generation(wire.uploaded(key=child["key"]), key=child["key"])
        (delivery,) = post.wait(1)
    assert json.loads(delivery.body)["generationId"] == generation_id
