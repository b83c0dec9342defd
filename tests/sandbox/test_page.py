"""The page at ``/``: what it is made of, what it is given, and what a browser makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.browser import chromium
from tests.sandbox.receiver import receiver
from tests.sandbox.wire import Wire

FILES = ("/", "/sandbox/page.css", "/sandbox/page.js", "/sandbox/spectrogram.js")
TOKEN = "only-for-those-who-know-it"


@pytest.mark.parametrize("path", FILES)
def test_its_files_load_nothing_from_elsewhere(wire: Wire, path: str) -> None:
    response = wire.http.get(f"{wire.sandbox.api_url}{path}")
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    # The only address in them is the name of the SVG language.
    assert set(re.findall(r"https?://[^\s'\"]+", response.text)) <= {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in response.text


def test_looking_at_it_is_no_request_of_the_sandbox(wire: Wire) -> None:
    for path in FILES:
        wire.http.get(f"{wire.sandbox.api_url}{path}")
    wire.sandbox.control("GET", "overview")
    assert wire.sandbox.requests() == []


def test_it_is_read_only(wire: Wire) -> None:
    for path in (*FILES, "/sandbox/overview", "/sandbox/originals/x"):
        assert wire.http.post(f"{wire.sandbox.api_url}{path}").status_code in {404, 405}


def test_it_is_given_what_happened(wire: Wire) -> None:
    with receiver() as post:
        wire.sandbox.add_webhook(post.url)
        wire.sandbox.add_fault("status", path="/v1/list_projects", status=503)
        orphan = wire.project(fileName="orphan.wav")["apiProjectId"]
        generation_id = wire.restored(b"12345", fileName="talk.wav", contentType="audio/wav")
        post.wait(3)
    shown = wire.sandbox.control("GET", "overview")
    newest, oldest = shown["projects"]
    assert (oldest["apiProjectId"], oldest["sizeBytes"], oldest["generations"]) == (orphan, None, [])
    assert (newest["fileName"], newest["contentType"], newest["sizeBytes"]) == ("talk.wav", "audio/wav", 5)
    (generation,) = newest["generations"]
    assert generation.pop("createdAt").endswith("Z")
    assert generation == {
        "generationId": generation_id,
        "model": "diffio-4.6-flash",
        "status": "complete",
        "stage": "complete",
        "percent": 100,
        "error": None,
        "errorDetails": None,
        "billedSeconds": 60,
        "billedCents": 1,
        "durationSeconds": None,
        "hasVideo": False,
        "results": ["audio", "transcript"],
    }
    assert shown["ledger"] == wire.sandbox.ledger()["totals"]
    assert shown["requests"][0]["path"] == "/v1/get_generation_progress"
    assert shown["requests"][-1]["number"] == 1
    assert {it["event"]["generationId"] for it in shown["webhooks"]["deliveries"]} == {generation_id}
    assert [fault["kind"] for fault in shown["faults"]] == ["status"]
    assert wire.sandbox.api_key not in str(shown)


def test_it_shows_the_newest_when_there_is_much(wire: Wire) -> None:
    for number in range(60):
        wire.project(fileName=f"{number}.wav")
    for _ in range(200):
        wire.post("list_projects")
    shown = wire.sandbox.control("GET", "overview")
    assert [it["fileName"] for it in shown["projects"]] == [f"{number}.wav" for number in range(59, 9, -1)]
    assert len(shown["requests"]) == 200
    assert shown["requests"][0]["number"] == 260


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if (reason := chromium.missing()) is not None:
        pytest.skip(reason)
    with chromium.browser() as started:
        yield started


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Any, errors: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=request.param)
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda it: errors.append(it.url) if "//127.0.0.1:" not in it.url else None)
    yield opened
    context.close()


def test_a_browser_shows_it_at_the_width_of_a_phone(page: Any, errors: list[str]) -> None:
    signals = pytest.importorskip("tests.sandbox.signals")
    recording = signals.wav(signals.voice(16000, 3)[0], 16000)
    with (
        receiver() as post,
        Sandbox(engine="passthrough", processing_seconds=0.0, control_token=TOKEN) as sandbox,
    ):
        wire = Wire(sandbox)
        sandbox.add_webhook(post.url)
        wire.restored(recording, fileName="<b>talk</b>.wav")
        page.goto(f"{sandbox.api_url}/")
        page.fill("#token", "wrong")
        page.click("#token-form button")
        page.wait_for_selector("#token-error:has-text('not the sandbox')")
        page.goto("about:blank")
        page.goto(f"{sandbox.api_url}/#token={TOKEN}")
        page.click("text=Listen")
        page.wait_for_selector("#after .note:has-text('3.0 s, 0 to 8 kHz')")
        assert TOKEN not in page.url
        assert page.text_content(".project-head b") == "<b>talk</b>.wav"
        assert page.locator("audio").count() == 2
        page.wait_for_selector("#transcript >> text=No speech found.")
        page.click("text=503 to the next generation")
        page.wait_for_selector("#faults code:has-text('*-generation')")
        before = len(post.wait(3))
        page.click("#webhooks button >> nth=0")
        post.wait(before + 1)
        page.on("dialog", lambda dialog: dialog.accept())
        width = page.evaluate("document.documentElement.scrollWidth")
        page.click("#reset")
        page.wait_for_selector("text=No projects yet")
        assert sandbox.ledger()["totals"]["projects"] == 0
    assert width == 390
    assert [url for url in errors if not url.startswith(("blob:", "data:"))] == []


def test_without_a_token_it_opens_at_once(page: Any, wire: Wire, errors: list[str]) -> None:
    page.goto(f"{wire.sandbox.api_url}/")
    page.wait_for_selector("text=No projects yet")
    assert errors == []
