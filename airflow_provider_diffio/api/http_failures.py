"""Why no response came: the exceptions of requests and urllib3, in words."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import requests
import urllib3.exceptions

from airflow_provider_diffio.api.read_bounds import TooSlowError

_MALFORMED = (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError)


def describe_failure(error: BaseException, timeout: float) -> str:
    """
    Return why no response came, in words that hold no URL (a signed one is a secret).

    :param error: what the HTTP library raised.
    :param timeout: the timeout in seconds that was in force.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, TooSlowError):
            return str(cause)
    if isinstance(error, requests.ConnectTimeout):
        return f"connecting took longer than {timeout:g} s"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"nothing came for {timeout:g} s" if timeout else "nothing came any more"
    if isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)):
        return "the proxy did not pass the request on"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "a proxy of this kind cannot be used"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "it refused the connection"
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, _MALFORMED):
        return "the request could not be written (a header or the URL is malformed)"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke in the middle of the response"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return "the connection broke"


def never_sent(error: BaseException) -> bool:
    """Return whether there was not even a connection to send the request over."""
    kinds = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.InvalidSchema)
    if isinstance(error, (*kinds, *_MALFORMED)):
        return True
    never = (urllib3.exceptions.NewConnectionError, ssl.SSLCertVerificationError)
    return any(isinstance(cause, never) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk an exception, its causes, and the exceptions that urllib3 packs into arguments."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        item = queue.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        queue += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
