"""
The webhook receiver: ``POST /diffio/webhooks/{conn_id}`` on Airflow's API server.

Airflow asks nobody who calls a plugin's app for a login, and Svix could not log in. The signature over the
raw body is all there is, so everything before it is cheap and bounded, and everything about which
connections exist is hidden: a wrong signature and an unknown connection get the same answer after the same
time.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioInputError,
    DiffioWebhookError,
    DiffioWebhookEventError,
)
from airflow_provider_diffio.plugins.deliveries import Deliveries
from airflow_provider_diffio.plugins.requeue import Requeue
from airflow_provider_diffio.plugins.secrets import WebhookSecrets, connection_secrets
from airflow_provider_diffio.plugins.wakeup import WakeUp

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_provider_diffio.api.models import WebhookEvent

#: A delivery has less than 2 KiB.
MAX_BODY = 256 * 1024
#: Seconds for the whole body. Svix itself gives up after 15 for everything.
BODY_SECONDS = 10.0
#: Refusals leave at whole multiples of this, so that their time says nothing about what was looked up.
REFUSAL_SECONDS = 0.25
#: Deliveries in hand at once in one process; more are asked to come again.
MAX_IN_FLIGHT = 256
#: The shape of the three headers. Anything else is no delivery, and is refused before anything is looked up.
MESSAGE_ID = re.compile(r"[A-Za-z0-9_.\-]{1,200}\Z")
TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")
TOLERANCE = 5 * 60

#: What unknown connections are verified against, so that they take the same way through the code.
_NOBODYS_SECRET = "whsec_" + base64.b64encode(os.urandom(24)).decode()

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that is not answered with 2xx."""

    def __init__(self, status: int, text: str, *, close: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        #: Whether the rest of the body is not worth reading.
        self.close = close

    def headers(self) -> dict[str, str]:
        """Return what the answer says besides its text."""
        headers = {"connection": "close"} if self.close else {}
        return {**headers, "retry-after": "5"} if self.status == 503 else headers


class NotVerifiedError(RefusedError):
    """The one answer for everything that is not proven to come from Diffio. The reason is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, "Not a valid delivery.")
        self.reason = reason


class Receiver:
    """
    Takes deliveries.

    :param secrets: knows the connections' secrets.
    :param deliveries: makes asset events.
    """

    def __init__(self, secrets: WebhookSecrets | None = None, deliveries: Deliveries | None = None) -> None:
        self._secrets = secrets or WebhookSecrets(connection_secrets)
        self._deliveries = deliveries or Deliveries()
        self._requeue = Requeue()
        self._wake_up = WakeUp()
        self._log = RateLimitedLog()
        self._in_flight = 0
        self._verifying: Any = None
        self._storing: Any = None

    async def receive(self, request: Request) -> Response:
        """Answer one request."""
        from starlette.responses import JSONResponse

        if self._in_flight >= MAX_IN_FLIGHT:
            return JSONResponse({"detail": "Busy."}, 503, {"retry-after": "5", "connection": "close"})
        self._in_flight += 1
        try:
            payload = await _read_delivery(request)
            # Not counted from the request's arrival: whoever dictates the body's pace could then see on
            # which side of a multiple the rest of the work ends.
            began = time.monotonic()
            return JSONResponse({"status": await self._take(request, payload)})
        except NotVerifiedError as error:
            refusal: RefusedError = error
            self._log.refused(error.reason)
        except RefusedError as error:
            refusal = error
        finally:
            self._in_flight -= 1
        if isinstance(refusal, NotVerifiedError):
            await asyncio.sleep(REFUSAL_SECONDS - (time.monotonic() - began) % REFUSAL_SECONDS)
        return JSONResponse({"detail": refusal.text}, refusal.status, refusal.headers())

    async def _take(self, request: Request, payload: bytes) -> str:
        import anyio
        import anyio.to_thread

        _check_shape(request.headers)
        conn_id: str = request.path_params["conn_id"]
        if self._verifying is None:
            # Threads of our own: Airflow's API shares its pool of threads among all requests, and waiting
            # for a slow secrets backend must not take them.
            self._verifying, self._storing = anyio.CapacityLimiter(8), anyio.CapacityLimiter(1)
        event = await anyio.to_thread.run_sync(
            self._verify, conn_id, payload, dict(request.headers), limiter=self._verifying
        )
        try:
            outcome: str = await anyio.to_thread.run_sync(
                self._deliveries.register, conn_id, event, limiter=self._storing
            )
        except Exception as error:
            # Nothing was done; Svix comes again. The driver's own words: SQLAlchemy's hold the values, too.
            reason = getattr(error, "orig", None) or type(error).__name__
            _log.error(
                "Delivery %s could not be stored, asked to send it again: %.300s", event.message_id, reason
            )
            raise RefusedError(503, "Could not be stored, send it again.") from None
        self._wake_up.deliver(conn_id, event)
        if outcome == "unused":
            _log.info(
                "Delivery %s: no DAG uses the asset of %s of connection %s; generation %s starts none.",
                event.message_id,
                event.event_type,
                conn_id,
                event.generation_id,
            )
        elif outcome == "accepted":
            self._requeue.delivered(conn_id, event.event_type)
            _log.info(
                "Delivery %s: generation %s, %s.", event.message_id, event.generation_id, event.event_type
            )
        return outcome

    def _verify(self, conn_id: str, payload: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        from airflow_provider_diffio.api.webhooks import verify_webhook

        reason, secrets = "unknown connection, or one without a webhook_secret", None
        try:
            secrets = self._secrets.get(conn_id)
        except DiffioConfigurationError as error:
            reason = error.message
        except Exception as error:
            reason = f"its connection can not be read ({type(error).__name__})"
        try:
            event = verify_webhook(payload, headers, secrets or _NOBODYS_SECRET)
        except DiffioWebhookEventError as error:
            if secrets is None:
                raise NotVerifiedError(reason) from None
            _log.warning("A delivery that Diffio signed is refused: %s", error.message)
            raise RefusedError(422, "Not a generation event.") from None
        except (DiffioWebhookError, DiffioConfigurationError) as error:
            raise NotVerifiedError(error.message if secrets is not None else reason) from None
        except DiffioInputError as error:
            _log.error("Deliveries can not be verified: %s", error)
            raise RefusedError(503, "Can not be verified here yet, send it again.") from None
        if secrets is None:
            raise NotVerifiedError(reason)
        return event


class RateLimitedLog:
    """Logs why deliveries are refused, at most once a second: strangers must not fill the disk."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = 0.0
        self._unsaid = 0

    def refused(self, reason: str) -> None:
        """Note a refusal."""
        now = self._now()
        if now < self._next:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        self._next, self._unsaid = now + 1.0, 0
        _log.warning("A delivery was refused: %s%s", reason, more)


def make_app() -> FastAPI:
    """Return the app that Airflow mounts under ``/diffio``."""
    from fastapi import FastAPI

    # No docs and no redirects: there is one route, and nothing to discover.
    app = FastAPI(title="Diffio", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    receive: Callable[[Request], Awaitable[Response]] = Receiver().receive
    app.add_route("/webhooks/{conn_id}", receive, methods=["POST"])
    return app


def _check_content(headers: Mapping[str, str]) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedError(415, "A delivery is application/json.", close=True)
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedError(415, "A delivery is not compressed.", close=True)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise _too_large()


async def _read_delivery(request: Request) -> bytes:
    from starlette.requests import ClientDisconnect

    _check_content(request.headers)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        raise RefusedError(408, "The body took too long.", close=True) from None
    except ClientDisconnect:
        raise RefusedError(400, "The body ended early.", close=True) from None
    return bytes(body)


def _check_shape(headers: Mapping[str, str]) -> None:
    timestamp = headers.get("svix-timestamp", "")
    if not MESSAGE_ID.match(headers.get("svix-id", "")) or not headers.get("svix-signature"):
        raise NotVerifiedError("it lacks svix headers")
    if not TIMESTAMP.match(timestamp) or abs(int(timestamp) - time.time()) > TOLERANCE + 1:
        raise NotVerifiedError("its time is off; check this machine's clock")


def _too_large() -> RefusedError:
    return RefusedError(413, f"A delivery has {MAX_BODY} bytes at most.", close=True)
