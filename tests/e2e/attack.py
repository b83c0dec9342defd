"""Many clients at once against the webhook receiver; loopback only, bounded in number and time."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import requests

from tests.plugins.signing import Delivery, event, secret_of, sign

_local = threading.local()


def session() -> requests.Session:
    """One for each thread."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
    found: requests.Session = _local.session
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    problem: str = ""


@dataclass(frozen=True)
class Attempt:
    """One request, and the statuses that are right for it."""

    url: str
    delivery: Delivery
    right: set[int]

    def send(self) -> Answer:
        # As Svix does, try again when asked to.
        for _ in range(5):
            answer = session().post(
                self.url, data=self.delivery.body, headers=self.delivery.headers, timeout=60
            )
            if answer.status_code != requests.codes.service_unavailable:
                break
            time.sleep(1)
        good = answer.status_code in self.right
        return Answer(answer.status_code, "" if good else f"{answer.status_code} {answer.text} {self}")


def bad_attempts(url: str, secret: str, captured: Sequence[Delivery], count: int) -> list[Attempt]:
    """What must not get in: forged, old, future, swapped, malformed, misdirected."""
    forged = event(generationId="forged")
    base = url.rpartition("/")[0]

    def changed(**headers: str) -> Delivery:
        delivery = sign(forged, secret_of("a guess"))
        delivery.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return delivery

    def swapped() -> Delivery:
        return Delivery(sign(forged, secret).body, captured[0].headers, "")

    makers: list[Callable[[], Attempt]] = [
        lambda: Attempt(url, changed(), {400}),
        lambda: Attempt(url, changed(svix_signature="v1,AAAA"), {400}),
        lambda: Attempt(url, changed(svix_id=""), {400}),
        lambda: Attempt(url, sign(forged, secret, age=3600), {400}),
        lambda: Attempt(url, sign(forged, secret, age=-3600), {400}),
        lambda: Attempt(url, swapped(), {400}),
        lambda: Attempt(url, changed(content_type="text/plain"), {415}),
        lambda: Attempt(url, sign(b"{not json", secret), {422}),
        lambda: Attempt(url, sign(b'{"eventType": "generation.completed"}', secret), {422}),
        lambda: Attempt(url, sign(b"x" * 300_000, secret), {413}),
        lambda: Attempt(f"{base}/unknown", sign(forged, secret), {400}),
        lambda: Attempt(f"{base}/..%2fdiffio_default", sign(forged, secret), {404}),
    ]
    return [maker() for maker in itertools.islice(itertools.cycle(makers), count)]


class Probes:
    """Asks a URL five times a second for the length of a ``with`` block."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    def _ask(self) -> None:
        while not self._stop.wait(0.2):
            began = time.monotonic()
            try:
                answer = session().get(self._url, timeout=15)
                if not answer.ok:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
            except requests.RequestException as error:
                self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - began)


@contextlib.contextmanager
def slow_clients(url: str, count: int) -> Iterator[None]:
    """Clients that begin a body and never go on."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            link = stack.enter_context(_connect(url))
            link.sendall(_head(url, "Content-Length: 1000") + b"{")
        yield


@contextlib.contextmanager
def large_bodies(url: str) -> Iterator[list[int]]:
    """Two bodies of 100 MB, one that says so and one that does not; the statuses, 0 for a cut connection."""
    statuses: list[int] = []
    kinds = ["Content-Length: 100000000", "Transfer-Encoding: chunked"]
    threads = [
        threading.Thread(target=lambda kind=kind: statuses.append(_flood(url, kind))) for kind in kinds
    ]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        for thread in threads:
            thread.join(60)


def _flood(url: str, kind: str) -> int:
    block = bytes(65536)
    chunk = b"10000\r\n" + block + b"\r\n" if "chunked" in kind else block
    answer = b""
    with _connect(url) as link, contextlib.suppress(OSError):
        link.sendall(_head(url, kind))
        link.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            answer = link.recv(4096)
        link.settimeout(10)
        for _ in range(1526):
            link.sendall(chunk)
        answer = answer or link.recv(4096)
    return int(answer.split(b" ")[1]) if answer else 0


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)


def _head(url: str, *lines: str) -> bytes:
    delivery = sign(b"{}", secret_of("a guess"))
    fields = [f"{name}: {value}" for name, value in delivery.headers.items()]
    request = [f"POST {urlsplit(url).path} HTTP/1.1", "Host: x", *fields, *lines, "", ""]
    return "\r\n".join(request).encode()
