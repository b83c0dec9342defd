"""How to reach Diffio and as whom: the settings that both clients share."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_provider_diffio import __version__
from airflow_provider_diffio.api.defaults import (
    AUTH_HEADERS as AUTH_HEADERS,
)
from airflow_provider_diffio.api.defaults import (
    DEFAULT_BASE_URL as DEFAULT_BASE_URL,
)
from airflow_provider_diffio.api.defaults import (
    DEFAULT_MAX_ATTEMPTS as DEFAULT_MAX_ATTEMPTS,
)
from airflow_provider_diffio.api.defaults import (
    DEFAULT_REQUEST_TIMEOUT as DEFAULT_REQUEST_TIMEOUT,
)
from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError
from airflow_provider_diffio.api.results import Secret
from airflow_provider_diffio.api.retry import RetryPolicy

USER_AGENT = f"airflow-provider-diffio/{__version__}"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Headers that a caller's own headers must not replace: the credentials, and what describes the bodies.
_RESERVED_HEADERS = frozenset(
    {name.lower() for name in AUTH_HEADERS}
    | {"accept", "content-type", "content-length", "transfer-encoding"}
)

#: Top-level domains of private networks: mDNS and Kubernetes, ICANN's, IETF's, and what routers use.
_PRIVATE_DOMAINS = frozenset({"local", "internal", "localhost", "test", "lan", "home", "localdomain"})


@dataclass(frozen=True)
class RequestOptions(Secret):
    """
    What one call may do differently from its client.

    :param timeout: seconds for connecting and for each read.
    :param max_attempts: tries of a call that is safe to send again.
    :param headers: further headers for the API host; credentials cannot be set here.
    :param api_key: another API key for this call.
    """

    instead: ClassVar[str] = "what is no credential in it"

    timeout: float | None = None
    max_attempts: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, options: RequestOptions | Mapping[str, Any] | None) -> RequestOptions:
        """
        Return options from what a user gave: None, a mapping with the same names, or options.

        :raises DiffioInputError: for unknown names, and for values that cannot work.
        """
        if options is None:
            return cls()
        if isinstance(options, cls):
            options = vars(options)
        if not isinstance(options, Mapping):
            raise DiffioInputError(f"request_options must be a mapping, not {type(options).__name__}.")
        unknown = set(options) - {"timeout", "max_attempts", "headers", "api_key"}
        if unknown:
            raise DiffioInputError(
                f"request_options has no {', '.join(sorted(map(repr, unknown)))}; it takes timeout,"
                " max_attempts, headers and api_key."
            )
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(given.get("timeout"), timedelta):
            given["timeout"] = given["timeout"].total_seconds()
        try:
            _check_given(given)
        except DiffioConfigurationError as error:
            # It is the call that is wrong, and not the connection.
            raise DiffioInputError(f"request_options: {error.message}") from None
        return cls(**given)


@dataclass(frozen=True)
class ClientSettings(Secret):
    """
    Where Diffio is, and as whom and how patiently to talk to it.

    :param api_key: the API key.
    :param base_url: base URL, with or without ``/v1``.
    :param auth_header: header that carries the key: ``Authorization`` (as Bearer), ``X-Api-Key`` or
        ``Xi-Api-Key``.
    :param timeout: seconds for connecting and for each read.
    :param retry: what is tried again, and how patiently.
    :param headers: further headers for the API host alone.
    :param proxy: http:// or https:// URL of a proxy for all hosts; the environment's settings when None.
    :param verify: True, False, or the path of a CA bundle.
    :param allow_private_http: let the API key and recordings go over plain http to hosts of a private
        network: private addresses, and names that only such a network knows. For a sandbox on another
        machine; everyone on that network can read them.
    :raises DiffioConfigurationError: when something cannot work, above all an API key over plain http.
    """

    instead: ClassVar[str] = "its base_url, or the id of the connection,"

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    auth_header: str = "Authorization"
    timeout: float = DEFAULT_REQUEST_TIMEOUT
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True
    allow_private_http: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str) or not self.api_key.strip():
            raise DiffioConfigurationError("There is no API key: the connection's password is empty.")
        # A key that was read from a file often brings its line break along.
        object.__setattr__(self, "api_key", self.api_key.strip())
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise DiffioConfigurationError(
                "The API key holds characters that no key has, such as a space or a line break."
            )
        object.__setattr__(self, "base_url", normalize_base_url(self.base_url))
        if self.auth_header not in AUTH_HEADERS:
            raise DiffioConfigurationError(
                f"key_header (or auth_header) must be one of {', '.join(AUTH_HEADERS)};"
                f" not {self.auth_header!r:.80}."
            )
        if not self.permits(self.base_url):
            raise DiffioConfigurationError(
                f"The host {urlsplit(self.base_url).netloc} is addressed by plain http, which would show the"
                " API key to everyone on the way.",
                advice=(
                    "Use https:// in the connection's host. For a sandbox in a private network, set the extra"
                    " 'allow_private_http' to true: everyone in that network can then read the key."
                    if is_private(urlsplit(self.base_url).hostname or "")
                    else "Use https:// in the connection's host; plain http is for loopback alone."
                ),
            )
        _check_timeout(self.timeout)
        _check_max_attempts(self.retry.max_attempts)
        if not isinstance(self.verify, (bool, str)) or self.verify == "":
            raise DiffioConfigurationError("verify must be true, false, or the path of a CA bundle.")
        _check_headers(self.headers)
        _check_proxy(self.proxy, "proxy")

    def proxy_in_use(self) -> str | None:
        """
        Return the proxy for the API host: the connection's, or else the environment's.

        :return: a URL with its scheme, or None.
        :raises DiffioConfigurationError: when the environment's is of a kind that only one of the clients
            could use.
        """
        proxy = self.proxy
        if not proxy and not is_loopback(self.host) and not urllib.request.proxy_bypass(self.host):
            proxies = urllib.request.getproxies()
            proxy = proxies.get(self.base_url.partition(":")[0].lower()) or proxies.get("all")
            _check_proxy(proxy, "The proxy of the environment (HTTPS_PROXY or ALL_PROXY)")
        # requests reads host:port as a URL, too.
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy

    def with_options(self, options: RequestOptions | Mapping[str, Any] | None) -> ClientSettings:
        """
        Return the settings for one call.

        :param options: what the call does differently.
        :raises DiffioInputError: for options that do not exist.
        """
        if options is None:
            # By far most calls; checking the settings again is a twentieth of what a small file costs.
            return self
        options = RequestOptions.of(options)
        retry = self.retry
        if options.max_attempts is not None:
            retry = replace(retry, max_attempts=options.max_attempts)
        return replace(
            self,
            api_key=self.api_key if options.api_key is None else options.api_key,
            timeout=self.timeout if options.timeout is None else options.timeout,
            headers=_merged(self.headers, options.headers),
            retry=retry,
        )

    def request_headers(self) -> dict[str, str]:
        """Return the headers of a call to the API host, credentials included."""
        own = {name: value for name, value in self.headers.items() if name.lower() not in _RESERVED_HEADERS}
        headers = _merged({"User-Agent": USER_AGENT}, own)
        bearer = self.auth_header == "Authorization"
        headers[self.auth_header] = f"Bearer {self.api_key}" if bearer else self.api_key
        headers["Content-Type"] = "application/json"
        headers["Accept"] = "application/json"
        return headers

    def permits(self, url: str) -> bool:
        """
        Return whether something secret may be sent to the URL: https, or http within this machine, or, where
        that is allowed, within a private network.

        An API on another machine cannot send us to services of this one.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            return False
        if not host or parts.username or parts.password:
            return False
        if parts.scheme == "https":
            return True
        if parts.scheme != "http":
            return False
        if is_loopback(host) or is_loopback(self.host):
            return is_loopback(host) and is_loopback(self.host)
        return self.allow_private_http and is_private(host) and is_private(self.host)

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""


