"""Whether Diffio can be reached, and what it lets the key do: only questions that cost nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.client import DiffioClient
from airflow_provider_diffio.api.endpoints import Call
from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioBillingError,
    DiffioConfigurationError,
    DiffioError,
    DiffioModelRetiredError,
    DiffioNotFoundError,
    DiffioPermissionError,
    DiffioResponseError,
)
from airflow_provider_diffio.api.http_failures import describe_failure
from airflow_provider_diffio.api.settings import ca_bundle
from airflow_provider_diffio.cli.findings import Finding
from airflow_provider_diffio.hooks.connection import DiffioConnection
from airflow_provider_diffio.hooks.permissions import NO_GENERATION, NO_PROJECT

#: Seconds for the first answer of the host.
_FIRST_ANSWER = 2.5
#: Svix's tolerance: with a clock that is further off, deliveries are refused.
_CLOCK_TOLERANCE = 300.0
_CLOCK_NOTE = 30.0
#: How a response names a permission that a key lacks, and not an object that belongs to somebody else.
_NAMES_A_PERMISSION = re.compile(r"\b[a-z_]+:(?:read|write)\b|permission|scope|not allowed", re.IGNORECASE)
_NOT_DIFFIO = "Correct the connection's host: it must be Diffio's API, such as https://api.diffio.ai/v1."


def check_service(config: DiffioConnection, budget: float) -> Iterator[Finding]:
    """
    Ask Diffio.

    :param config: the connection.
    :param budget: seconds for all of it.
    """
    until = time.monotonic() + budget
    reached = False
    for finding in _check_reach(config):
        reached = reached or (finding.area == "host" and finding.level == "ok")
        yield finding
    if not reached:
        return
    with DiffioClient(config.settings) as client:
        ask = _Questions(client, until)
        accepted = False
        for finding in _check_key(ask):
            accepted = accepted or finding.level == "ok"
            yield finding
        if accepted:
            yield from _check_scopes(ask, config.model)


class _Questions:
    """Asks each question once, within the time that is left."""

    def __init__(self, client: DiffioClient, until: float) -> None:
        self._client = client
        self._until = until

    def error_of(self, call: Call[Any]) -> DiffioError | None:
        """Return how Diffio refused a call, or None when it did what was asked."""
        try:
            self._client.call_once(call, timeout=max(0.5, self._until - time.monotonic()))
        except DiffioError as error:
            return error
        return None


def _check_reach(config: DiffioConnection) -> Iterator[Finding]:
    """Send a request without any key, and look at how it fares."""
    settings = config.settings
    try:
        proxy = settings.proxy_in_use()
        bundle = ca_bundle(settings.verify)
    except DiffioConfigurationError as error:
        area = "TLS" if "CA bundle" in error.message else "proxy"
        yield Finding(area, "problem", error.message, error.advice)
        return
    asked = time.time()
    try:
        response = requests.get(
            settings.base_url,
            timeout=_FIRST_ANSWER,
            allow_redirects=False,
            stream=True,
            verify=settings.verify if bundle is None else bundle,
            proxies={"http": proxy or "", "https": proxy or ""},
        )
        response.close()
    except (requests.RequestException, OSError, ValueError) as error:
        yield _unreached(settings.base_url, describe_failure(error, _FIRST_ANSWER), proxy)
        return
    if response.status_code == 407:
        yield Finding(
            "proxy",
            "problem",
            f"The proxy {_without_password(proxy)} wants a user and a password (407).",
            "Write them into the proxy's URL: http://user:password@host:port.",
        )
        return
    through = f" through the proxy {_without_password(proxy)}" if proxy else ""
    took = (time.time() - asked) * 1000
    yield Finding("host", "ok", f"{settings.host} responds{through} in {took:.0f} ms.")
    yield _clock(response.headers.get("Date"), (asked + time.time()) / 2)


def _unreached(url: str, reason: str, proxy: str | None) -> Finding:
    cause = f"{urlsplit(url).netloc} cannot be reached: {reason}."
    if "certificate" in reason or "TLS" in reason:
        return Finding(
            "TLS",
            "problem",
            cause,
            "Where a proxy or a gateway of your own has its own CA, give the extra 'verify' the path of that"
            " CA's bundle. Otherwise the host may be wrong, or is not https.",
        )
    if proxy:
        return Finding(
            "proxy",
            "problem",
            f"{cause} The request goes through the proxy {_without_password(proxy)}.",
            "Correct the extra 'proxy' (or HTTPS_PROXY), or exclude the host by NO_PROXY.",
        )
    fixes = {
        "its name cannot be resolved": "Correct the connection's host, or the DNS of this machine. Where only"
        " a proxy leads outside, set the extra 'proxy'.",
        "it refused the connection": "Correct host and port. For a sandbox: is it running?",
    }
    return Finding(
        "host",
        "problem",
        cause,
        fixes.get(reason, "Correct host and port, open the firewall, or set the extra 'proxy'."),
    )


def _clock(date: str | None, now: float) -> Finding:
    try:
        off = now - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return Finding("clock", "unknown", "The host does not say what time it is.")
    if abs(off) < _CLOCK_NOTE:
        return Finding("clock", "ok", "This machine's clock agrees with the host's.")
    direction = "fast" if off > 0 else "slow"
    cause = f"This machine's clock is {abs(off):.0f} s {direction}, by the host's."
    if abs(off) < _CLOCK_TOLERANCE:
        return Finding("clock", "note", cause, "Set it by NTP.")
    return Finding(
        "clock",
        "problem",
        f"{cause} Webhooks are refused, and stores may refuse signatures.",
        "Set it by NTP (timedatectl set-ntp true), on every machine of Airflow.",
    )


def _check_key(ask: _Questions) -> Iterator[Finding]:
    error = ask.error_of(endpoints.get_account_settings())
    if error is None:
        yield Finding("key", "ok", "Diffio accepts the API key.")
    elif isinstance(error, DiffioPermissionError):
        yield Finding("key", "ok", "Diffio accepts the API key, which may not read the account (not needed).")
    elif isinstance(error, DiffioAuthenticationError):
        yield Finding(
            "key",
            "problem",
            f"Diffio refuses the API key: {error.message}",
            "Put a key that is active into the connection's password. Where a gateway wants it elsewhere, see"
            " the extra 'key_header'.",
        )
    elif isinstance(error, DiffioBillingError):
        yield Finding("key", "problem", f"Diffio wants to be paid: {error.message}", error.advice)
    elif isinstance(error, (DiffioResponseError, DiffioNotFoundError)):
        yield Finding(
            "host", "problem", f"The host does not respond like Diffio: {error.message}", _NOT_DIFFIO
        )
    else:
        yield Finding("host", "problem", error.message, error.advice)


def _check_scopes(ask: _Questions, model: str) -> Iterator[Finding]:
    """Ask for what does not exist: whoever may ask is told so, and nothing is made."""
    start = endpoints.create_generation(NO_PROJECT, model=model, idempotency_key="diffio-doctor")
    questions: tuple[tuple[str, str, Call[Any]], ...] = (
        ("projects:write", "upload recordings", endpoints.complete_project_upload(NO_PROJECT)),
        ("generations:write", "start generations", start),
        ("generations:read", "wait for generations", endpoints.get_generation_progress(NO_GENERATION)),
        (
            "artifacts:read",
            "download what was paid for",
            endpoints.get_generation_download(NO_GENERATION, NO_PROJECT),
        ),
    )
    may = []
    for scope, purpose, call in questions:
        error = ask.error_of(call)
        if isinstance(error, DiffioPermissionError):
            yield _refused(scope, purpose, error)
        else:
            may.append(purpose)
        if call is start:
            yield from _check_model(model, error)
    if may:
        yield Finding("scopes", "ok", f"The key may {', '.join(may)}.")


def _refused(scope: str, purpose: str, error: DiffioPermissionError) -> Finding:
    if _NAMES_A_PERMISSION.search(error.message):
        return Finding(
            "scopes",
            "problem",
            f"The key may not {purpose}: {error.message}",
            f"Give the key the scope {scope}. Restoring needs projects:write, generations:write,"
            " generations:read and artifacts:read.",
        )
    return Finding(
        "scopes",
        "unknown",
        f"Whether the key may {purpose} ({scope}) is not known: Diffio refuses to speak of ids that do not"
        f" exist ({error.message})",
    )


def _check_model(model: str, error: DiffioError | None) -> Iterator[Finding]:
    if isinstance(error, DiffioModelRetiredError):
        supported = ", ".join(error.supported_models)
        yield Finding(
            "model",
            "problem",
            f"Diffio does not offer the model {model!r:.80}: it has retired it, or never had it.",
            f"Set the extra 'model' to one of {supported}." if supported else "Set the extra 'model'.",
        )
    elif isinstance(error, DiffioNotFoundError) and "project" not in error.message.lower():
        yield Finding(
            "model",
            "problem",
            f"Diffio has no model {model!r:.80}.",
            "Correct the extra 'model', or leave it out for the provider's default"
            f" ({endpoints.DEFAULT_MODEL}).",
        )
    elif isinstance(error, DiffioNotFoundError):
        yield Finding("model", "ok", f"Diffio has the model {model}.")


def _without_password(proxy: str | None) -> str:
    parts = urlsplit(proxy or "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
