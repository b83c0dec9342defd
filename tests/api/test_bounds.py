"""No server keeps a call waiting for longer, or takes more memory, than its bounds allow."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_diffio.api import async_client, endpoints, errors
from airflow_provider_diffio.api.async_client import DiffioAsyncClient
from airflow_provider_diffio.api.endpoints import MAX_PROGRESS_BYTES
from airflow_provider_diffio.api.responses import DECODE_IN_THREAD_BYTES, _json, read_response
from tests.api.conftest import Caller, UploadHarness, settings_for
from tests.api.scripted import Connection, Scripted, Step, answer, hang

HarnessFor = Callable[..., UploadHarness]

ACCOUNT = endpoints.get_account_settings()
PROGRESS = endpoints.poll_generation("g")
LIST = endpoints.list_projects()
KEYED = endpoints.create_generation("p", idempotency_key="k")


def failure_of(carry: Caller, server: Scripted, call: Any, **settings: Any) -> errors.DiffioError:
    with pytest.raises(errors.DiffioError) as caught:
        carry(server, call, max_attempts=1, **settings)
    return caught.value


# --- time -------------------------------------------------------------------------------------------------


def dripping(begin: bytes) -> Callable[[Connection], None]:
    """Send a beginning, and then a byte now and then, each of them in time."""

    def drip(connection: Connection) -> None:
        connection.send(begin)
        while not connection.closing.wait(0.05):
            connection.send(b" ")

    return drip


JSON = b"Content-Type: application/json\r\n"
DRIPPING: dict[str, Step] = {
    "a body": dripping(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
    ),
    "a body without a length": dripping(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"),
    "a header": dripping(b"HTTP/1.1 200 OK\r\nX-Long: x"),
    "an error": dripping(b"HTTP/1.1 503 No\r\nContent-Length: 100000\r\n\r\n"),
    "a status line": dripping(b"HTTP/1.1 200 "),
}


@pytest.mark.parametrize("step", DRIPPING.values(), ids=DRIPPING)
def test_a_response_that_drips_is_given_up(carry: Caller, server: Scripted, step: Step) -> None:
    server.play(step)
    began = time.monotonic()
    failure = failure_of(carry, server, KEYED, timeout=0.3)
    assert 0.5 < time.monotonic() - began < 3
    assert isinstance(failure, errors.DiffioConnectionError)
    assert "the response was not complete after 0.6" in failure.message
    assert failure.may_be_billed


def test_a_list_may_take_longer_than_other_responses(carry: Caller, server: Scripted) -> None:
    def slowly(connection: Connection) -> None:
        connection.send(answer({"projects": []}, length=30)[:-2])
        for _ in range(13):
            connection.closing.wait(0.05)
            connection.send(b" ")
        connection.send(b" ]}")

    server.play(slowly)
    assert carry(server, LIST, timeout=0.2) == ()


@pytest.mark.parametrize(
    "step", [hang, DRIPPING["a body"], DRIPPING["a header"]], ids=["hangs", "body", "header"]
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_call_can_be_bounded_by_a_deadline(
    harness_for: HarnessFor, server: Scripted, step: Step, kind: str
) -> None:
    async def poll() -> None:
        async with DiffioAsyncClient(settings_for(server)) as client:
            await client.call_once(PROGRESS, timeout=0.4)

    server.play(step)
    client = harness_for(server).client
    began = time.monotonic()
    with pytest.raises(errors.DiffioConnectionError):
        asyncio.run(poll()) if kind == "async" else client.call_once(PROGRESS, timeout=0.4)
    assert 0.3 < time.monotonic() - began < 2


def test_a_call_whose_deadline_is_over_ends_at_once(harness_for: HarnessFor, server: Scripted) -> None:
    async def poll() -> None:
        async with DiffioAsyncClient(settings_for(server)) as client:
            await client.call_once(PROGRESS, timeout=-1)

    server.play(hang)
    began = time.monotonic()
    with pytest.raises(errors.DiffioConnectionError):
        harness_for(server).client.call_once(PROGRESS, timeout=-1)
    with pytest.raises(errors.DiffioConnectionError):
        asyncio.run(poll())
    assert time.monotonic() - began < 1


def test_waiting_for_a_free_connection_counts_as_waiting(server: Scripted) -> None:
    async def poll_all() -> list[float]:
        async with DiffioAsyncClient(settings_for(server)) as client:

            async def poll() -> float:
                began = time.monotonic()
                with pytest.raises(errors.DiffioConnectionError):
                    await client.call_once(PROGRESS, timeout=0.5)
                return time.monotonic() - began

            return await asyncio.gather(*(poll() for _ in range(100)))

    server.play(hang)
    assert max(asyncio.run(poll_all())) < 2.5


# --- size -------------------------------------------------------------------------------------------------


def progress_of(size: int) -> dict[str, Any]:
    return {"generationId": "g", "status": "processing", "filler": "x" * size}


def test_progress_has_a_smaller_bound_than_other_responses(carry: Caller, server: Scripted) -> None:
    server.play(answer(progress_of(MAX_PROGRESS_BYTES)))
    said = f"get_generation_progress responded with more than {MAX_PROGRESS_BYTES} bytes"
    assert said in failure_of(carry, server, PROGRESS).message
    server.play(
        answer(gzip.compress(json.dumps(progress_of(10**7)).encode()), headers={"Content-Encoding": "gzip"})
    )
    assert said in failure_of(carry, server, PROGRESS).message
    server.play(answer(progress_of(MAX_PROGRESS_BYTES - 1000)))
    assert carry(server, PROGRESS).status == "processing"


def projects(count: int) -> bytes:
    project = {
        "status": "uploaded",
        "originalFileName": "an interview of some length.wav",
        "contentType": "audio/wav",
        "hasVideo": False,
        "generationCount": 1,
        "createdAt": "2026-10-08T12:00:00.000Z",
        "updatedAt": "2026-10-08T12:00:00.000Z",
        "objectPath": "users/0123456789abcdef0123456789ab/projects/0123456789abcdef/original/interview.wav",
    }
    listed = [{"apiProjectId": f"0123456789abcdef{number:08}", **project} for number in range(count)]
    return answer({"projects": listed})


def test_sixty_thousand_projects_can_be_listed(carry: Caller, server: Scripted) -> None:
    response = projects(60_000)
    assert len(response) > 16 * 1024 * 1024
    server.play(response)
    listed = carry(server, LIST, timeout=60)
    assert (len(listed), listed[-1].api_project_id) == (60_000, "0123456789abcdef00059999")


@pytest.mark.parametrize(("count", "elsewhere"), [(1, False), (20_000, True)])
def test_a_long_list_is_read_beside_the_loop(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, count: int, elsewhere: bool
) -> None:
    server.play(projects(count))
    threads: list[int] = []

    def spy(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return read_response(*arguments)

    async def listed() -> int:
        async with DiffioAsyncClient(settings_for(server, timeout=60)) as client:
            found = await client.call_once(LIST)
            return len(found)

    monkeypatch.setattr(async_client, "read_response", spy)
    assert asyncio.run(listed()) == count
    assert (threads != [threading.get_ident()]) == elsewhere


def test_other_threads_run_while_a_long_list_is_decoded() -> None:
    body = projects(60_000).partition(b"\r\n\r\n")[2]
    gaps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not done.wait(0.001):
            now = time.monotonic()
            gaps.append(now - last)
            last = now
        gaps.append(time.monotonic() - last)

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.monotonic()
    _json(body)
    took = time.monotonic() - began
    done.set()
    ticking.join()
    # In C, the decoder would hold all others up from the first byte to the last one.
    assert max(gaps) < 0.7 * took, f"stopped for {max(gaps):.3f} s of {took:.3f} s"


@pytest.mark.parametrize("size", [100, DECODE_IN_THREAD_BYTES + 100])
def test_what_is_wrong_with_a_response_of_any_size_is_told_alike(
    carry: Caller, server: Scripted, size: int
) -> None:
    server.play(answer({"projects": 7, "filler": "x" * size}))
    assert "no usable 'projects'" in failure_of(carry, server, LIST).message
    server.play(answer(b"{" + b" " * size))
    assert "not a JSON object" in failure_of(carry, server, LIST).message
