"""What the guides say beyond their blocks: words that are searched for, messages, advice, and an alert."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_diffio.operators import DiffioCreateProjectOperator
from tests.docs.blocks import ROOT, blocks
from tests.docs.test_errors_page import CLASSES
from tests.task_runner import TaskRunner

DOCS = ROOT / "docs"
PACKAGE = ROOT / "airflow_provider_diffio"


@pytest.mark.parametrize(
    "word", ["slack", "helm", "pytest", "warehouse", "metrics", "troubleshoot", "duckdb", "composer", "mwaa"]
)
def test_a_search_finds(word: str) -> None:
    pages = [page.name for page in DOCS.rglob("*.md") if word in page.read_text().lower()]
    assert set(pages) - {"changelog.md", "architecture.md"}


def source_text() -> str:
    """All text of the package, with what is joined over lines in one piece."""
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_every_message_on_the_page_of_troubles_is_one_of_ours() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| .* \| .* \|$", page, re.MULTILINE)
    assert len(rows) > 15
    said = source_text()
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            if message == "No such command 'diffio'":
                continue
            words = re.escape(message).replace("1", r"(?:1|%d)")
            # Numbers and names are filled in when the message is made.
            assert re.search(words, said) or message in ("may not spend",), message


def test_the_reference_lists_each_class_with_its_advice() -> None:
    page = (DOCS / "reference" / "errors.md").read_text()
    shown = re.findall(r"^\| \[`(\w+)`\]\[\S+\] \| (yes|no) \| (.*?) ?\|$", page, re.MULTILINE)
    true = {(cls.__name__, "no" if cls.final else "yes", cls.default_advice) for cls in CLASSES}
    assert set(shown) == true


class Slack(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    told: list[str] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.append(json.loads(body)["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slack)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SLACK_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/services/T0/B0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Slack.told.clear()
    yield Slack.told
    server.shutdown()
    server.server_close()


def callback() -> Any:
    """Return the function of the page on alerts."""
    (block,) = (block for block in blocks(DOCS / "guides" / "alerts.md") if block.kind == "python")
    code = block.text.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    names: dict[str, Any] = {}
    exec(compile(code, block.place, "exec"), names)  # noqa: S102 - our own words
    return names["tell_slack"]


def test_an_alert_says_what_to_do(
    task_runner: TaskRunner,
    dag: Any,
    tmp_path: Path,
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    slack: list[str],
) -> None:
    wrong = {**connection, "password": "diffio_live_nobody_has_this_key"}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(wrong))
    recording = tmp_path / "talk.wav"
    recording.write_bytes(b"RIFF" + bytes(1000))
    outcome = task_runner.run(DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag))
    ti = SimpleNamespace(dag_id=dag.dag_id, task_id="upload", try_number=1)
    callback()({"task_instance": ti, "exception": outcome.error})
    (text,) = slack
    assert text.splitlines()[0] == f"*{dag.dag_id}.upload* failed (try 1)"
    assert "Where: endpoint create_project, HTTP 401" in text
    assert "What to do: Check the API key in the connection's password field" in text
    assert "Money: " in text
    assert "diffio_live_nobody" not in text
