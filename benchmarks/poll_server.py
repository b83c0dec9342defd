"""
A TLS server that responds to the polls of every contender, in a process of its own: as little as HTTP allows.

Started as ``python -m benchmarks.poll_server FOLDER POLLS``. It writes ``ca.pem`` (the usual authorities and
its own) and ``port`` into the folder; each job is over at its POLLS-th poll, or never, for 0.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from pathlib import Path

Headers = dict[bytes, bytes]

RUNNING = {"life_cycle_state": "RUNNING", "state_message": ""}
TERMINATED = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}


class Polls:
    """What was asked so far."""

    def __init__(self, polls_per_job: int) -> None:
        self.polls_per_job = polls_per_job
        self.connections = 0
        self.requests = 0
        self._polls: Counter[str] = Counter()

    def respond(self, path: str, body: bytes) -> object:
        """Return what the service with that path would say."""
        if path == "/stats":
            return {"connections": self.connections, "requests": self.requests}
        self.requests += 1
        if path.startswith("/api/v2/accounts/"):
            return {"data": {"id": 1, "status": 10 if self._over(path) else 3}}
        if path.startswith("/api/2.2/jobs/runs/get"):
            run = json.loads(body)["run_id"] if body else path
            return {"run_id": 1, "state": TERMINATED if self._over(f"databricks {run}") else RUNNING}
        asked = json.loads(body)
        return diffio_progress(asked, self._over(f"diffio {asked['generationId']}"))

    def _over(self, job: str) -> bool:
        self._polls[job] += 1
        return 0 < self.polls_per_job <= self._polls[job]


def diffio_progress(asked: dict[str, str], over: bool) -> object:
    """Return what Diffio says about a generation, with all the fields of a running one."""
    stage = {"jobId": "j-1", "jobState": "RUNNING", "status": "running", "progress": 40, "statusMessage": ""}
    return {
        "generationId": asked["generationId"],
        "apiProjectId": asked.get("apiProjectId"),
        "status": "complete" if over else "processing",
        "hasVideo": False,
        "stage": "restoring",
        "stageProgress": {"overallPercent": 40, "stagePercent": 50, "durationSeconds": 3600},
        "preProcessing": {**stage, "status": "complete", "progress": 100},
        "inference": {**stage, "error": None, "errorDetails": None},
        "restoredVideo": None,
    }


class Http(asyncio.Protocol):
    """One connection; requests one after the other."""

    def __init__(self, polls: Polls) -> None:
        self._polls = polls
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._polls.connections += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        fields = (line.partition(b":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        length = int(headers.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        content = json.dumps(self._polls.respond(lines[0].split(b" ")[1].decode(), rest[:length])).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
            + content
        )


async def serve(folder: Path, polls: Polls, tls: ssl.SSLContext) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http(polls), "127.0.0.1", 0, ssl=tls, backlog=4096)
    waiting = folder / "port.tmp"
    waiting.write_text(str(server.sockets[0].getsockname()[1]))
    waiting.rename(folder / "port")
    await server.serve_forever()


def certificates(folder: Path) -> ssl.SSLContext:
    """Make an authority and a certificate of its own."""
    import certifi
    import trustme

    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    bundle = Path(certifi.where()).read_bytes() + b"\n" + authority.cert_pem.bytes()
    (folder / "ca.pem").write_bytes(bundle)
    return tls


if __name__ == "__main__":
    place = Path(sys.argv[1])
    asyncio.run(serve(place, Polls(int(sys.argv[2])), certificates(place)))
