"""Restored files on their way from Diffio."""

from __future__ import annotations

import gzip
import hashlib
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import requests

from airflow_provider_diffio.api import endpoints, errors
from airflow_provider_diffio.api.downloads import Fetch, get_link
from airflow_provider_diffio.api.models import GenerationDownload
from airflow_provider_diffio.sandbox import Sandbox
from tests.api.conftest import API_KEY, UploadHarness, everything_said, generation_of, project_in
from tests.api.scripted import Connection, Scripted, Step, answer, error, hang, reset

HarnessFor = Callable[..., UploadHarness]

#: What arrived of a block when a connection broke is asked for again.
MIB = 1 << 20
FILE = random.Random(9).randbytes(4 * MIB)  # noqa: S311 - the same bytes each time
OTHER_FILE = random.Random(10).randbytes(4 * MIB)  # noqa: S311
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


# --- links ------------------------------------------------------------------------------------------------


def restored(sandbox: Sandbox, recording: bytes = b"RIFF") -> tuple[str, str]:
    project_id = project_in(sandbox, recording)
    return generation_of(sandbox, project_id), project_id


def asked(sandbox: Sandbox, endpoint: str) -> int:
    return sum(request["path"] == f"/v1/{endpoint}" for request in sandbox.requests())


def let_time_pass(harness: UploadHarness) -> None:
    """Let naps take a hundredth of their time, for what the sandbox does in real time."""

    def sleep(seconds: float) -> None:
        harness.naps.append(seconds)
        time.sleep(seconds / 100)

    harness.client.sleep = sleep