def normalize_base_url(url: str) -> str:
    """
    Return the base URL with scheme and ``/v1``, without a slash at its end.

    :param url: a URL or a bare host name, with or without ``/v1``.
    :raises DiffioConfigurationError: when it is no http URL, or holds user info, a query or a fragment.
    """
    text = (url or "").strip() or DEFAULT_BASE_URL
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or any(letter in text for letter in "?#@\\ "):
        # The text is not repeated: what stands in the wrong field may be a secret.
        raise DiffioConfigurationError(
            "The connection's host is no usable base URL.",
            advice=f"Give a host name or a URL such as {DEFAULT_BASE_URL}.",
        )
    text = text.rstrip("/")
    return text if text.endswith("/v1") else f"{text}/v1"


def ca_bundle(verify: bool | str) -> str | None:
    """
    Return the path of the CA bundle that ``verify`` or the environment names, or None.

    :raises DiffioConfigurationError: when there is nothing at that path.
    """
    if verify is False:
        return None
    named = verify if isinstance(verify, str) else None
    path = named or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
    if path is not None and not os.path.exists(path):  # noqa: PTH110 - a plain string of the user's
        origin = "verify" if named else "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE"
        raise DiffioConfigurationError(
            f"The CA bundle {path!r:.200}, named by {origin}, does not exist here."
        )
    return path


