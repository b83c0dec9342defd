"""Webhooks: configure, send a test event, deliver with Svix signatures and retries."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from airflow_provider_diffio.sandbox.api import Endpoint
from airflow_provider_diffio.sandbox.contract import (
    EVENT_OF_STATUS,
    EVENT_TYPES,
    WEBHOOK_MODES,
    ApiError,
    JSONObject,
    optional_object,
    optional_string,
    string_field,
)
from airflow_provider_diffio.sandbox.keys import ApiKey, KeyRing
from airflow_provider_diffio.sandbox.lifecycle import transcription_status
from airflow_provider_diffio.sandbox.settings import Settings, is_loopback, is_private
from airflow_provider_diffio.sandbox.state import Generation, iso

#: Svix's schedule: each counted from the failure before it.
RETRY_SECONDS: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True)
class WebhookEndpoint:
    """An address that hears of a key's generations."""

    endpoint_id: str
    key_id: str
    mode: str
    url: str
    event_types: tuple[str, ...]
    updated_by: str


@dataclass
class Delivery:
    """One message to one endpoint, with every attempt's outcome: a status, or 0 for no response."""

    message_id: str
    endpoint: WebhookEndpoint
    event: dict[str, Any]
    attempts: list[int] = field(default_factory=list)
    state: str = "pending"


