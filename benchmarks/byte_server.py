"""
A Diffio that takes bytes and forgets them, as fast as Python can, in a process of its own.

Started as ``python -m benchmarks.byte_server MIB LATENCY_SECONDS``; prints its port. It serves the whole
flow of one recording, and takes ``PUT /raw`` and ``GET /raw`` from others. A download is MIB mebibytes of a
sparse file, sent by the kernel. Each response comes LATENCY_SECONDS late.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, cast
from urllib.parse import urlsplit

MIB = 1024 * 1024
PART = 32 * MIB


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    #: Responses are small and must not wait for more.
    disable_nagle_algorithm = True
    rbufsize = 256 * 1024
    file: IO[bytes]
    mib = 0
    latency = 0.0
    #: Bytes of each part, by number; one upload at a time.
    parts: dict[str, int] = {}

    def do_GET(self) -> None:
        time.sleep(self.latency)
        size = self.mib * MIB
        self.send_response(200)
        self.send_header("Content-Type", "audio/mpeg")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.connection.sendfile(self.file, 0, size)

    def do_PUT(self) -> None:
        size = self._discard()
        time.sleep(self.latency)
        number = urlsplit(self.path).path.rpartition("/")[2]
        self.parts[number] = size
        self._respond({"partNumber": int(number) if number.isdigit() else 0, "etag": f"etag-{number}"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        time.sleep(self.latency)
        self._respond(self._api(urlsplit(self.path).path.rpartition("/v1/")[2], body))

    def _api(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        host = f"http://127.0.0.1:{cast('ThreadingHTTPServer', self.server).server_port}"
        ids = {"apiProjectId": "project", "generationId": "generation", "modelKey": body.get("model")}
        limits = {"partSizeBytes": PART, "maxBytes": 2048 * MIB}
        match endpoint:
            case "create_project":
                self.parts.clear()
                upload = {
                    "uploadSessionId": "session",
                    "edgeBaseUrl": host,
                    "uploadToken": "v1.token.signature",
                    "objectKey": "key",
                    "expiresAt": "2999-01-01T00:00:00Z",
                    **limits,
                }
                return {**ids, "objectPath": "key", "bucket": "bucket", "upload": upload}
            case "uploads/start":
                return {"uploadId": "upload", **limits}
            case "uploads/complete":
                return {"objectKey": "key", "sizeBytes": sum(self.parts.values()), "etag": "etag"}
            case "get_generation_download":
                return {
                    **ids,
                    "downloadType": "audio",
                    "downloadUrl": f"{host}/raw",
                    "fileName": "restored.mp3",
                    "mimeType": "audio/mpeg",
                }
            case "account/settings":
                return {"apiKeyId": "key", "account": {"billingMode": "metered"}}
            case "complete_project_upload":
                size = sum(self.parts.values())
                return {**ids, "status": "uploaded", "uploadStatus": "uploaded", "sizeBytes": size}
            case _:
                return {**ids, "status": "complete", "hasVideo": False}

    def _discard(self) -> int:
        size = left = int(self.headers["Content-Length"])
        block = memoryview(bytearray(MIB))
        while left and (got := self.rfile.readinto(block[: min(left, MIB)])):
            left -= got
        return size - left

    def _respond(self, fields: dict[str, Any]) -> None:
        content = json.dumps(fields).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""


def main() -> None:
    """Serve until killed."""
    Handler.mib, Handler.latency = int(sys.argv[1]), float(sys.argv[2])
    threading.stack_size(256 * 1024)
    with tempfile.TemporaryFile() as file:
        file.truncate(Handler.mib * MIB)
        Handler.file = file
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            print(server.server_port, flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
