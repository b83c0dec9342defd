"""A webhook receiver on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One POST as it came in."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What was received so far."""

    url: str = ""
    received: list[Received] = field(default_factory=list)

    def wait(self, count: int, seconds: float = 20.0) -> list[Received]:
        """The deliveries, once there are at least ``count``."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < deadline, self.received
            time.sleep(0.01)
        return list(self.received)


@contextmanager
def receiver(
    statuses: Sequence[int] = (), headers: dict[str, str] | None = None, host: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """A receiver that responds with ``statuses`` in turn, and with 200 after that."""
    post = Receiver()
    responses = iter(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(next(responses, 200))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            post.received.append(Received(names, body))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Stay quiet."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        post.url = f"http://{host}:{server.server_port}/hook"
        yield post
        server.shutdown()
