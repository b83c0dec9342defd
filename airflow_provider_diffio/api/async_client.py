"""DiffioAsyncClient: carries calls to Diffio on an event loop, on aiohttp. What a triggerer needs."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import certifi

from airflow_provider_diffio.api.endpoints import Call
from airflow_provider_diffio.api.errors import DiffioConfigurationError
from airflow_provider_diffio.api.held_errors import hold
from airflow_provider_diffio.api.responses import (
    DECODE_IN_THREAD_BYTES,
    connection_error,
    read_response,
    too_large_error,
)
from airflow_provider_diffio.api.settings import ClientSettings, ca_bundle

T = TypeVar("T")

#: How many times the timeout of a single read most responses may take; see ``Call.patience``.
_PATIENCE = 2.0
#: What is raised when there was not even a connection to send the request over.
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class DiffioAsyncClient:
    """
    Diffio, asynchronously. Use it in ``async with``, on the loop it was made on.

    :param settings: where Diffio is, and as whom to talk to it.
    :param sleep: how to wait between tries.
    :raises DiffioConfigurationError: when the environment's proxy is of a kind that cannot be used.
    """

    def __init__(
        self, settings: ClientSettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.settings = settings
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._proxy = settings.proxy_in_use()
        # Made once and not for each of many thousand calls.
        self._headers = settings.request_headers()
        self._timeout = _timeouts(settings.timeout, _PATIENCE)

    async def __aenter__(self) -> DiffioAsyncClient:
        # Reading the CA bundle takes tens of milliseconds, which a shared loop should not stand still for.
        tls = await asyncio.to_thread(_tls_context, self.settings.verify)
        connector = aiohttp.TCPConnector(ssl=tls, limit=16, ttl_dns_cache=300, keepalive_timeout=75)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, call: Call[T]) -> T:
        """
        Send a call to the API and return the result, after the tries that the policy allows.

        :param call: from :mod:`~airflow_provider_diffio.api.endpoints`.
        :raises DiffioError: when it did not work.
        """

        async def send() -> T:
            return await self.call_once(call)

        return await self.settings.retry.async_retrying(call.repeatable, self._sleep)(send)

    async def call_once(self, call: Call[T], *, timeout: float | None = None) -> T:  # noqa: ASYNC109
        """
        Send a call to the API one single time, for a caller that decides itself what to do about failures.

        :param call: from :mod:`~airflow_provider_diffio.api.endpoints`.
        :param timeout: seconds after which there must be a complete response, such as the time until a
            deadline; waiting for a free connection counts. The settings' own bounds hold in any case.
        :raises DiffioError: when it did not work.
        """
        if self._session is None:
            raise RuntimeError("DiffioAsyncClient is used outside of its 'async with' block.")
        bounds = self._bounds(call, timeout)
        with hold(TimeoutError, aiohttp.ClientError, OSError) as held:
            async with self._session.post(
                f"{self.settings.base_url}/{call.path}",
                data=call.content,
                headers=self._headers,
                allow_redirects=False,
                # Found by hand: the library's own trust_env would also read ~/.netrc in place of our key.
                proxy=self._proxy,
                timeout=bounds,
            ) as response:
                body = await _read_bounded(response, call.max_bytes)
                status, headers = response.status, response.headers
        if held.failed:
            sent = not isinstance(held.error, _NEVER_SENT)
            host = urlsplit(self.settings.base_url).netloc
            raise connection_error(call, _describe_failure(held.error, bounds), host, sent=sent)
        if body is None:
            raise too_large_error(call, status)
        secrets = [self.settings.api_key]
        if len(body) > DECODE_IN_THREAD_BYTES:
            return await asyncio.to_thread(read_response, call, status, headers, body, secrets)
        return read_response(call, status, headers, body, secrets)

    def _bounds(self, call: Call[T], timeout: float | None) -> aiohttp.ClientTimeout:
        if timeout is None and call.patience == _PATIENCE:
            return self._timeout
        return _timeouts(self.settings.timeout, call.patience, timeout)


def _timeouts(each: float, patience: float, bound: float | None = None) -> aiohttp.ClientTimeout:
    """
    Return what a request may take.

    :param each: seconds for connecting, and for each read.
    :param patience: how many times as much the whole may take.
    :param bound: seconds that the whole may take in any case.
    """
    total = each * patience
    if bound is not None:
        total = min(total, max(bound, 0.001))
        each = min(each, total)
    # The HTTP library would round longer times up to whole seconds.
    return aiohttp.ClientTimeout(total=total, sock_connect=each, sock_read=each, ceil_threshold=math.inf)


async def _read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    length = response.content_length
    if length is not None and length <= limit and not response.headers.get("Content-Encoding"):
        # The HTTP library reads no more than was announced.
        return await response.read()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _describe_failure(error: BaseException, bounds: aiohttp.ClientTimeout) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"connecting took longer than {bounds.sock_connect or 0:.3g} s"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"nothing came for {bounds.sock_read or 0:.3g} s"
    if isinstance(error, TimeoutError):
        return f"the response was not complete after {bounds.total or 0:.3g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the TLS handshake failed"
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return "the proxy did not pass the request on"
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(
        getattr(error, "os_error", None), socket.gaierror
    ):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "it refused the connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke in the middle of the response"
    return "the connection broke"


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    """Trust what requests trusts, so that a connection works on workers and triggerers or on neither."""
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle = ca_bundle(verify) or certifi.where()
    try:
        if os.path.isdir(bundle):  # noqa: PTH112 - runs in a thread, on a plain string
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError:
        raise DiffioConfigurationError(f"The CA bundle {bundle!r:.200} holds no certificates.") from None
