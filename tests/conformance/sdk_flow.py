"""The whole of Diffio's flow by the official SDK, unchanged; runs in an environment that has nothing else.

Usage: ``python sdk_flow.py ADDRESS_OF_THE_API KEY WEBHOOK_SECRET RECORDING FOLDER``. Prints a JSON report.
Knows both generations of the SDK and asks the installed one which it is.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffio import DiffioClient  # type: ignore[import-not-found, unused-ignore]

EVENTS = ["generation.queued", "generation.processing", "generation.failed", "generation.completed"]


class Receiver(BaseHTTPRequestHandler):
    """Keeps what the webhooks bring."""

    received: list[tuple[dict[str, str], bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((dict(self.headers.items()), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""


def main() -> None:
    """Run the flow and report."""
    base_url, api_key, secret, recording, folder = sys.argv[1:]
    report: dict[str, Any] = {"version": version("diffio")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = f"http://127.0.0.1:{server.server_port}/hook"
        with DiffioClient(apiKey=api_key, baseUrl=base_url) as client:
            report["webhook"] = client.webhooks.configure(mode="live", url=hook, eventTypes=EVENTS).webhook
            report |= restore(client, recording, Path(folder))
            report |= account(client)
            report |= webhooks(client, secret)
        server.shutdown()
    sys.stdout.write(json.dumps(report))


def restore(client: Any, recording: str, folder: Path) -> dict[str, Any]:
    """Upload, start twice under one key, wait, download, list."""
    model = "diffio-4.6-flash" if version("diffio") >= "0.3" else "diffio-4.0-flash"
    project = client.create_project(filePath=recording)
    project_id = project.apiProjectId
    generation, again = (
        client.create_generation(apiProjectId=project_id, model=model, idempotencyKey="once")
        for _ in range(2)
    )
    generation_id = generation.generationId
    seen: list[str] = []
    progress = client.generations.wait_for_complete(
        generationId=generation_id,
        apiProjectId=project_id,
        pollInterval=0.1,
        timeout=60,
        onProgress=lambda update: seen.append(update.status),
    )
    ids = {"generationId": generation_id, "apiProjectId": project_id}
    files = {"mp3": folder / "restored.mp3", "transcript": folder / "transcript.json"}
    for kind, path in files.items():
        client.generations.download(**ids, downloadType=kind, downloadFilePath=str(path))
    link = client.generations.get_download(**ids, downloadType="audio")
    return {
        "upload": vars(project.uploadCompletion) if hasattr(project, "uploadCompletion") else None,
        "bucket": getattr(project, "bucket", None),
        "model": generation.modelKey,
        "generationId": generation_id,
        "againId": again.generationId,
        "replayed": [generation.idempotentReplay, again.idempotentReplay],
        "seen": list(dict.fromkeys(seen)),
        "status": progress.status,
        "stages": [progress.preProcessing.status, progress.inference.status],
        "stage": getattr(progress, "stage", None),
        "jobState": progress.inference.jobState,
        "transcription": progress.transcription.status,
        "link": vars(link),
        "projects": [vars(entry) for entry in client.projects.list().projects],
        "generations": [
            vars(entry) for entry in client.projects.list_generations(apiProjectId=project_id).generations
        ],
    }


def account(client: Any) -> dict[str, Any]:
    """Settings, keys, usage."""
    policy = {"type": "internalDiffio", "reason": "conformance"}
    made = client.api_keys.create(label="child", scopes=["projects:read"])
    rotated = client.api_keys.rotate(keyId=made.keyId)
    with DiffioClient(apiKey=rotated.key, baseUrl=client.baseUrl) as child:
        child_projects = len(child.projects.list().projects)
    return {
        "apiKeyId": client.account.get_settings().apiKeyId,
        "policy": client.account.update_settings(billingPolicy=policy).account["billingPolicy"],
        "keyPrefixFits": made.key.startswith(made.keyPrefix),
        "keyChanged": made.key != rotated.key,
        "childProjects": child_projects,
        "revoked": client.api_keys.revoke(keyId=made.keyId).status,
        "keys": [[key.role, key.status] for key in client.api_keys.list().keys],
        "modelSeconds": client.usage.summary().usage["periods"][0]["modelSeconds"],
    }


def webhooks(client: Any, secret: str) -> dict[str, Any]:
    """Verify every delivery, a test event's among them."""
    sent = client.webhooks.send_test_event(
        eventType="generation.failed", mode="live", samplePayload={"apiProjectId": "proj_123"}
    )
    deadline = time.monotonic() + 20
    while len(Receiver.received) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    events = [
        client.webhooks.verify_signature(payload=body, headers=headers, secret=secret)
        for headers, body in Receiver.received
    ]
    return {
        "testEventId": sent.eventId,
        "events": sorted([event.eventType, event.status, event.eventId] for event in events),
    }


if __name__ == "__main__":
    main()
