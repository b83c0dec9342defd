"""Verifying and reading a webhook delivery (signed by Svix)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence

from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioError,
    DiffioInputError,
    DiffioWebhookError,
    DiffioWebhookEventError,
)
from airflow_provider_diffio.api.json_fields import JSONFields, clean
from airflow_provider_diffio.api.models import WebhookEvent

_MALFORMED = "A webhook secret is not of the form whsec_<base64>."
#: Svix's own secrets have 24 bytes.
SECRET_BYTES = 16
_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")


def verify_webhook(
    payload: bytes | str, headers: Mapping[str, str | Sequence[str]], secrets: str | Iterable[str]
) -> WebhookEvent:
    """
    Check a delivery's signature and age, and return its event.

    :param payload: the raw body as it arrived; JSON that was parsed and written again has another signature.
    :param headers: the delivery's headers, in any case; a value may be a list, of which the first counts.
    :param secrets: the endpoint's signing secret (``whsec_...``), or several while they are rotated, as a
        list or comma-separated.
    :raises DiffioWebhookError: when headers are missing, no secret fits, or the delivery is more than five
        minutes old or ahead.
    :raises DiffioWebhookEventError: when all that is right, but the body is no generation event.
    :raises DiffioConfigurationError: when there is no usable secret, or one of less than 16 bytes, which
        could be guessed.
    :raises DiffioInputError: when the ``svix`` library is not installed.
    """
    try:
        from svix.webhooks import Webhook, WebhookVerificationError
    except ImportError:
        raise DiffioInputError(
            "Verifying webhooks needs the svix library.",
            advice="Install airflow-provider-diffio[webhooks].",
        ) from None

    raw = payload.encode() if isinstance(payload, str) else payload
    lower = {name.lower(): _first(value) for name, value in headers.items()}
    missing = [name for name in _HEADERS if not lower.get(name)]
    if missing:
        raise DiffioWebhookError(f"The delivery lacks the headers {', '.join(missing)}.")
    signed = {name: lower[name] for name in _HEADERS}
    verified = False
    for secret in split_secrets(secrets):
        _check_length(secret)
        try:
            verifier = Webhook(secret)
        except Exception:
            # An empty secret raises a class of its own, whose module differs between svix releases.
            raise DiffioConfigurationError(_MALFORMED) from None
        try:
            verifier.verify(raw, signed)
            verified = True
            break
        except (json.JSONDecodeError, RecursionError):
            # The library reads the body as its last step, so the signature fits.
            verified = True
            break
        except (WebhookVerificationError, ValueError):
            continue
    if not verified:
        raise DiffioWebhookError("The delivery's signature does not fit, or its time is off.")
    return _read_event(raw, lower["svix-id"])


def _first(value: object) -> str:
    """Return a header's value, or the first of several, as frameworks give them that keep lists."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _check_length(secret: str) -> None:
    try:
        content = base64.b64decode(secret.removeprefix("whsec_"))
    except ValueError:
        raise DiffioConfigurationError(_MALFORMED) from None
    if content and len(content) < SECRET_BYTES:
        raise DiffioConfigurationError(
            f"A webhook secret has {len(content)} bytes; less than {SECRET_BYTES} could be guessed.",
            advice="Copy the endpoint's whole signing secret from Diffio's dashboard.",
        )


def split_secrets(secrets: str | Iterable[str]) -> list[str]:
    """
    Return the secrets one by one.

    :raises DiffioConfigurationError: when no secret is given.
    """
    parts = secrets.split(",") if isinstance(secrets, str) else list(secrets or ())
    if not all(isinstance(part, str) for part in parts):
        raise DiffioConfigurationError(_MALFORMED)
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise DiffioConfigurationError(
            "There is no webhook secret.",
            advice="Put the endpoint's whsec_... into the connection's extra 'webhook_secret'.",
        )
    return found


def _read_event(raw: bytes, message_id: str) -> WebhookEvent:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise DiffioWebhookEventError("The delivery's body is not a JSON object.")
    try:
        return WebhookEvent.read(JSONFields(body, "the webhook"), clean(message_id))
    except DiffioError as error:
        raise DiffioWebhookEventError(error.message) from None