class Webhooks:
    """The endpoints about webhooks, and the postman."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys
        self._endpoints: dict[str, WebhookEndpoint] = {}
        self._deliveries: list[Delivery] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def endpoints(self) -> dict[str, Endpoint]:
        """What is served."""
        return {
            "webhooks/configure": Endpoint("webhooks:write", self.configure, admin_only=True),
            "webhooks/send_test_event": Endpoint("webhooks:write", self.send_test_event),
        }

    async def configure(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """Set the endpoint of a key and mode; a second call replaces it."""
        mode = _mode(body)
        url = string_field(body, "url")
        address = urlsplit(url)
        near = is_private if self._settings.allow_private_http else is_loopback
        local = address.scheme == "http" and near(address.hostname or "")
        if not local and not (address.scheme == "https" and address.hostname):
            raise ApiError(400, "url must be an HTTPS URL.")
        event_types = body.get("eventTypes")
        if not isinstance(event_types, list) or not event_types:
            raise ApiError(400, "eventTypes must be a non-empty array.")
        if not all(event_type in EVENT_TYPES for event_type in event_types):
            raise ApiError(400, "eventTypes holds an event type that is not supported.")
        target = self._keys.get(optional_string(body, "apiKeyId") or key.key_id)
        for known in [known for known in self._endpoints.values() if known.key_id == target.key_id]:
            if known.mode == mode:
                del self._endpoints[known.endpoint_id]
        return {"webhook": self.add(target.key_id, mode, url, tuple(event_types), key.key_id)}

    def add(
        self, key_id: str, mode: str, url: str, event_types: tuple[str, ...], updated_by: str
    ) -> JSONObject:
        """Add one more endpoint, as the developer portal could."""
        endpoint = WebhookEndpoint(f"ep_{uuid.uuid4().hex[:20]}", key_id, mode, url, event_types, updated_by)
        self._endpoints[endpoint.endpoint_id] = endpoint
        return {
            "apiKeyId": key_id,
            "mode": mode,
            "endpointId": endpoint.endpoint_id,
            "eventTypes": list(event_types),
            "url": url,
            "signing": "svix",
            "updatedByKeyId": updated_by,
        }

    async def send_test_event(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """Send a made-up event to all endpoints of a key."""
        event_type = string_field(body, "eventType")
        if event_type not in EVENT_TYPES:
            raise ApiError(400, "eventType is not supported.")
        mode = _mode(body)
        sample = optional_object(body, "samplePayload") or {}
        target = optional_string(body, "apiKeyId") or key.key_id
        if target != key.key_id:
            key.require_admin()
            self._keys.get(target)
        status = next(status for kind, status in EVENT_OF_STATUS.values() if kind == event_type)
        event = {
            "apiProjectId": None,
            "generationId": "gen_test",
            "hasVideo": False,
            "modelKey": "diffio-4.6-flash",
            "error": "Sample error." if status == "error" else None,
            "errorDetails": None,
            **sample,
            **_envelope(event_type, status, target),
        }
        receivers = [endpoint for endpoint in self._endpoints.values() if endpoint.key_id == target]
        return {
            "svixMessageId": self._send(event, receivers),
            "eventId": event["eventId"],
            "eventType": event_type,
            "mode": mode,
            "apiKeyId": target,
        }

    def on_status(self, generation: Generation) -> None:
        """Tell whoever asked to be told that a generation's status changed."""
        key_id = generation.key_id
        event_type, status = EVENT_OF_STATUS[generation.status]
        receivers = [
            endpoint
            for endpoint in self._endpoints.values()
            if endpoint.key_id == key_id and endpoint.mode == "live" and event_type in endpoint.event_types
        ]
        if not receivers:
            return
        event = {
            **_envelope(event_type, status, key_id),
            "apiProjectId": generation.project.project_id,
            "generationId": generation.generation_id,
            "hasVideo": generation.has_video,
            "modelKey": generation.model,
            "error": generation.error,
            "errorDetails": generation.error_details,
            "transcription": {"status": transcription_status(generation, time.time())},
        }
        self._send(event, receivers)

    def resend(self, message_id: str) -> bool:
        """Deliver a message once more under the same id, as the portal's Resend does."""
        known = [delivery for delivery in self._deliveries if delivery.message_id == message_id]
        for delivery in known:
            self._post(Delivery(message_id, delivery.endpoint, delivery.event))
        return bool(known)

    def describe(self, count: int | None = None) -> dict[str, Any]:
        """Endpoints and deliveries, oldest first; the newest ``count`` deliveries alone if it is given."""
        deliveries = self._deliveries if count is None else self._deliveries[-count:]
        return {
            "endpoints": [
                {"endpointId": it.endpoint_id, "apiKeyId": it.key_id, "mode": it.mode, "url": it.url}
                for it in self._endpoints.values()
            ],
            "deliveries": [
                {
                    "messageId": it.message_id,
                    "endpointId": it.endpoint.endpoint_id,
                    "event": it.event,
                    "attempts": it.attempts,
                    "state": it.state,
                }
                for it in deliveries
            ],
        }

    async def clear(self) -> None:
        """Forget the endpoints and stop every delivery."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._endpoints.clear()
        self._deliveries.clear()

    async def close(self) -> None:
        """Stop for good."""
        await self.clear()
        if self._session is not None:
            await self._session.close()

    def _send(self, event: dict[str, Any], receivers: list[WebhookEndpoint]) -> str:
        message_id = f"msg_{uuid.uuid4().hex}"
        for endpoint in receivers:
            self._post(Delivery(message_id, endpoint, event))
        return message_id

    def _post(self, delivery: Delivery) -> None:
        self._deliveries.append(delivery)
        task = asyncio.create_task(self._deliver(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        body = json.dumps(delivery.event, separators=(",", ":"))
        for pause in (0.0, *RETRY_SECONDS):
            await asyncio.sleep(pause * self._settings.webhook_time_scale)
            status, abort = await self._attempt(delivery, body)
            delivery.attempts.append(status)
            if 200 <= status <= 299:
                delivery.state = "delivered"
                return
            if abort:
                break
        delivery.state = "failed"

    async def _attempt(self, delivery: Delivery, body: str) -> tuple[int, bool]:
        """One POST: the status, and whether the receiver asked for no more of them."""
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "svix-id": delivery.message_id,
            "svix-timestamp": str(int(now.timestamp())),
            "svix-signature": await asyncio.to_thread(
                _sign, self._settings.webhook_secret, delivery.message_id, now, body
            ),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.post(
                delivery.endpoint.url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                return response.status, response.headers.get("webhook-delivery") == "abort-message"
        except (aiohttp.ClientError, TimeoutError):
            return 0, False


def _mode(body: JSONObject) -> str:
    mode = body.get("mode")
    if mode not in WEBHOOK_MODES:
        raise ApiError(400, "mode must be test or live.")
    return str(mode)


def _envelope(event_type: str, status: str, key_id: str) -> dict[str, Any]:
    return {
        "eventType": event_type,
        "eventId": f"evt_{uuid.uuid4().hex}",
        "createdAt": iso(time.time()),
        "apiKeyId": key_id,
        "status": status,
    }


def _sign(secret: str, message_id: str, moment: datetime, body: str) -> str:
    """Svix's own signer; imported here, and run in a thread, because importing it takes a second."""
    from svix.webhooks import Webhook

    signature: str = Webhook(secret).sign(message_id, moment, body)
    return signature