def test_a_link_to_a_finished_file_comes_at_once(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    harness = harness_for(sandbox)
    generation, project = restored(sandbox)
    link = get_link(harness.client, generation, project, "mp3")
    assert (link.generation_id, link.api_project_id, link.download_type) == (generation, project, "audio")
    assert harness.naps == []


@pytest.mark.parametrize("status", [404, 409])
def test_a_file_that_is_still_put_in_place_is_waited_for(
    harness_for: HarnessFor, sandbox: Sandbox, status: int
) -> None:
    sandbox.add_fault("artifact-not-ready", seconds=0.1, status=status)
    harness = harness_for(sandbox)
    let_time_pass(harness)
    generation, project = restored(sandbox)
    assert get_link(harness.client, generation, project, None).download_type == "audio"
    assert harness.naps


def test_a_pending_transcript_is_waited_for(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    sandbox.add_fault("transcript-pending", seconds=0.1)
    harness = harness_for(sandbox)
    let_time_pass(harness)
    generation, project = restored(sandbox)
    assert get_link(harness.client, generation, project, "transcript").download_type == "transcript"
    assert harness.naps


def test_a_transcript_that_will_not_come_is_not_waited_for(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    sandbox.add_fault("transcript-unavailable")
    harness = harness_for(sandbox)
    generation, project = restored(sandbox)
    with pytest.raises(errors.DiffioTranscriptUnavailableError):
        get_link(harness.client, generation, project, "transcript")
    assert asked(sandbox, "get_generation_download") == 1


def test_a_generation_that_is_not_complete_is_an_error_at_once(
    harness_for: HarnessFor, sandbox: Sandbox
) -> None:
    sandbox.add_fault("processing-seconds", seconds=60)
    harness = harness_for(sandbox)
    project = project_in(sandbox)
    generation = harness.client.call(endpoints.create_generation(project)).generation_id
    with pytest.raises(errors.DiffioNotReadyError) as caught:
        get_link(harness.client, generation, project, None)
    assert (caught.value.generation_id, harness.naps) == (generation, [])
    assert asked(sandbox, "get_generation_download") == 1


def test_a_failed_generation_is_told_with_diffios_words(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    sandbox.add_fault("fail-generation", error="Decoder failed.", errorDetails="At 3 s.")
    generation, project = restored(sandbox)
    with pytest.raises(errors.DiffioGenerationFailedError) as caught:
        get_link(harness_for(sandbox).client, generation, project, None)
    assert caught.value.message == (
        "There is nothing to download: Diffio reports the generation as failed: Decoder failed: At 3 s."
    )
    assert (caught.value.error, caught.value.error_details) == ("Decoder failed.", "At 3 s.")
    assert caught.value.may_be_billed


def test_a_generation_that_does_not_exist_is_not_waited_for(
    harness_for: HarnessFor, sandbox: Sandbox
) -> None:
    harness = harness_for(sandbox)
    with pytest.raises(errors.DiffioNotFoundError):
        get_link(harness.client, "nobody", "nowhere", None)
    assert harness.naps == []


@pytest.mark.parametrize("status", [404, 409])
def test_a_file_that_does_not_appear_in_time_is_not_ready_and_may_be_asked_for_again(
    harness_for: HarnessFor, sandbox: Sandbox, status: int
) -> None:
    sandbox.add_fault("artifact-not-ready", seconds=60, status=status)
    harness = harness_for(sandbox)
    let_time_pass(harness)
    generation, project = restored(sandbox)
    with pytest.raises(errors.DiffioNotReadyError) as caught:
        get_link(harness.client, generation, project, None, ready_timeout=0.05)
    found = caught.value
    assert (found.status_code, found.generation_id, found.project_id) == (status, generation, project)
    assert (found.may_be_billed, found.final) == (True, False)
    assert "did not appear within 0.05 s" in str(found)


def test_what_is_wrong_with_the_request_is_not_waited_for(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    generation, project = restored(sandbox)
    with pytest.raises(errors.DiffioApiError) as caught:
        get_link(harness_for(sandbox).client, generation, project, "video")
    assert caught.value.status_code == 400


# --- files ------------------------------------------------------------------------------------------------


class Taken:
    """A fetch and what it wrote."""

    def __init__(self, harness: UploadHarness, url: str, **options: Any) -> None:
        self.written = bytearray()
        self.sizes: list[int] = []
        self.links = 0
        self.url = url
        self.fetch = Fetch(
            harness.client, self.get_link, self.written.extend, expect_size=self.sizes.append, **options
        )

    @property
    def content(self) -> bytes:
        return bytes(self.written)

    def get_link(self) -> GenerationDownload:
        self.links += 1
        return GenerationDownload("g", "p", "audio", self.url, "a.mp3", "audio/mpeg")


def media(
    content: bytes = FILE,
    *,
    at: int = 0,
    sent: int | None = None,
    etag: str | None = '"one"',
    content_type: str | None = "audio/mpeg",
    length: int | None = None,
    status: int | None = None,
    extra: dict[str, str] | None = None,
) -> bytes:
    """Answer a file, or the rest of it from ``at``; of that only the first ``sent`` bytes."""
    rest = content[at:]
    headers = {"ETag": etag} if etag else {}
    if at:
        headers["Content-Range"] = f"bytes {at}-{len(content) - 1}/{len(content)}"
    return answer(
        rest[:sent],
        status or (206 if at else 200),
        content_type=content_type,
        length=len(rest) if length is None else length,
        headers={**headers, **(extra or {})},
    )


def ranges(server: Scripted) -> list[tuple[str | None, str | None]]:
    return [(r.headers.get("range"), r.headers.get("if-range")) for r in server.requests]


def test_a_file_is_fetched_whole(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    harness = harness_for(sandbox)
    generation, project = restored(sandbox, FILE)
    link = get_link(harness.client, generation, project, None)
    taken = Taken(harness, link.download_url)
    assert taken.fetch.run(link) is link
    assert taken.content == FILE
    assert (taken.sizes, taken.links, taken.fetch.size_bytes) == ([len(FILE)], 0, len(FILE))


def test_the_media_host_sees_no_credential(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(media())
    Taken(harness_for(server, headers={"X-Gateway": "hunter2"}), f"{server.url}/m/t/a.mp3").fetch.run()
    (request,) = server.requests
    assert request.method == "GET"
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "x-api-key", "xi-api-key", "x-gateway", "cookie"} & request.headers.keys()
    assert API_KEY not in str(request)


@pytest.mark.parametrize("cut", [1, MIB + 7, 4 * MIB - 1])
def test_a_file_that_breaks_off_is_resumed_where_it_broke(
    harness_for: HarnessFor, sandbox: Sandbox, cut: int
) -> None:
    harness = harness_for(sandbox)
    generation, project = restored(sandbox, FILE)
    link = get_link(harness.client, generation, project, None)
    sandbox.add_fault("truncate", path="/m/*", bytes=cut)
    taken = Taken(harness, link.download_url)
    taken.fetch.run(link)
    assert taken.content == FILE
    assert (taken.links, asked(sandbox, "get_generation_download")) == (0, 1)


def test_a_resumed_request_asks_for_the_rest_of_the_same_file(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(media(sent=MIB), media(at=MIB, sent=MIB), media(at=2 * MIB))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert ranges(server) == [(None, None), (f"bytes={MIB}-", '"one"'), (f"bytes={2 * MIB}-", '"one"')]


DATED: dict[str, Any] = {"etag": None, "extra": {"Last-Modified": DATE}}
NOT_PROVEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no etag": ({"etag": None}, {"etag": None}),
    "a weak etag": ({"etag": 'W/"one"'}, {"etag": 'W/"one"'}),
    "an etag that is none": ({"etag": "one"}, {"etag": "one"}),
    "a date": (DATED, DATED),
    "no etag with the rest": ({}, {"etag": None}),
    "a weak etag with the rest": ({}, {"etag": 'W/"one"'}),
}


@pytest.mark.parametrize("second", [FILE, OTHER_FILE], ids=["the same file", "another file"])
@pytest.mark.parametrize(("first_says", "rest_says"), NOT_PROVEN.values(), ids=NOT_PROVEN)
def test_what_is_not_proven_to_be_the_rest_is_not_added(
    harness_for: HarnessFor,
    server: Scripted,
    first_says: dict[str, Any],
    rest_says: dict[str, Any],
    second: bytes,
) -> None:
    def serve(connection: Connection) -> None:
        ranged = "range" in connection.request.headers
        connection.send(media(second, at=MIB if ranged else 0, **(rest_says if ranged else first_says)))

    server.play(media(sent=MIB, **first_says), serve)
    taken = Taken(harness_for(server), server.url)
    if second is FILE:
        taken.fetch.run()
        assert taken.content == FILE
    else:
        with pytest.raises(errors.DiffioTransferError, match="first bytes are not what they were"):
            taken.fetch.run()
        assert taken.content == FILE[:MIB]
    assert ranges(server)[-1] == (None, None)


def test_what_is_there_is_compared_when_the_server_knows_no_such_range(
    harness_for: HarnessFor, server: Scripted
) -> None:
    refusal = error(416, headers={"Content-Range": f"bytes */{4 * MIB}"})
    server.play(media(sent=MIB), refusal, media())
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE


def test_a_server_without_ranges_sends_everything_again_and_it_is_written_once(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(media(sent=MIB), media(sent=2 * MIB), media())
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert taken.fetch.size_bytes == len(FILE)


@pytest.mark.parametrize("second", [media(), media(OTHER_FILE)], ids=["the same", "another"])
def test_the_checksum_of_the_destination_serves_as_well(
    harness_for: HarnessFor, server: Scripted, second: Step
) -> None:
    server.play(media(sent=MIB), second)
    taken = Taken(harness_for(server), server.url)
    taken.fetch.written_sha256 = lambda: hashlib.sha256(taken.written).hexdigest()
    with nullcontext() if second == media() else pytest.raises(errors.DiffioTransferError, match="changed"):
        taken.fetch.run()
    assert taken.content == (FILE if second == media() else FILE[:MIB])


def test_a_server_without_ranges_that_breaks_earlier_is_tried_again(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(media(sent=2 * MIB), media(sent=MIB // 2), media())
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE


@pytest.mark.parametrize(
    "second",
    [
        media(OTHER_FILE),
        media(OTHER_FILE[:MIB] + FILE[MIB:]),
        media(FILE + b"more"),
        media(FILE[: MIB // 2]),
        media(OTHER_FILE, at=MIB, etag='"two"'),
        media(FILE + b"more", at=MIB),
    ],
    ids=["other", "other beginning", "longer", "shorter", "range of another etag", "range of a longer file"],
)
def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(
    harness_for: HarnessFor, server: Scripted, second: Step
) -> None:
    server.play(media(sent=MIB), second)
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="changed at the media host"):
        taken.fetch.run()
    assert taken.content == FILE[:MIB]
    assert len(server.requests) == 2


def test_a_server_that_does_not_say_how_long_it_is_can_be_shorter_the_second_time(
    harness_for: HarnessFor, server: Scripted
) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    server.play(chunked, chunked.replace(b"hello", b"hell").replace(b"5\r\n", b"4\r\n") + b"0\r\n\r\n")
    with pytest.raises(errors.DiffioTransferError, match="shorter than what has come already"):
        Taken(harness_for(server), server.url).fetch.run()


@pytest.mark.parametrize(
    "content_range", [f"bytes 0-{4 * MIB - 1}/{4 * MIB}", "bytes x-y/z", "items 100000-1/2", ""]
)
def test_another_range_than_was_asked_for_is_not_written(
    harness_for: HarnessFor, server: Scripted, content_range: str
) -> None:
    wrong = media(FILE, status=206, extra={"Content-Range": content_range})
    server.play(media(sent=MIB), wrong)
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="another range"):
        taken.fetch.run()
    assert taken.content == FILE[:MIB]


def test_a_host_that_sends_more_than_it_announced_is_not_listened_to_for_ever(
    harness_for: HarnessFor, server: Scripted
) -> None:
    span = f"bytes {MIB}-{4 * MIB - 1}/{4 * MIB}"
    server.play(media(sent=MIB), media(FILE, status=206, extra={"Content-Range": span}))
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="goes on after the 4194304 bytes"):
        taken.fetch.run()
    assert len(taken.content) <= 4 * MIB
    assert len(server.requests) == 2


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "empty", [media(b""), media(b"", length=-1), CHUNKED + b"0\r\n\r\n"], ids=["0", "unknown", "chunked"]
)
def test_an_empty_file_is_refused(harness_for: HarnessFor, server: Scripted, empty: Step) -> None:
    server.play(empty)
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="an empty file") as caught:
        taken.fetch.run()
    assert caught.value.may_be_billed


# --- files without a length -------------------------------------------------------------------------------


def without_length(content: bytes = FILE, version: str = "1.1", **says: Any) -> bytes:
    """Answer a file whose end is where the connection ends."""
    return media(content, length=-1, **says).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)


def knows_ranges(connection: Connection, content: bytes = FILE) -> None:
    """Answer a range as a server does that knows them, under no length."""
    asked = connection.request.headers.get("range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    if start >= len(content):
        connection.send(error(416, headers={"Content-Range": f"bytes */{len(content)}"}))
    else:
        connection.send(media(content, at=start) if start else without_length(content))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("etag", [None, '"one"'])
@pytest.mark.parametrize("then", ["ranges", "again"])
def test_half_a_file_without_a_length_is_not_taken_for_a_whole_one(
    harness_for: HarnessFor, server: Scripted, version: str, etag: str | None, then: str
) -> None:
    half = without_length(FILE[: 2 * MIB], version, etag=etag)
    server.play(half, knows_ranges if then == "ranges" else without_length(FILE, version, etag=etag))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE


@pytest.mark.parametrize("then", [knows_ranges, without_length()], ids=["ranges", "again"])
def test_a_whole_file_without_a_length_is_confirmed_once(
    harness_for: HarnessFor, server: Scripted, then: Step
) -> None:
    server.play(without_length(), then)
    harness = harness_for(server)
    taken = Taken(harness, server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert (len(server.requests), harness.naps) == (2, [])


def test_a_file_whose_length_cannot_be_read_is_confirmed_too(
    harness_for: HarnessFor, server: Scripted
) -> None:
    odd = without_length(FILE[:MIB], extra={"Content-Length": "many"})
    server.play(odd, without_length())
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE


def test_a_file_that_breaks_off_earlier_the_second_time_is_asked_for_again(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(without_length(FILE[: 2 * MIB]), without_length(FILE[:MIB]), without_length())
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE


def test_a_file_that_grows_each_time_is_given_up(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(*(without_length(b"x" * size) for size in range(1, 200)))
    with pytest.raises(errors.DiffioTransferError, match="longer each time"):
        Taken(harness_for(server), server.url).fetch.run()
    assert len(server.requests) < 30


def test_a_file_without_a_length_that_is_another_one_the_second_time_is_refused(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(without_length(FILE[: 2 * MIB]), without_length(OTHER_FILE))
    with pytest.raises(errors.DiffioTransferError, match="changed at the media host"):
        Taken(harness_for(server), server.url).fetch.run()


def test_a_chunked_file_needs_no_confirmation(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert (taken.content, len(server.requests)) == (b"hello", 1)


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 0-{2 * MIB - 1}/*",
        f"bytes 0-{2 * MIB - 1}/{4 * MIB}",
        f"bytes 0-{2 * MIB - 1}/{2 * MIB}",
        None,
    ],
)
def test_a_range_that_was_not_asked_for_is_refused(
    harness_for: HarnessFor, server: Scripted, content_range: str | None
) -> None:
    says = {"Content-Range": content_range} if content_range else {}
    server.play(media(FILE[: 2 * MIB], status=206, extra=says))
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="another range"):
        taken.fetch.run()
    assert taken.content == b""


# --- something else ---------------------------------------------------------------------------------------

PAGE = b"\n<!DOCTYPE html><html><h1>Blocked</h1>"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PAGE, "text/html"),
        (FILE, "text/html; charset=utf-8"),
        (PAGE, "audio/mpeg"),
        (PAGE, "application/octet-stream"),
        (PAGE, None),
        (b'{"error": "gone"}', "application/json"),
        (b' ["gone"]', "application/problem+json"),
        (b"<?xml version='1.0'?><Error/>", "application/xml"),
        (b"blocked", "text/plain"),
        (FILE, "image/png"),
        (FILE, "video/mp4"),
        (FILE, "Multipart/ByteRanges; boundary=x"),
        (FILE, "application/xhtml+xml"),
    ],
)
def test_what_contradicts_the_file_is_refused(
    harness_for: HarnessFor, server: Scripted, content: bytes, media_type: str | None
) -> None:
    server.play(media(content, content_type=media_type))
    taken = Taken(harness_for(server), server.url)
    with pytest.raises(errors.DiffioTransferError, match="in place of the restored one") as caught:
        taken.fetch.run()
    assert (taken.content, caught.value.may_be_billed) == (b"", True)


@pytest.mark.parametrize(
    ("download_type", "mime_type", "media_type"),
    [
        ("audio", "audio/mpeg", "audio/mp3"),
        ("audio", "audio/mpeg", "application/octet-stream"),
        ("audio", "audio/mpeg", "binary/octet-stream"),
        ("audio", None, None),
        ("audio", None, "AUDIO/MPEG"),
        ("audio", "audio/mpeg", "application/ogg"),
        ("audio", "audio/mpeg", "application/json"),
        ("video", "video/mp4", "video/mp4"),
        ("video", None, "application/mp4"),
        ("transcript", "application/json", "application/json; charset=utf-8"),
        ("transcript", None, "text/plain"),
        ("transcript", None, "application/octet-stream"),
    ],
)
def test_what_fits_the_file_is_taken(
    harness_for: HarnessFor,
    server: Scripted,
    download_type: str,
    mime_type: str | None,
    media_type: str | None,
) -> None:
    server.play(media(content_type=media_type))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run(GenerationDownload("g", "p", download_type, server.url, "a", mime_type))
    assert taken.content == FILE


@pytest.mark.parametrize("media_type", ["text/html", "audio/mpeg", "image/png", "application/xml"])
def test_what_is_no_transcript_is_refused(harness_for: HarnessFor, server: Scripted, media_type: str) -> None:
    server.play(media(b"x", content_type=media_type))
    link = GenerationDownload("g", "p", "transcript", server.url, "a.json", "application/json")
    with pytest.raises(errors.DiffioTransferError, match="in place of the restored one"):
        Taken(harness_for(server), server.url).fetch.run(link)


def drip(connection: Connection) -> None:
    """Send a file a byte at a time, each in time."""
    connection.send(media(FILE, sent=0))
    while not connection.closing.wait(0.03):
        connection.send(b"x")


def test_a_file_that_drips_is_given_up(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(drip)
    taken = Taken(harness_for(server, timeout=0.3, max_attempts=1), server.url)
    began = time.monotonic()
    with pytest.raises(errors.DiffioTransferError, match="less than 4096 bytes a second came"):
        taken.fetch.run()
    assert time.monotonic() - began < 3


def test_a_destination_that_is_slow_is_no_fault_of_the_media_host(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(media())
    taken = Taken(harness_for(server, timeout=0.1), server.url)

    def write(block: bytes) -> None:
        time.sleep(0.06)
        taken.written.extend(block)

    taken.fetch.write = write
    taken.fetch.run()
    assert (taken.content, len(server.requests)) == (FILE, 1)


def test_a_packed_body_is_unpacked_and_its_length_not_believed(
    harness_for: HarnessFor, server: Scripted
) -> None:
    packed = gzip.compress(FILE)
    server.play(media(packed, extra={"Content-Encoding": "gzip"}))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert (taken.content, taken.sizes) == (FILE, [])


def test_a_packed_body_that_breaks_is_not_added_to_by_a_range(
    harness_for: HarnessFor, server: Scripted
) -> None:
    packed = gzip.compress(FILE)
    server.play(
        media(packed, sent=3 * MIB, extra={"Content-Encoding": "gzip"}),
        media(packed, extra={"Content-Encoding": "gzip"}),
    )
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert ranges(server)[1] == (None, None)


def test_each_break_may_use_all_tries_as_long_as_there_is_progress(
    harness_for: HarnessFor, server: Scripted
) -> None:
    pieces: list[Step] = [media(at=at, sent=MIB) for at in range(0, 4 * MIB, MIB)]
    server.play(*pieces)
    taken = Taken(harness_for(server, max_attempts=2), server.url)
    taken.fetch.run()
    assert taken.content == FILE


@pytest.mark.parametrize("step", [error(500), error(429), error(418), reset, hang, media(sent=0)])
def test_a_host_that_sends_nothing_is_given_up_after_the_tries(
    harness_for: HarnessFor, server: Scripted, step: Step
) -> None:
    server.play(media(sent=MIB), step)
    harness = harness_for(server, max_attempts=3, timeout=0.1)
    with pytest.raises((errors.DiffioTransferError, errors.DiffioConnectionError)) as caught:
        Taken(harness, server.url).fetch.run()
    assert (caught.value.generation_id, caught.value.project_id) == ("g", "p")
    assert caught.value.may_be_billed
    assert len(server.requests) == 3 + 3  # with progress, and without any


def test_a_media_host_that_asks_to_wait_is_obeyed(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(error(503, headers={"Retry-After": "9"}), media())
    harness = harness_for(server)
    Taken(harness, server.url).fetch.run()
    assert 9 <= harness.naps[0] < 9.5


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_that_is_refused_is_renewed(harness_for: HarnessFor, server: Scripted, status: int) -> None:
    server.play(media(sent=MIB), error(status), media(at=MIB))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert taken.links == 2


def test_an_expired_link_is_renewed(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    harness = harness_for(sandbox)
    generation, project = restored(sandbox, FILE)
    link = get_link(harness.client, generation, project, None)
    sandbox.expire_links()
    taken = Taken(harness, "")
    taken.fetch.get_link = lambda: get_link(harness.client, generation, project, None)
    assert taken.fetch.run(link) != link
    assert taken.content == FILE


def test_links_that_are_always_refused_are_an_error(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(error(403))
    taken = Taken(harness_for(server, max_attempts=3), server.url)
    with pytest.raises(errors.DiffioLinkRefusedError) as caught:
        taken.fetch.run()
    assert (taken.links, caught.value.status_code) == (3, 403)


@pytest.mark.parametrize(
    "url",
    ["http://media.diffio.test/a.mp3", "ftp://x/a", "file:///etc/passwd", "https://me:pw@x.test", "", "/a"],
)
def test_a_link_to_where_none_may_lead_is_refused_and_tells_whose_it_was(
    harness_for: HarnessFor, server: Scripted, url: str
) -> None:
    taken = Taken(harness_for(server), url)
    with pytest.raises(errors.DiffioResponseError, match="only https will do") as caught:
        taken.fetch.run()
    assert (caught.value.generation_id, caught.value.may_be_billed, taken.links) == ("g", True, 1)


# --- redirects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_without_credentials(
    harness_for: HarnessFor, server: Scripted, other_server: Scripted, status: int
) -> None:
    server.play(answer(status=status, headers={"Location": f"{other_server.url}/store/a.mp3?sig=x"}))
    other_server.play(media())
    taken = Taken(harness_for(server), f"{server.url}/m/t/a.mp3")
    taken.fetch.run()
    assert taken.content == FILE
    assert other_server.requests[0].target == "/store/a.mp3?sig=x"
    assert "authorization" not in other_server.requests[0].headers


def test_a_relative_redirect_is_followed(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(answer(status=302, headers={"Location": "../b.mp3"}), media())
    Taken(harness_for(server), f"{server.url}/m/t/a.mp3").fetch.run()
    assert server.requests[1].target == "/m/b.mp3"


@pytest.mark.parametrize(
    "location", ["http://evil.test/", "file:///etc/passwd", "https://me:pw@x.test/", "http://[bad", "ftp://x"]
)
def test_a_redirect_to_where_none_may_lead_is_refused(
    harness_for: HarnessFor, server: Scripted, location: str
) -> None:
    server.play(answer(status=302, headers={"Location": location}))
    with pytest.raises(errors.DiffioResponseError, match="only https will do"):
        Taken(harness_for(server), server.url).fetch.run()


@pytest.mark.parametrize("headers", [{"Location": "/again"}, {}])
def test_redirects_are_bounded(harness_for: HarnessFor, server: Scripted, headers: dict[str, str]) -> None:
    server.play(answer(status=302, headers=headers))
    with pytest.raises(errors.DiffioResponseError, match="redirected more than 5 times"):
        Taken(harness_for(server), server.url).fetch.run()
    assert len(server.requests) <= 6


# --- the other end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(28, "No space left on device"),
        errors.DiffioTransferError("Could not write s3://bucket/key: slow down."),
        requests.ConnectionError("the store's own connection broke"),
        ValueError("closed"),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
def test_trouble_with_the_destination_is_not_taken_for_trouble_with_the_download(
    harness_for: HarnessFor, server: Scripted, trouble: Exception
) -> None:
    written: list[bytes] = []

    def write(block: bytes) -> None:
        written.append(block)
        raise trouble

    server.play(media())
    harness = harness_for(server)
    fetch = Fetch(harness.client, Taken(harness, server.url).get_link, write)
    with pytest.raises(type(trouble)) as caught:
        fetch.run()
    assert caught.value is trouble
    assert (len(written), len(server.requests), harness.naps) == (1, 1, [])


def test_no_bytes_are_lost_where_the_break_is_in_the_middle_of_a_block(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(media(sent=MIB + 7), media(at=MIB))
    taken = Taken(harness_for(server), server.url)
    taken.fetch.run()
    assert taken.content == FILE
    assert ranges(server)[1] == (f"bytes={MIB}-", '"one"')


def test_a_fetch_shows_no_link(harness_for: HarnessFor, server: Scripted) -> None:
    signature = "signature-0123456789abcdef"
    server.play(media(sent=10), error(500))
    taken = Taken(harness_for(server, max_attempts=2), f"{server.url}/a.mp3?sig={signature}")
    with pytest.raises(errors.DiffioTransferError) as caught:
        taken.fetch.run()
    assert signature not in everything_said(caught.value) + repr(taken.fetch)
