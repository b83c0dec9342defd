"""What is news, and what is not asked for again."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_diffio.api.async_client import DiffioAsyncClient
from airflow_provider_diffio.api.models import GenerationSummary, ProjectSummary
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers._watermark import (
    SETTLING,
    STUCK,
    Listed,
    Listing,
    ReportBook,
    generation_value,
)

DAY = 86400.0


def listed(name: str, status: str, made: float, ended: float | None = None) -> Listed:
    created = dt.datetime.fromtimestamp(made, dt.UTC)
    updated = dt.datetime.fromtimestamp(made if ended is None else ended, dt.UTC)
    return Listed(
        ProjectSummary(f"project of {name}"),
        GenerationSummary(name, status, created_at=created, updated_at=updated),
    )


def names(found: list[Listed]) -> list[str]:
    return [it.generation.generation_id for it in found]


def report(book: ReportBook, seen: list[Listed]) -> list[str]:
    news = book.news(seen)
    book.enter(news)
    book.settle(seen)
    return names(news)


def test_what_had_ended_before_is_not_news_and_what_runs_will_be() -> None:
    book = ReportBook.begin("complete", [listed("old", "complete", 0), listed("running", "processing", 5)])
    now = [listed("old", "complete", 0), listed("running", "complete", 5, 9), listed("new", "complete", 7, 8)]
    assert report(book, now) == ["new", "running"]
    assert report(book, now) == []


def test_an_account_that_was_empty_has_only_news() -> None:
    book = ReportBook.begin("complete", [])
    assert report(book, [listed("first", "complete", 1.0)]) == ["first"]


def test_what_ended_shortly_before_can_be_included() -> None:
    seen = [listed("old", "complete", 0, 10), listed("recent", "complete", 1, 100)]
    assert names(ReportBook.begin("complete", seen, since=50).news(seen)) == ["recent"]


@pytest.mark.parametrize(
    ("status", "word"), [("complete", "complete"), ("failed", "failed"), ("failed", "error")]
)
def test_each_end_is_reported_to_its_own_watcher(status: str, word: str) -> None:
    other = "failed" if status == "complete" else "complete"
    seen = [listed("it", word, 10)]
    assert report(ReportBook.begin(status, []), seen) == ["it"]
    assert report(ReportBook.begin(other, []), seen) == []


def test_restored_it_goes_on_where_it_stopped() -> None:
    book = ReportBook.begin("complete", [listed("a", "processing", 1)])
    assert report(book, [listed("a", "complete", 1, 5), listed("b", "processing", 2)]) == ["a"]
    stored = json.loads(json.dumps(book.state()))
    restored = ReportBook.restore("complete", stored)
    assert restored is not None
    assert report(restored, [listed("a", "complete", 1, 5), listed("b", "complete", 2, 9)]) == ["b"]


@pytest.mark.parametrize("state", [None, {}, [], "x", {"horizon": "soon", "reported": {}}, {"horizon": 1}])
def test_what_is_no_state_begins_anew(state: Any) -> None:
    assert ReportBook.restore("complete", state) is None


def test_the_book_stays_short_while_an_account_grows() -> None:
    book = ReportBook.begin("complete", [])
    seen: list[Listed] = []
    reported: list[str] = []
    for number in range(1000):
        seen.append(listed(f"g{number}", "complete", number * 60.0))
        reported += report(book, seen)
    assert reported == [f"g{number}" for number in range(1000)]
    assert len(book.reported) <= SETTLING / 60 + 2


def test_one_that_runs_holds_the_horizon_until_it_is_stuck() -> None:
    book = ReportBook.begin("complete", [listed("slow", "processing", 0)])
    later = [listed("slow", "processing", 0), listed("other", "complete", STUCK - 1)]
    assert report(book, later) == ["other"]
    assert report(book, [listed("slow", "complete", 0, STUCK), later[1]]) == ["slow"]

    stuck = ReportBook.begin("complete", [listed("slow", "processing", 0)])
    assert report(stuck, [listed("slow", "processing", 0), listed("other", "complete", STUCK + DAY)]) == [
        "other"
    ]
    assert stuck.horizon > 0


def test_a_time_in_the_future_hides_nothing_that_comes_before_it() -> None:
    book = ReportBook.begin("complete", [])
    ahead = listed("ahead", "complete", time.time() + 3650 * DAY)
    assert report(book, [ahead]) == ["ahead"]
    assert report(book, [ahead, listed("next", "complete", time.time())]) == ["next"]
    assert report(book, [ahead, listed("next", "complete", time.time())]) == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_no_time_that_diffio_names_is_too_much(moment: str) -> None:
    at = dt.datetime.fromisoformat(moment)
    odd = Listed(ProjectSummary("p"), GenerationSummary("odd", "complete", created_at=at, updated_at=at))
    assert report(ReportBook.begin("complete", []), [odd]) == ["odd"]


@pytest.mark.parametrize("text", ["half \ud83d", "NUL \x00", "x" * 1024 * 1024])
def test_a_value_can_be_stored_whatever_diffio_sends(text: str) -> None:
    odd = Listed(ProjectSummary(text), GenerationSummary(text, "failed", model=text))
    assert report(ReportBook.begin("failed", []), [odd]) == [text]
    progress = SimpleNamespace(has_video=False, transcription=text, error=text)
    stored = json.dumps(generation_value(odd, progress), ensure_ascii=False).encode()
    assert b"\x00" not in stored
    assert len(stored) < 20_000


def test_what_was_left_out_of_one_event_is_still_news_later() -> None:
    book = ReportBook.begin("complete", [])
    seen = [listed("left out", "complete", 0), listed("newer", "complete", 30 * DAY)]
    book.enter(book.news(seen)[1:])
    book.settle(seen)
    assert report(book, seen) == ["left out"]


def test_one_without_a_time_is_reported_once() -> None:
    timeless = Listed(ProjectSummary("p"), GenerationSummary("g", "complete"))
    book = ReportBook.begin("complete", [])
    assert report(book, [timeless]) == ["g"]
    assert report(book, [timeless, listed("other", "complete", 30 * DAY)]) == ["other"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(processing_seconds=0.05, engine="passthrough") as server:
        yield server


def test_finished_projects_are_not_asked_for_again(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(sandbox.connection))
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"RIFF" + bytes(5000))
    hook = DiffioHook()
    projects = [hook.create_project(recording).api_project_id for _ in range(4)]
    for project in projects[:3]:
        hook.create_generation(project)
    listing = Listing()

    def asked() -> int:
        return len([r for r in sandbox.requests() if r["path"].endswith("list_project_generations")])

    async def go() -> None:
        async with DiffioAsyncClient(hook.config.settings) as client:
            for _ in range(100):
                found = await listing.poll(client)
                if len(found) == 3 and all(it.over for it in found):
                    break
                await asyncio.sleep(0.1)
            assert {it.generation.status for it in found} == {"complete"}
            # The projects may have been listed just before the last of their generations ended.
            await listing.poll(client)
            before = asked()
            await listing.poll(client)
            assert asked() == before
            hook.create_generation(projects[0], model="diffio-4.6-pro")
            assert len(await listing.poll(client)) == 4
            assert asked() == before + 1

    asyncio.run(go())
