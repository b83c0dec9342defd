"""
Sends generated texts through everything by which Diffio's texts enter Airflow, on the environment's database.

    python -m tests.plugins.text_flow <texts>

By webhook, through the receiver; by watcher, whose events are stored as Airflow's triggerer does; as error
messages, in exceptions and the log; and as XCom. Then Airflow's own REST API shows all events. Prints one
line of JSON: how many came out on each way, and which characters should not have.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.plugins.api_server_processes import make_tables
from tests.plugins.signing import event, secret_of, sign
from tests.texts import texts, unsafe

CHUNK = 100
SECRET = secret_of("texts")
#: A delivery has 256 KiB at most, and a character up to 12 bytes in JSON. The lists have short texts.
WEBHOOK_LENGTH, LIST_LENGTH = 2000, 2000
TYPES = ("generation.completed", "generation.failed")


class Diffio:
    """A Diffio with one project, whose generations have the texts of the moment everywhere."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failing = False
        diffio = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, answer = diffio.answer(self.path, json.loads(body or b"{}"))
                content = json.dumps(answer).encode()
                self.send_response(status)
                # What a client does not read to its end cannot be followed by another response.
                self.close_connection = True
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Say nothing: a client hangs up on a response that is too long."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.failing:
            (text,) = self.texts
            return 400, {"error": {"message": text, "code": text[:LIST_LENGTH]}}
        if path.endswith("list_projects"):
            text = self.texts[0][:LIST_LENGTH]
            project = {"apiProjectId": "project", "status": text, "originalFileName": text, **_TIMES}
            return 200, {"projects": [{**project, "contentType": text, "generationCount": len(self.texts)}]}
        if path.endswith("list_project_generations"):
            return 200, {"apiProjectId": "project", "generations": list(map(self._listed, self._numbers()))}
        number = int(re.match(r"gen_(\d+)", body["generationId"])[1])  # type: ignore[index]
        text = self.texts[number]
        listed = self._listed(number)
        progress = {**listed, "apiProjectId": "project", "error": text, "errorDetails": text[:LIST_LENGTH]}
        return 200, {**progress, "stage": text[:LIST_LENGTH], "transcription": {"status": text[:LIST_LENGTH]}}

    def _numbers(self) -> range:
        return range(len(self.texts))

    def _listed(self, number: int) -> dict[str, Any]:
        text = self.texts[number][:LIST_LENGTH]
        return {"generationId": f"gen_{number} {text}", "status": "failed", "modelKey": text, **_TIMES}


_TIMES = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}