def is_loopback(host: str) -> bool:
    """Return whether the host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool:
    """
    Return whether a host is in a private network: by its address, or by a name that is of no use elsewhere.

    :param host: a name without a dot, one below a domain of private networks such as ``.internal``, or an
        address of RFC 1918, RFC 4193 or of one link.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return bool(name) and ("." not in name or name.rpartition(".")[2] in _PRIVATE_DOMAINS)
    return address.is_private and not address.is_unspecified


def _check_proxy(proxy: Any, name: str) -> None:
    if proxy is None:
        return
    if not isinstance(proxy, str):
        raise DiffioConfigurationError(f"{name} must be a URL, not {type(proxy).__name__}.")
    scheme, separator, _ = proxy.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        # Workers would go through a SOCKS proxy where a library for it is installed; triggers cannot.
        raise DiffioConfigurationError(
            f"{name} must be an http:// or https:// URL; a proxy of the kind {scheme!r:.20} cannot be used."
        )


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e6:
        raise DiffioConfigurationError(f"timeout must be a positive number of seconds, not {timeout!r:.80}.")


def _check_max_attempts(attempts: Any) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= 100:
        raise DiffioConfigurationError(
            f"max_attempts must be a whole number from 1 to 100, not {attempts!r:.80}."
        )


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in headers.items()
    ):
        raise DiffioConfigurationError("headers must be a mapping from header names to strings.")
    for name, value in headers.items():
        # The value is not shown, since a header may hold a credential.
        if not _HEADER_NAME.fullmatch(name):
            raise DiffioConfigurationError(f"headers: {name!r:.80} cannot be the name of a header.")
        if not value.isascii() or not value.isprintable():
            raise DiffioConfigurationError(f"headers: the value of {name!r} holds characters beyond ASCII.")


def _check_given(options: Mapping[str, Any]) -> None:
    if "timeout" in options:
        _check_timeout(options["timeout"])
    if "max_attempts" in options:
        _check_max_attempts(options["max_attempts"])
    if "headers" in options:
        _check_headers(options["headers"])
    if not isinstance(options.get("api_key", "-"), str) or not options.get("api_key", "-").strip():
        raise DiffioConfigurationError("api_key must be a non-empty string.")


def _merged(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return both; the others win, whatever the case in which a name is written."""
    names = {name.lower() for name in others}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **others}
