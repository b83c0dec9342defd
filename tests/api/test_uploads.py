"""Recordings on their way to Diffio, by both protocols."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from airflow_provider_diffio.api import endpoints, errors, uploads
from airflow_provider_diffio.api.models import CreatedProject, EdgeUpload, SignedPutUpload
from airflow_provider_diffio.api.uploads import Slice, StreamSource, source_of, upload
from airflow_provider_diffio.sandbox import Sandbox
from tests.api.conftest import UploadHarness, everything_said, generation_of
from tests.api.scripted import Scripted, answer, error, reset

HarnessFor = Callable[..., UploadHarness]

PART = 64 * 1024
#: Seven whole parts and a bit.
RECORDING = random.Random(7).randbytes(7 * PART + 1000)  # noqa: S311 - the same bytes each time
PARTS = "/v1/uploads/parts/*"


class FileSource:
    """A file on disk, opened once for each reader."""

    def __init__(self, path: Path, name: str = "a.wav") -> None:
        self.path, self.name, self.size_bytes = path, name, path.stat().st_size

    def open(self) -> IO[bytes]:
        return self.path.open("rb")

    def check_unchanged(self) -> None:
        if self.path.stat().st_size != self.size_bytes:
            raise errors.DiffioSourceChangedError(f"{self.name} changed.")


@pytest.fixture
def recording(tmp_path: Path) -> FileSource:
    path = tmp_path / "a.wav"
    path.write_bytes(RECORDING)
    return FileSource(path)


def create(harness: UploadHarness, size: int, content_type: str = "audio/wav") -> CreatedProject:
    return harness.client.call(
        endpoints.create_project("a.wav", content_type=content_type, content_length=size)
    )


def send(harness: UploadHarness, source: Any, **options: Any) -> CreatedProject:
    project = create(harness, source.size_bytes)
    upload(harness.client, project, source, "audio/wav", **options)
    return project


def stored(sandbox: Sandbox, project: CreatedProject) -> bytes:
    """Return what arrived: the sandbox passes it through as the result of a generation."""
    return sandbox.result_bytes(generation_of(sandbox, project.api_project_id))


def part_requests(sandbox: Sandbox) -> list[str]:
    return [r["path"].rpartition("/")[2] for r in sandbox.requests() if "/uploads/parts/" in r["path"]]


def open_uploads(sandbox: Sandbox) -> int:
    count: int = sandbox.ledger()["totals"]["openUploads"]
    return count


def session_at(server: Scripted, part_size: int = PART) -> CreatedProject:
    return CreatedProject("p", EdgeUpload("api-p", server.url, "v1.token.sig", "key", part_size, 1 << 31))


# --- edge -------------------------------------------------------------------------------------------------


def test_a_recording_arrives_in_parts_as_it_is(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    project = send(harness_for(sandbox), recording)
    assert stored(sandbox, project) == RECORDING
    assert sorted(part_requests(sandbox)) == list("12345678")
    assert open_uploads(sandbox) == 0


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_any_number_of_lanes_will_do(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource, concurrency: int
) -> None:
    assert stored(sandbox, send(harness_for(sandbox), recording, concurrency=concurrency)) == RECORDING


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 3 * PART])
def test_parts_end_where_they_should(harness_for: HarnessFor, sandbox: Sandbox, size: int) -> None:
    content = RECORDING[:size]
    project = send(harness_for(sandbox), source_of(io.BytesIO(content), "a.wav"))
    assert stored(sandbox, project) == content
    assert len(part_requests(sandbox)) == -(-size // PART)


def test_no_more_parts_are_under_way_than_there_are_lanes(
    harness_for: HarnessFor, sandbox: Sandbox, tmp_path: Path
) -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    class Counting(FileSource):
        def open(self) -> IO[bytes]:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            return Closing(super().open())

    class Closing(io.BufferedReader):
        def __init__(self, raw: Any) -> None:
            super().__init__(raw)

        def close(self) -> None:
            nonlocal under_way
            if not self.closed:
                with lock:
                    under_way -= 1
            super().close()

    path = tmp_path / "a.wav"
    path.write_bytes(RECORDING)
    sandbox.add_fault("delay", path=PARTS, seconds=0.05, nth="every")
    send(harness_for(sandbox), Counting(path), concurrency=3)
    assert (most, under_way) == (3, 0)


@pytest.mark.parametrize("kind", ["reset-before", "reset-after", "truncate"])
def test_a_part_that_fails_is_sent_again_alone(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource, kind: str
) -> None:
    sandbox.add_fault(kind, path="/v1/uploads/parts/3")
    project = send(harness_for(sandbox), recording)
    assert stored(sandbox, project) == RECORDING
    assert sorted(part_requests(sandbox)) == list("123345678")


def test_every_call_of_the_edge_is_tried_again(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    for path in ("start", "parts/1", "parts/8", "complete"):
        sandbox.add_fault("status", path=f"/v1/uploads/{path}", status=503, times=2)
    assert stored(sandbox, send(harness_for(sandbox), recording)) == RECORDING


def test_a_lost_answer_to_complete_is_asked_for_again(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    sandbox.add_fault("reset-after", path="/v1/uploads/complete")
    assert stored(sandbox, send(harness_for(sandbox), recording)) == RECORDING


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (401, errors.DiffioUploadRefusedError),
        (413, errors.DiffioTooLargeError),
        (400, errors.DiffioApiError),
        (503, errors.DiffioServerError),
    ],
)
def test_an_upload_that_is_refused_is_given_up_and_the_first_error_raised(
    harness_for: HarnessFor,
    sandbox: Sandbox,
    recording: FileSource,
    status: int,
    cls: type[errors.DiffioError],
) -> None:
    harness = harness_for(sandbox)
    sandbox.add_fault("status", path="/v1/uploads/parts/5", status=status, nth="every")
    project = create(harness, recording.size_bytes)
    with pytest.raises(cls) as caught:
        upload(harness.client, project, recording, "audio/wav")
    assert type(caught.value) is cls
    assert caught.value.project_id == project.api_project_id
    assert caught.value.endpoint == "uploads/parts/5"
    assert open_uploads(sandbox) == 0


def test_what_is_left_is_not_sent_after_a_refusal(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    sandbox.add_fault("status", path="/v1/uploads/parts/1", status=401)
    with pytest.raises(errors.DiffioUploadRefusedError):
        send(harness_for(sandbox), recording, concurrency=1)
    assert part_requests(sandbox) == ["1"]


def test_a_refusal_is_not_kept_back_by_a_part_that_waits_for_its_next_try(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    harness = harness_for(sandbox)

    def sleep(seconds: float) -> None:
        harness.naps.append(seconds)
        time.sleep(0.02)

    harness.client.sleep = sleep
    first, second = "/v1/uploads/parts/1", "/v1/uploads/parts/2"
    sandbox.add_fault("status", path=first, status=503, headers={"Retry-After": "100"}, nth="every")
    sandbox.add_fault("delay", path=second, seconds=0.1)
    sandbox.add_fault("status", path=second, status=401)
    with pytest.raises(errors.DiffioUploadRefusedError):
        send(harness, recording, concurrency=2)
    assert 0 < sum(harness.naps) < 50
    assert sorted(part_requests(sandbox)) == ["1", "2"]


def test_an_upload_that_can_not_be_given_up_is_reported_by_the_first_error(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.add_fault("status", path="/v1/uploads/parts/5", status=403)
    sandbox.add_fault("status", path="/v1/uploads/abort", status=503, nth="every")
    with caplog.at_level(logging.WARNING), pytest.raises(errors.DiffioUploadRefusedError):
        send(harness_for(sandbox), recording)
    assert "could not be given up" in caplog.text


def test_a_refused_complete_gives_the_upload_up(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    sandbox.add_fault("status", path="/v1/uploads/complete", status=400)
    with pytest.raises(errors.DiffioApiError):
        send(harness_for(sandbox), recording)
    assert open_uploads(sandbox) == 0


def test_an_interrupted_upload_is_given_up(harness_for: HarnessFor, sandbox: Sandbox, tmp_path: Path) -> None:
    class Interrupted(FileSource):
        def check_unchanged(self) -> None:
            raise KeyboardInterrupt

    path = tmp_path / "a.wav"
    path.write_bytes(RECORDING)
    with pytest.raises(KeyboardInterrupt):
        send(harness_for(sandbox), Interrupted(path))
    assert open_uploads(sandbox) == 0


def test_another_stored_size_is_an_error(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    server.play(
        answer({"uploadId": "u", "partSizeBytes": 1 << 20}),
        answer({"etag": "e"}),
        answer({"objectKey": "k", "sizeBytes": len(RECORDING) - 1}),
    )
    with pytest.raises(errors.DiffioTransferError, match=f"stored {len(RECORDING) - 1} bytes of a.wav"):
        upload(harness_for(server).client, session_at(server), recording, "audio/wav")


@pytest.mark.parametrize("said", [None, "many", True])
def test_a_stored_size_that_is_not_told_is_not_compared(
    harness_for: HarnessFor, server: Scripted, recording: FileSource, said: Any
) -> None:
    server.play(
        answer({"uploadId": "u", "partSizeBytes": 1 << 20}),
        answer({"etag": "e"}),
        answer({"sizeBytes": said}),
    )
    upload(harness_for(server).client, session_at(server), recording, "audio/wav")
    assert server.requests[1].body == RECORDING


def test_more_parts_than_diffio_numbers_are_refused(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    server.play(answer({"uploadId": "u", "partSizeBytes": 1}), answer({}))
    with pytest.raises(errors.DiffioInputError, match="would need 459752 parts of 1 bytes"):
        upload(harness_for(server).client, session_at(server), recording, "audio/wav")
    assert [request.target for request in server.requests] == ["/v1/uploads/start", "/v1/uploads/abort"]


def test_a_huge_recording_in_tiny_parts_takes_no_memory(harness_for: HarnessFor, server: Scripted) -> None:
    class Huge(FileSource):
        def __init__(self) -> None:
            self.name, self.size_bytes = "huge.wav", 1 << 31

    server.play(answer({"uploadId": "u", "partSizeBytes": 1}), answer({}))
    with pytest.raises(errors.DiffioInputError, match="would need 2147483648 parts"):
        upload(harness_for(server).client, session_at(server), Huge(), "audio/wav")


def test_a_part_is_announced_with_its_length(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    server.play(answer({"uploadId": "a b&c", "partSizeBytes": 1 << 20}), answer({"etag": "e"}), answer({}))
    upload(harness_for(server).client, session_at(server), recording, "audio/wav")
    part = server.requests[1]
    assert (part.method, part.target) == ("PUT", "/v1/uploads/parts/1?uploadId=a+b%26c")
    assert part.headers["content-length"] == str(len(RECORDING))
    assert part.headers["content-type"] == "application/octet-stream"
    assert "transfer-encoding" not in part.headers


# --- signed PUT -------------------------------------------------------------------------------------------


def test_a_signed_put_sends_the_whole_file_once(
    harness_for: HarnessFor, old_sandbox: Sandbox, recording: FileSource
) -> None:
    project = send(harness_for(old_sandbox), recording)
    assert stored(old_sandbox, project) == RECORDING
    (put,) = [r for r in old_sandbox.requests() if r["method"] == "PUT"]
    assert (put["authorization"], put["apiKeySeen"]) == ("none", False)


def test_a_signed_put_has_the_announced_type_and_length_and_no_credential(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    server.play(answer(b"", content_type=None))
    client = harness_for(server, headers={"X-Gateway": "hunter2"}).client
    project = CreatedProject("p", SignedPutUpload(f"{server.url}/bucket/a.wav?sig=x"))
    upload(client, project, recording, "audio/x-special")
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("PUT", "/bucket/a.wav?sig=x", RECORDING)
    assert request.headers["content-type"] == "audio/x-special"
    assert request.headers["content-length"] == str(len(RECORDING))
    assert not {"authorization", "x-gateway", "transfer-encoding"} & request.headers.keys()


def test_a_signed_put_that_breaks_starts_over(
    harness_for: HarnessFor, old_sandbox: Sandbox, recording: FileSource
) -> None:
    old_sandbox.add_fault("reset-before", path="/storage/*", times=2)
    old_sandbox.add_fault("status", path="/storage/*", status=503, nth=3)
    assert stored(old_sandbox, send(harness_for(old_sandbox), recording)) == RECORDING


@pytest.mark.parametrize(
    ("step", "cls", "tries"),
    [
        (answer(b"<Error>", 403, content_type="application/xml"), errors.DiffioUploadRefusedError, 1),
        (answer(b"<Error>", 400, content_type="application/xml"), errors.DiffioApiError, 1),
        (answer(b"", 302, headers={"Location": "http://127.0.0.1:1/"}), errors.DiffioApiError, 1),
        (error(503), errors.DiffioTransferError, 3),
        (error(429), errors.DiffioTransferError, 3),
        (reset, errors.DiffioConnectionError, 3),
    ],
)
def test_a_signed_put_that_is_refused(
    harness_for: HarnessFor,
    server: Scripted,
    recording: FileSource,
    step: Any,
    cls: type[errors.DiffioError],
    tries: int,
) -> None:
    server.play(step)
    project = CreatedProject("p", SignedPutUpload(f"{server.url}/bucket/a.wav?sig=hunter2"))
    with pytest.raises(cls) as caught:
        upload(harness_for(server, max_attempts=3).client, project, recording, "audio/wav")
    assert type(caught.value) is cls
    assert (len(server.requests), caught.value.project_id) == (tries, "p")
    assert "hunter2" not in everything_said(caught.value)


def test_a_store_that_asks_to_wait_is_obeyed(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    server.play(error(503, headers={"Retry-After": "9"}), answer(b""))
    harness = harness_for(server)
    upload(harness.client, CreatedProject("p", SignedPutUpload(server.url)), recording, "audio/wav")
    assert 9 <= harness.naps[0] < 9.5


# --- sources ----------------------------------------------------------------------------------------------


def test_a_stream_is_read_from_where_it_stands(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    stream = io.BytesIO(b"ID3 header" + RECORDING)
    stream.seek(10)
    source = source_of(stream, "a.wav")
    assert source.size_bytes == len(RECORDING)
    assert stored(sandbox, send(harness_for(sandbox), source)) == RECORDING


def test_a_stream_is_left_open_and_can_be_given_again(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    stream = io.BytesIO(RECORDING)
    sandbox.add_fault("status", path=PARTS, status=401)
    with pytest.raises(errors.DiffioUploadRefusedError):
        send(harness_for(sandbox), source_of(stream))
    assert source_of(stream).size_bytes == len(RECORDING)


def test_an_open_file_is_a_stream_with_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "episode.wav"
    path.write_bytes(b"RIFF")
    with path.open("rb") as stream:
        assert source_of(stream).name == "episode.wav"
        assert source_of(stream, "other.wav").name == "other.wav"
        assert stream.tell() == 0
    assert source_of(io.BytesIO(b"RIFF")).name == "recording"


def test_a_stream_without_seek_is_refused() -> None:
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as stream, pytest.raises(errors.DiffioInputError, match="cannot seek"):
        source_of(stream)


def test_a_text_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("RIFF")
    for stream in (io.StringIO("RIFF"), path.open()):
        with stream, pytest.raises(errors.DiffioInputError, match="binary mode"):
            source_of(stream)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [7, "a.wav", None, b"RIFF"])
def test_what_is_no_recording_is_refused(thing: Any) -> None:
    with pytest.raises(errors.DiffioInputError, match="must be a path or a binary stream"):
        source_of(thing)


def test_an_empty_recording_is_refused() -> None:
    with pytest.raises(errors.DiffioInputError, match=r"a.wav is empty"):
        source_of(io.BytesIO(), "a.wav")


def project_of(server: Scripted, max_bytes: int) -> CreatedProject:
    return CreatedProject("p", EdgeUpload("s", server.url, "t", "k", PART, max_bytes))


class Vast(FileSource):
    """A recording of 3 GiB that is never read."""

    def __init__(self) -> None:
        self.name, self.size_bytes = "vast.wav", 3 << 30


def test_the_sessions_own_limit_decides_what_is_too_large(
    harness_for: HarnessFor, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    client = harness_for(server).client
    server.play(answer({"uploadId": "u", "partSizeBytes": 1}), answer({}))
    vast = source_of(Vast())
    assert "over Diffio's documented limit of 2147483648" in caplog.text
    with pytest.raises(errors.DiffioInputError, match="Diffio takes 3221225471 at most"):
        upload(client, project_of(server, (3 << 30) - 1), vast, "audio/wav")
    assert server.requests == []
    with pytest.raises(errors.DiffioInputError, match="would need 3221225472 parts"):
        upload(client, project_of(server, 4 << 30), vast, "audio/wav")


def test_a_recording_over_the_sessions_limit_is_refused_before_a_byte_is_sent(
    harness_for: HarnessFor, server: Scripted, recording: FileSource
) -> None:
    project = CreatedProject("p", EdgeUpload("s", server.url, "t", "k", PART, 1000))
    with pytest.raises(errors.DiffioInputError, match="Diffio takes 1000 at most") as caught:
        upload(harness_for(server).client, project, recording, "audio/wav")
    assert (server.requests, caught.value.project_id) == ([], "p")


@pytest.mark.parametrize("size", [len(RECORDING) - 7, len(RECORDING) + 7])
def test_a_stream_that_changed_its_length_is_noticed(
    harness_for: HarnessFor, sandbox: Sandbox, size: int
) -> None:
    stream = io.BytesIO(RECORDING)
    source = source_of(stream, "a.wav")
    harness = harness_for(sandbox)
    project = create(harness, source.size_bytes)
    stream.truncate(size) if size < len(RECORDING) else stream.seek(0, 2) and stream.write(b"x" * 7)
    with pytest.raises(errors.DiffioSourceChangedError) as caught:
        upload(harness.client, project, source, "audio/wav")
    assert caught.value.project_id == project.api_project_id
    assert open_uploads(sandbox) == 0


@pytest.mark.parametrize("protocol", ["edge", "signed-put"])
def test_a_file_that_shrinks_while_it_is_sent_is_noticed(
    harness_for: HarnessFor, sandbox: Sandbox, old_sandbox: Sandbox, recording: FileSource, protocol: str
) -> None:
    class Shrinking(FileSource):
        def open(self) -> IO[bytes]:
            os.truncate(self.path, 1000)
            return super().open()

    chosen = sandbox if protocol == "edge" else old_sandbox
    with pytest.raises(errors.DiffioSourceChangedError) as caught:
        send(harness_for(chosen), Shrinking(recording.path))
    assert "became shorter while it was read" in caught.value.message
    assert chosen.ledger()["totals"]["projectsWithoutUpload"] == 1
    assert open_uploads(chosen) == 0


def test_a_file_that_grows_while_it_is_sent_is_noticed(
    harness_for: HarnessFor, sandbox: Sandbox, recording: FileSource
) -> None:
    class Growing(FileSource):
        def open(self) -> IO[bytes]:
            with self.path.open("ab") as file:
                file.write(b"x")
            return super().open()

    with pytest.raises(errors.DiffioSourceChangedError):
        send(harness_for(sandbox), Growing(recording.path))
    assert open_uploads(sandbox) == 0


class Faulty(io.BytesIO):
    """A stream whose store fails a number of times."""

    failures = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionResetError(104, "Connection reset by the object store")
        return super().read(size)


def test_trouble_with_the_source_is_not_taken_for_trouble_with_diffio(
    harness_for: HarnessFor, sandbox: Sandbox
) -> None:
    stream = Faulty(RECORDING)
    source = source_of(stream, "a.wav")
    stream.failures = 10_000
    with pytest.raises(errors.DiffioTransferError) as caught:
        send(harness_for(sandbox), source)
    assert caught.value.message == "a.wav could not be read: Connection reset by the object store."
    assert open_uploads(sandbox) == 0


def test_trouble_with_the_source_that_passes_is_tried_again(
    harness_for: HarnessFor, sandbox: Sandbox
) -> None:
    stream = Faulty(RECORDING)
    source = source_of(stream, "a.wav")
    stream.failures = 2
    assert stored(sandbox, send(harness_for(sandbox), source)) == RECORDING


def test_several_readers_of_one_stream_do_not_disturb_each_other() -> None:
    source = StreamSource(io.BytesIO(RECORDING), "a.wav")
    found: dict[int, bytes] = {}

    def read(start: int) -> None:
        with source.open() as stream:
            stream.seek(start)
            found[start] = b"".join(iter(lambda: stream.read(1000), b""))

    threads = [threading.Thread(target=read, args=(start * PART,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {start * PART: RECORDING[start * PART :] for start in range(8)}


def test_a_slice_is_a_body_that_knows_its_length_and_starts_over() -> None:
    body = Slice(io.BytesIO(RECORDING), 100, 1000, "a.wav")
    assert len(body) == 1000
    for _ in range(2):
        body.seek(0)
        assert hashlib.sha256(body.read(300) + body.read()).digest() == (
            hashlib.sha256(RECORDING[100:1100]).digest()
        )
        assert (body.read(), body.read(7), body.tell()) == (b"", b"", 1000)
    with pytest.raises(io.UnsupportedOperation):
        body.seek(7)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.wav", "audio/x-wav"),
        ("A.MP3", "audio/mpeg"),
        ("a.mp4", "video/mp4"),
        ("a", "application/octet-stream"),
        ("a.unknown-ending", "application/octet-stream"),
    ],
)
def test_the_media_type_is_guessed_from_the_name(name: str, content_type: str) -> None:
    assert uploads.guess_content_type(name) == content_type
