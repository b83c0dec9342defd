"""A small HTTP server on loopback that says what a test tells it to, well-behaved or not."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


#: What happens on one connection after its request was read: raw bytes to send, or something to do.
Step = bytes | Callable[["Connection"], None]


@dataclass
class Connection:
    """One connection, for steps that are more than bytes."""

    socket: socket.socket
    request: Request
    closing: threading.Event

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def reset(self) -> None:
        """Close so that the peer sees a reset and not an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def answer(
    body: Any = None,
    status: int = 200,
    *,
    content_type: str | None = "application/json",
    length: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """
    Write an answer.

    :param body: bytes as they are; anything else as JSON.
    :param length: announced instead of the true length; -1 announces none.
    :param headers: further headers.
    """
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length != -1:
        lines.append(f"Content-Length: {len(content) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def error(
    status: int, message: str = "No.", code: str | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Write an error in the API's shape."""
    return answer({"error": message, **({"code": code} if code else {})}, status, headers=headers)


def reset(connection: Connection) -> None:
    """Give no answer but a reset."""
    connection.reset()


def hang(connection: Connection) -> None:
    """Give no answer at all, until the test is over."""
    connection.closing.wait(10)


@dataclass
class Scripted:
    """The server: plays its steps one by one, and the last one for ever."""

    steps: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, *steps: Step) -> None:
        self.steps = list(steps)

    def _serve(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as reader:
            try:
                request = _read(reader)
                if request is None:
                    return
                with self._lock:
                    self.requests.append(request)
                    step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                if isinstance(step, bytes):
                    peer.sendall(step)
                else:
                    step(Connection(peer, request, self._closing))
            except OSError:
                return


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Listen on a free port of loopback."""
    server = Scripted()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server._closing.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _read(reader: Any) -> Request | None:
    line = reader.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while (header := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(line[0], line[1], headers, body)
