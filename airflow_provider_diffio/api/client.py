"""DiffioClient: carries calls to Diffio and bytes to and from its hosts, on requests and tenacity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.exceptions

from airflow_provider_diffio.api import models
from airflow_provider_diffio.api.endpoints import Body, Call, EdgeCall
from airflow_provider_diffio.api.errors import (
    DiffioApiError,
    DiffioResponseError,
    DiffioTransferError,
    DiffioUploadRefusedError,
)
from airflow_provider_diffio.api.held_errors import hold
from airflow_provider_diffio.api.http_failures import describe_failure, never_sent
from airflow_provider_diffio.api.log_redaction import keep_out_of_logs
from airflow_provider_diffio.api.media_stream import MediaStream, media_stream
from airflow_provider_diffio.api.models import SignedPutUpload
from airflow_provider_diffio.api.money import NOTHING_STARTED
from airflow_provider_diffio.api.read_bounds import (
    LEAST_RATE,
    POOL_CLASSES,
    ReadBound,
    bounded_by,
)
from airflow_provider_diffio.api.responses import connection_error, read_response, too_large_error
from airflow_provider_diffio.api.retry import parse_retry_after
from airflow_provider_diffio.api.settings import (
    USER_AGENT,
    ClientSettings,
    RequestOptions,
    ca_bundle,
    is_loopback,
)

T = TypeVar("T")
Options = RequestOptions | Mapping[str, Any] | None

#: Bytes moved at once; the libraries' own 8 to 16 KiB spend most of their time in Python.
BLOCK_BYTES = 1024 * 1024
_MAX_REDIRECTS = 5


class DiffioClient:
    """
    Diffio, synchronously. Safe to use from several threads; close it when done, or use it in ``with``.

    :param settings: where Diffio is, and as whom to talk to it.
    :param sleep: how to wait between tries.
    :param on_secret: told each plaintext API key that a response holds, so that it can be masked wherever it
        is logged. Signed links and upload tokens, of which each file has its own, are kept out of the HTTP
        library's log here: see :mod:`~airflow_provider_diffio.api.log_redaction`.
    :raises DiffioConfigurationError: when the configured CA bundle does not exist, or the environment's proxy
        is of a kind that cannot be used.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        on_secret: Callable[[str], None] = lambda _: None,
    ) -> None:
        ca_bundle(settings.verify)
        # Asked for here, so that a proxy that cannot work is refused before anything is sent.
        settings.proxy_in_use()
        self.settings = settings
        self.sleep = sleep
        self._on_secret = on_secret
        self._session = _Session()
        # A cookie of one host must never reach another host.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(pool_maxsize=16)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        if settings.proxy:
            self._session.proxies = {"http": settings.proxy, "https": settings.proxy}

    def __enter__(self) -> DiffioClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def call(self, call: Call[T], options: Options = None, *, timeout: float | None = None) -> T:
        """
        Send a call to the API and return the result.

        :param call: from :mod:`~airflow_provider_diffio.api.endpoints`.
        :param options: what this call does differently.
        :param timeout: seconds after which there must be a complete response, over all tries. The settings'
            own bounds hold in any case.
        :raises DiffioError: when it did not work, after the tries that the policy allows.
        """
        settings = self.settings.with_options(options)
        until = None if timeout is None else time.monotonic() + timeout
        retrying = settings.retry.retrying(call.repeatable, self.sleep, within=timeout)
        return retrying(lambda: self._call_api(call, settings, until=until))

    def call_once(self, call: Call[T], options: Options = None, *, timeout: float | None = None) -> T:
        """
        Send a call to the API one single time, for a caller that decides itself what to do about failures.

        :param call: from :mod:`~airflow_provider_diffio.api.endpoints`.
        :param options: what this call does differently.
        :param timeout: seconds after which there must be a complete response, such as the time until a
            deadline. The settings' own bounds hold in any case.
        :raises DiffioError: when it did not work.
        """
        settings = self.settings.with_options(options)
        until = None if timeout is None else time.monotonic() + timeout
        return self._call_api(call, settings, until=until)

    def _call_api(self, call: Call[T], settings: ClientSettings, *, until: float | None) -> T:
        if until is not None:
            left = max(until - time.monotonic(), 0.001)
            settings = replace(settings, timeout=min(settings.timeout, left))
        return self._exchange(
            call,
            settings,
            method="POST",
            url=f"{settings.base_url}/{call.path}",
            headers=settings.request_headers(),
            data=call.content,
            until=until,
        )

    def call_edge(
        self, call: EdgeCall[T], options: Options = None, *, sleep: Callable[[float], None] | None = None
    ) -> T:
        """
        Send a call to the upload host, under the session's token and without the API key.

        :param call: from :mod:`~airflow_provider_diffio.api.endpoints`; a part's content must be bytes, or a
            stream that ``seek(0)`` takes back to its start.
        :param options: what this call does differently; headers and key do not apply to this host.
        :param sleep: how to wait between tries of this call.
        :raises DiffioError: when it did not work, after the tries that the policy allows.
        """
        settings = self.settings.with_options(options)
        self._check_target(call.session.base_url, "upload", "create_project")

        def send() -> T:
            if not isinstance(call.content, bytes):
                call.content.seek(0)
            return self._exchange(
                call,
                settings,
                method=call.method,
                url=call.url,
                headers={
                    "Authorization": f"Bearer {call.session.token}",
                    "Content-Type": call.content_type,
                    "User-Agent": USER_AGENT,
                },
                data=call.content,
                params=call.query,
            )

        return settings.retry.retrying(call.repeatable, sleep or self.sleep)(send)

    def put_file(
        self, upload: SignedPutUpload, content: Body, content_type: str, options: Options = None
    ) -> None:
        """
        Send a whole file to a signed URL: the announced Content-Type, no Authorization.

        :param upload: from ``create_project``.
        :param content: a stream that knows its length and that ``seek(0)`` takes back to its start.
        :param content_type: as announced to ``create_project``.
        :param options: what this call does differently; headers and key do not apply to this host.
        :raises DiffioError: when it did not work, after the tries that the policy allows.
        """
        settings = self.settings.with_options(options)
        self._check_target(upload.url, "upload", "create_project")
        keep_out_of_logs(upload.url)
        # Sending a file to the same place twice leaves the same file there, so this call is repeatable.
        call: Call[None] = Call("the signed upload URL", lambda _: None)

        def send() -> None:
            content.seek(0)
            headers = {"Content-Type": content_type, "User-Agent": USER_AGENT}
            with self._send(
                call, settings, method=upload.method, url=upload.url, headers=headers, data=content
            ) as response:
                if response.status_code >= 300:
                    raise _signed_put_error(response)

        settings.retry.retrying(repeatable=True, sleep=self.sleep)(send)

    @contextmanager
    def open_media(
        self, url: str, *, offset: int = 0, validator: str | None = None, options: Options = None
    ) -> Iterator[MediaStream]:
        """
        Open a download link, without any credential of ours.

        :param url: from ``get_generation_download``.
        :param offset: bytes already there; the server is asked for the rest of the same file.
        :param validator: the ETag under which the first bytes came, so that the rest is of the same file.
        :param options: what this call does differently; headers and key do not apply to this host.
        :raises DiffioLinkRefusedError: when the link is not accepted (any more).
        :raises RangeRefusedError: when the server has nothing to send after ``offset``.
        :raises DiffioTransferError: when no response comes, or one with another error status.
        :raises DiffioResponseError: when a link or redirect leads where it must not.
        """
        settings = self.settings.with_options(options)
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator:
                headers["If-Range"] = validator
        call: Call[None] = Call("the download link", lambda _: None)
        for _ in range(_MAX_REDIRECTS):
            self._check_target(url, "download", "get_generation_download")
            keep_out_of_logs(url)
            bound = ReadBound(settings.timeout, least_rate=LEAST_RATE)
            with self._send(call, settings, method="GET", url=url, headers=headers, bound=bound) as response:
                if response.status_code in (301, 302, 303, 307, 308):
                    url = _redirected(url, response.headers.get("location"))
                    continue
                yield media_stream(response, offset)
                return
        raise DiffioResponseError(
            f"The download link was redirected more than {_MAX_REDIRECTS} times.",
            endpoint="get_generation_download",
        )

    def _check_target(self, url: str, purpose: str, endpoint: str) -> None:
        if not self.settings.permits(url):
            scheme = url.partition(":")[0][:20]
            raise DiffioResponseError(
                f"Diffio named {scheme}://{_host(url)} as {purpose} host; only https will do.",
                endpoint=endpoint,
                advice="Nothing was sent there. If this goes on, ask Diffio.",
            )

    def _exchange(
        self,
        call: Call[T] | EdgeCall[T],
        settings: ClientSettings,
        *,
        url: str,
        until: float | None = None,
        **request: Any,
    ) -> T:
        total = settings.timeout * call.patience
        bound = ReadBound(settings.timeout, total=total, until=until)
        with self._send(call, settings, url=url, bound=bound, **request) as response:
            body = self._read_bounded(call, settings, response, url)
            secrets = [settings.api_key]
            if isinstance(call, EdgeCall):
                secrets.append(call.session.token)
            result = read_response(call, response.status_code, response.headers, body, secrets)
        if isinstance(result, models.ApiKey) and result.key:
            self._on_secret(result.key)
        return result

    def _read_bounded(
        self, call: Call[Any] | EdgeCall[Any], settings: ClientSettings, response: requests.Response, url: str
    ) -> bytes:
        chunks: list[bytes] = []
        size = 0
        with hold(requests.RequestException) as held:
            for chunk in response.iter_content(64 * 1024):
                size += len(chunk)
                if size > call.max_bytes:
                    break
                chunks.append(chunk)
        if held.failed:
            raise connection_error(call, describe_failure(held.error, settings.timeout), _host(url))
        if size > call.max_bytes:
            raise too_large_error(call, response.status_code)
        return b"".join(chunks)

    def _send(
        self,
        call: Call[Any] | EdgeCall[Any],
        settings: ClientSettings,
        *,
        url: str,
        headers: Mapping[str, str],
        bound: ReadBound | None = None,
        **request: Any,
    ) -> requests.Response:
        bound = bound or ReadBound(settings.timeout, total=settings.timeout * call.patience)
        with hold(requests.RequestException, UnicodeError) as held, bounded_by(bound):
            return self._session.request(
                url=url,
                headers=headers,
                # Without an auth of its own, requests would put credentials from ~/.netrc in place of ours.
                auth=_NoAuth(),
                timeout=settings.timeout,
                # Given per request, since the session's value loses against REQUESTS_CA_BUNDLE.
                verify=self._verify(),
                proxies=_proxies_for(url),
                allow_redirects=False,
                stream=True,
                **request,
            )
        reason = describe_failure(held.error, settings.timeout)
        raise connection_error(call, reason, _host(url), sent=not never_sent(held.error))

    def _verify(self) -> bool | str | None:
        return None if self.settings.verify is True else self.settings.verify


