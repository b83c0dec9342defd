"""Signed deliveries as Svix sends them."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from svix.webhooks import Webhook


def secret_of(text: str) -> str:
    return "whsec_" + base64.b64encode(text.encode().ljust(24, b".")).decode()


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def event(**fields: Any) -> dict[str, Any]:
    """A generation.completed, with the fields of the contract."""
    return {
        "eventType": "generation.completed",
        "eventId": new_id("evt"),
        "createdAt": dt.datetime.now(dt.UTC).isoformat(),
        "apiKeyId": "key_1",
        "apiProjectId": "proj_1",
        "generationId": new_id("gen"),
        "status": "complete",
        "hasVideo": False,
        "modelKey": "diffio-4.6-flash",
        "error": None,
        "errorDetails": None,
        "transcription": {"status": "available"},
        **fields,
    }


@dataclass
class Delivery:
    """A body and the headers that sign it."""

    body: bytes
    headers: dict[str, str]
    message_id: str
    event: dict[str, Any] = field(default_factory=dict)


def sign(
    body: dict[str, Any] | bytes,
    secret: str,
    *,
    message_id: str | None = None,
    age: float = 0.0,
) -> Delivery:
    """Sign a delivery that is ``age`` seconds old."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    message_id = message_id or new_id("msg")
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    headers = {
        "content-type": "application/json",
        "svix-id": message_id,
        "svix-timestamp": str(int(at.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, at, raw.decode("latin-1")),
    }
    return Delivery(raw, headers, message_id, body if isinstance(body, dict) else {})