class Flow:
    """All the ways, and what came out."""

    def __init__(self, diffio: Diffio) -> None:
        self.diffio = diffio
        self.counts: Counter[str] = Counter()
        self.unsafe: dict[str, set[str]] = {}
        self._log = io.BytesIO()
        # A log file as Airflow opens it: strict.
        stream = io.TextIOWrapper(self._log, encoding="utf-8", errors="strict", write_through=True)
        handler = logging.StreamHandler(stream)
        handler.handleError = self._not_logged  # type: ignore[method-assign,assignment]
        logging.getLogger("airflow_provider_diffio").addHandler(handler)
        logging.getLogger("airflow_provider_diffio").setLevel(logging.INFO)

    def _not_logged(self, _: logging.LogRecord) -> None:
        self.counts["not logged"] += 1

    def run(self, chunk: list[str], first: int) -> None:
        self.by_webhook(chunk, first)
        self.by_watcher(chunk)
        self.as_errors(chunk)
        self.as_xcom(chunk, first)

    def by_webhook(self, chunk: list[str], first: int) -> None:
        from tests.plugins.conftest import ReceiverServer

        if not hasattr(self, "_receiver"):
            self._receiver = ReceiverServer()
        for number, text in enumerate(chunk, first):
            cut = text[:WEBHOOK_LENGTH]
            body = event(
                eventType=TYPES[number % 2],
                generationId=f"gen_{number} {cut}",
                apiProjectId=f"project {cut}",
                modelKey=cut,
                status=f"complete {cut}",
                error=cut,
                errorDetails=cut,
                transcription={"status": cut},
            )
            answer = self._receiver.post(sign(body, SECRET, message_id=f"msg_{number}"))
            self.counts[f"webhook {answer.json().get('status', answer.status_code)}"] += 1
            if len(text) > WEBHOOK_LENGTH:
                refused = self._receiver.post(sign(event(error=text * 4), SECRET))
                self.counts[f"webhook of a long text {refused.status_code}"] += 1

    def by_watcher(self, chunk: list[str]) -> None:
        from airflow_provider_diffio.triggers import DiffioGenerationEventTrigger

        self.diffio.texts, self.diffio.failing = chunk, False

        async def first_event() -> Any:
            # Diffio's times are long ago, and all of it is news.
            trigger = DiffioGenerationEventTrigger(status="failed", poll_interval=10, lookback=1e10)
            made = await anext(aiter(trigger.run()))
            return made.payload

        payload = asyncio.run(first_event())
        # The triggerer sends it to its supervisor, and logs it.
        json.dumps(payload, ensure_ascii=False).encode()
        self._store_event({"from_trigger": True, "payload": payload})
        self.counts["watcher"] += len(payload["generations"])

    def as_errors(self, chunk: list[str]) -> None:
        from airflow_provider_diffio.api.errors import DiffioError
        from airflow_provider_diffio.hooks import DiffioHook

        self.diffio.failing = True
        for text in chunk:
            self.diffio.texts = [text]
            hook = DiffioHook()
            try:
                hook.list_projects()
            except DiffioError as error:
                shown = f"{error}\n{''.join(traceback.format_exception(error))}"
                hook.log.warning("The task failed: %s", error, exc_info=True)
                self._store_event({"message_id": "error", "error": shown})
                self.counts["error"] += 1

    def as_xcom(self, chunk: list[str], first: int) -> None:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        from airflow_provider_diffio.api.errors import DiffioError
        from airflow_provider_diffio.hooks import DiffioHook
        from airflow_provider_diffio.steps.xcom import plain_value

        self.diffio.texts, self.diffio.failing = chunk, False
        hook = DiffioHook()
        with create_session() as session:
            without_foreign_keys(session)
            for number, text in enumerate(chunk):
                try:
                    generation_id = f"gen_{number} {text[:LIST_LENGTH]}"
                    value = plain_value(hook.get_generation_progress(generation_id, "project"))
                except DiffioError as error:
                    # An id that no request may hold, or a response that is too long.
                    value = {"error": str(error)}
                row = XComModel(
                    dag_run_id=first + number + 1,
                    dag_id="dag",
                    run_id=f"run_{first + number}",
                    task_id="task",
                    map_index=-1,
                    key="return_value",
                )
                row.value = value
                session.add(row)
                self.counts["xcom"] += 1

    def _store_event(self, extra: dict[str, Any]) -> None:
        from airflow.assets.manager import asset_manager
        from airflow.utils.session import create_session

        from airflow_provider_diffio.assets import asset_uri
        from airflow_provider_diffio.plugins.deliveries import known_asset

        with create_session() as session:
            asset = known_asset(session, asset_uri("diffio_default", TYPES[1]))
            asset_manager.register_asset_change(asset=asset, extra=extra, session=session)

    def show(self) -> dict[str, Any]:
        """Read everything back as Airflow's users do."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        for page in pages_of_the_api():
            for each in page:
                kind = "watcher" if "payload" in each["extra"] else each["extra"]["message_id"][:3]
                generations = each["extra"].get("payload", {}).get("generations", [each])
                self.counts[f"shown {kind}"] += len(generations)
                self._check(kind, each)
        with create_session() as session:
            for value in session.scalars(select(XComModel.value)):
                self.counts["shown xcom"] += 1
                self._check("xcom", value)
        log = self._log.getvalue().decode()
        self._check("log", log)
        found = {kind: sorted(map(ascii, each)) for kind, each in self.unsafe.items() if each}
        return {"counts": dict(self.counts), "unsafe": found, "logged": len(log)}

    def _check(self, kind: str, value: Any) -> None:
        found = self.unsafe.setdefault(kind, set())
        for text in strings(value):
            found |= unsafe(text)


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def without_foreign_keys(session: Any) -> None:
    """Let rows be stored without the run that they belong to, for this transaction."""
    from sqlalchemy import text

    on_postgresql = session.get_bind().dialect.name == "postgresql"
    statement = "SET LOCAL session_replication_role = replica" if on_postgresql else "PRAGMA foreign_keys=OFF"
    session.execute(text(statement))


def pages_of_the_api() -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of asset events that Airflow's REST API shows."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"), raise_server_exceptions=False)
    token = client.get("/auth/token").json()["access_token"]
    seen = 0
    while True:
        address = f"/api/v2/assets/events?limit=100&offset={seen}&order_by=timestamp"
        answer = client.get(address, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            raise RuntimeError(f"{address}: {answer.status_code} {answer.text[:500]}")
        page = answer.json()["asset_events"]
        if not page:
            return
        yield page
        seen += len(page)


def main(count: int) -> dict[str, Any]:
    """Run it all."""
    make_tables()
    diffio = Diffio()
    extra = {"webhook_secret": SECRET, "max_attempts": 1}
    os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = json.dumps(
        {"conn_type": "diffio", "host": diffio.url, "password": "diffio_live_x", "extra": extra}
    )
    flow = Flow(diffio)
    all_texts = list(texts(count))
    for first in range(0, count, CHUNK):
        flow.run(all_texts[first : first + CHUNK], first)
    return flow.show()


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