class _Session(requests.Session):
    """Leaves redirects alone: requests would read their bodies whole, and trip over odd targets."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _NoAuth(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Adapter(requests.adapters.HTTPAdapter):
    """Sends request bodies in large blocks (urllib3's own are 16 KiB) and holds responses to their bounds."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, blocksize=BLOCK_BYTES, **options)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **{"blocksize": BLOCK_BYTES, **options})
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = POOL_CLASSES
        return manager


def _proxies_for(url: str) -> dict[str, str] | None:
    """Keep the environment's proxy, which would see the key, out of what stays within this machine."""
    host = urlsplit(url).hostname or ""
    return {"no_proxy": host} if is_loopback(host) else None


def _redirected(url: str, location: str | None) -> str:
    try:
        return urljoin(url, location or "")
    except ValueError:
        # As a target it is refused like any other that is no usable link.
        return ""


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname or 'no host'}{port}"
    except ValueError:
        return "no host"


def _signed_put_error(response: requests.Response) -> DiffioApiError | DiffioTransferError:
    # The body is not shown: a store's error page may repeat the signed URL.
    status = response.status_code
    page = response.headers.get("content-type", "").lower().startswith("text/html")
    if status in (401, 403) and not page:
        return DiffioUploadRefusedError(
            "The store refused the signed upload URL.",
            status_code=status,
            endpoint="create_project",
            money=NOTHING_STARTED,
        )
    retry_after = parse_retry_after(response.headers.get("retry-after"), time.time())
    # Stores write their errors in XML; a page comes from a gateway in between.
    passes = status in (408, 429) or status >= 500 or (page and status < 500)
    cls = DiffioTransferError if passes else DiffioApiError
    return cls(
        "The store did not take the file.",
        status_code=status,
        endpoint="create_project",
        retry_after=retry_after,
        money=NOTHING_STARTED,
    )
