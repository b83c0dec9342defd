"""
The webhook receiver: ``POST /diffio/webhooks/{conn_id}`` on Airflow's API server.

A path prefix in ``[api] base_url`` comes before that path. Airflow demands no login for a plugin's app, and
Svix could not log in: the signature over the raw body is the only proof. So everything before it is cheap and
bounded, and nothing tells which connections exist: a wrong signature and an unknown connection get the same
response after the same time. Deliveries to a team's connection (``[core] multi_team``) are not supported.
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

from airflow_provider_diffio.api.clean_text import clean_text
from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioInputError,
    DiffioWebhookError,
    DiffioWebhookEventError,
)
from airflow_provider_diffio.plugins.deliveries import Deliveries, Outcome
from airflow_provider_diffio.plugins.requeue import Requeue
from airflow_provider_diffio.plugins.secrets import WebhookSecrets, connection_secrets
from airflow_provider_diffio.plugins.wakeup import WakeUp

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_provider_diffio.api.models import WebhookEvent

#: Bytes of a body at most. A delivery has less than 2 KiB.
MAX_BODY = 256 * 1024
#: Seconds for the whole body. Svix itself gives up after 15 for everything.
BODY_SECONDS = 10.0
#: Bodies that are being read at once in one process. One more ends the oldest: a delivery's body comes at
#: once.
MAX_UNREAD = 128
#: Refusals leave at whole multiples of this many seconds, so that their time says nothing about look-ups.
REFUSAL_SECONDS = 0.25
#: Deliveries whose body is read that one process handles at once. More are asked to come again.
MAX_IN_FLIGHT = 256
#: The shape of the three headers. Anything else is no delivery, and is refused before any look-up.
MESSAGE_ID = re.compile(r"[A-Za-z0-9_.\-]{1,200}\Z")
TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")
TOLERANCE = 5 * 60

_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")
#: The names that other senders, and some gateways, give to these headers.
_OTHER_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

#: Deliveries to unknown connections are verified against this, so that they take the same way through the
#: code.
_NOBODYS_SECRET = "whsec_" + base64.b64encode(os.urandom(24)).decode()

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that gets no 2xx."""

    def __init__(self, status: int, text: str, *, close: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        #: Whether the connection ends, since the rest of the body is not worth reading.
        self.close = close

    def headers(self) -> dict[str, str]:
        """Return the response's headers."""
        headers = {"connection": "close"} if self.close else {}
        return {**headers, "retry-after": "5"} if self.status == 503 else headers


class NotVerifiedError(RefusedError):
    """The one response to everything that is not proven to come from Diffio. Only the log says the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, "Not a valid delivery.")
        self.reason = reason


class Receiver:
    """
    Takes deliveries.

    :param secrets: knows the connections' secrets.
    :param deliveries: adds asset events.
    """

    def __init__(self, secrets: WebhookSecrets | None = None, deliveries: Deliveries | None = None) -> None:
        self._secrets = secrets or WebhookSecrets(connection_secrets)
        self._deliveries = deliveries or Deliveries()
        self._requeue = Requeue()
        self._wake_up = WakeUp()
        self._refusals = RateLimitedLog()
        self._bodies = BodyReader()
        self._in_flight = 0
        self._limiters: dict[str, Any] = {}

    async def receive(self, request: Request) -> Response:
        """Respond to one request."""
        from starlette.responses import JSONResponse

        try:
            payload = await self._bodies.read(request)
        except RefusedError as error:
            return JSONResponse({"detail": error.text}, error.status, error.headers())
        if self._in_flight >= MAX_IN_FLIGHT:
            return JSONResponse({"detail": "Busy."}, 503, {"retry-after": "5"})
        self._in_flight += 1
        # Not counted from the request's arrival: a sender who dictates the body's pace could then tell on
        # which side of a multiple the rest of the work ends.
        began = time.monotonic()
        try:
            return JSONResponse({"status": await self._take(request, payload)})
        except NotVerifiedError as error:
            refusal: RefusedError = error
            self._refusals.refused(error.reason)
        except RefusedError as error:
            refusal = error
        finally:
            self._in_flight -= 1
        if isinstance(refusal, NotVerifiedError):
            await asyncio.sleep(REFUSAL_SECONDS - (time.monotonic() - began) % REFUSAL_SECONDS)
        return JSONResponse({"detail": refusal.text}, refusal.status, refusal.headers())

    async def _take(self, request: Request, payload: bytes) -> Outcome:
        _check_shape(request.headers)
        conn_id: str = request.path_params["conn_id"]
        # Made-up ids must not take the threads in which real ones are looked up.
        lane = "known" if self._secrets.is_known(conn_id) else "unseen"
        event = await self._in_thread(lane, self._verify, conn_id, payload, dict(request.headers))
        try:
            outcome: Outcome = await self._in_thread("store", self._deliveries.register, conn_id, event)
        except Exception as error:
            # Nothing was stored; Svix sends it again. SQLAlchemy's own text would hold the values, too.
            reason = clean_text(str(getattr(error, "orig", None) or type(error).__name__), 300)
            log.error(  # noqa: TRY400 - see above
                "Could not store delivery %s, asked to send it again: %s", event.message_id, reason
            )
            raise RefusedError(503, "Could not be stored, send it again.") from None
        self._wake_up.deliver(conn_id, event)
        self._after(outcome, conn_id, event)
        return outcome

    def _after(self, outcome: Outcome, conn_id: str, event: WebhookEvent) -> None:
        generation_id = clean_text(event.generation_id, 200)
        if outcome == "unused":
            log.info(
                "Delivery %s: no DAG uses the asset of %s of connection %s yet; generation %s starts none.",
                event.message_id,
                event.event_type,
                conn_id,
                generation_id,
            )
        elif outcome == "accepted":
            self._requeue.delivered(conn_id, event.event_type)
            log.info("Delivery %s: generation %s, %s.", event.message_id, generation_id, event.event_type)

    async def _in_thread(self, lane: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in one of our own threads. Airflow's API shares its threads among all requests."""
        import anyio
        import anyio.to_thread

        if not self._limiters:
            sizes = {"known": 8, "unseen": 2, "store": 1}
            self._limiters = {name: anyio.CapacityLimiter(size) for name, size in sizes.items()}
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiters[lane])

    def _verify(self, conn_id: str, payload: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        from airflow_provider_diffio.api.webhooks import verify_webhook

        reason, secrets = "unknown connection, or one without a webhook_secret", None
        try:
            secrets = self._secrets.get(conn_id)
        except DiffioConfigurationError as error:
            reason = error.message
        except Exception as error:
            reason = f"its connection cannot be read ({type(error).__name__})"
        try:
            event = verify_webhook(payload, headers, secrets or _NOBODYS_SECRET)
        except DiffioWebhookEventError as error:
            if secrets is None:
                raise NotVerifiedError(reason) from None
            log.warning("Refused a delivery that Diffio signed: %s", clean_text(error.message))
            raise RefusedError(422, "Not a generation event.") from None
        except (DiffioWebhookError, DiffioConfigurationError) as error:
            if secrets is not None:
                reason = _why_it_does_not_fit(secrets, error)
            raise NotVerifiedError(reason) from None
        except DiffioInputError as error:
            log.error("Deliveries cannot be verified: %s", error)  # noqa: TRY400 - the message says it all
            raise RefusedError(503, "Cannot be verified here yet, send it again.") from None
        if secrets is None:
            raise NotVerifiedError(reason)
        return event


class BodyReader:
    """Reads bodies that strangers send, within bounds of size, time and number."""

    def __init__(self) -> None:
        # In the order of their arrival.
        self._limits: dict[asyncio.Timeout, None] = {}

    async def read(self, request: Request) -> bytes:
        """
        Return a request's whole body.

        :raises RefusedError: when it is no delivery, too large, too slow, or the oldest of too many.
        """
        from starlette.requests import ClientDisconnect

        _check_content(request.headers)
        body = bytearray()
        limit = asyncio.timeout(BODY_SECONDS)
        try:
            async with limit:
                self._make_room()
                self._limits[limit] = None
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise _too_large()
        except TimeoutError:
            raise RefusedError(408, "The body took too long.", close=True) from None
        except ClientDisconnect:
            raise RefusedError(400, "The body ended early.", close=True) from None
        finally:
            self._limits.pop(limit, None)
        return bytes(body)

    def _make_room(self) -> None:
        while len(self._limits) >= MAX_UNREAD:
            oldest = next(iter(self._limits))
            del self._limits[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


class RateLimitedLog:
    """Logs why deliveries are refused, at most once a second: strangers must not fill the disk."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = 0.0
        self._left_out = 0

    def refused(self, reason: str) -> None:
        """Log a refusal, or count it for the next line."""
        now = self._now()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._next, self._left_out = now + 1.0, 0
        log.warning("A delivery was refused: %s%s", clean_text(reason), more)


def make_app() -> FastAPI:
    """Return the app that Airflow mounts under ``/diffio``."""
    from airflow.providers.common.compat.sdk import conf
    from fastapi import FastAPI

    if conf.getboolean("core", "multi_team", fallback=False):
        log.warning(
            "Diffio's webhook receiver does not support [core] multi_team: it refuses deliveries to the"
            " connection of a team. Use a connection without a team, or a watcher:"
            " diffio_completed_asset(poll_interval=60)."
        )
    # No documentation and no redirects: the app has one route, and nothing to discover.
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


def _check_shape(headers: Mapping[str, str]) -> None:
    missing = [name for name in _HEADERS if not headers.get(name)]
    if missing:
        others = [name for name in _OTHER_HEADERS if headers.get(name)]
        instead = f"; it has {', '.join(others)} instead, so check who sends it" if others else ""
        raise NotVerifiedError(f"it lacks the headers {', '.join(missing)}{instead}")
    if not MESSAGE_ID.match(headers["svix-id"]):
        raise NotVerifiedError("its svix-id has a form that Svix does not send")
    if not TIMESTAMP.match(headers["svix-timestamp"]):
        raise NotVerifiedError("its svix-timestamp is not a number of seconds")
    late = time.time() - int(headers["svix-timestamp"])
    if abs(late) > TOLERANCE + 1:
        side = "behind" if late > 0 else "ahead of"
        raise NotVerifiedError(f"its time is {abs(late):.0f} s {side} this machine's clock; check the clock")


def _why_it_does_not_fit(secrets: str, error: DiffioWebhookError | DiffioConfigurationError) -> str:
    if "'" in secrets or '"' in secrets:
        return "the connection's webhook_secret has quotes in it, so no signature fits; remove them"
    if isinstance(error, DiffioConfigurationError):
        return error.message
    return (
        "its signature fits no webhook_secret of the connection; if Diffio sent it, copy the endpoint's"
        " signing secret again"
    )


def _too_large() -> RefusedError:
    return RefusedError(413, f"A delivery has {MAX_BODY} bytes at most.", close=True)
