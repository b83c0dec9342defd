"""Recordings as they come from telephones, recorders and accidents."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import JSONObject, Wire

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")
psutil = pytest.importorskip("psutil")
pytest.importorskip("noisereduce")
signals = pytest.importorskip("tests.sandbox.signals")
media = pytest.importorskip("tests.sandbox.media")

RATE = 16000
SECONDS = 4.0


@pytest.fixture(scope="module")
def restorer() -> Iterator[Sandbox]:
    """One sandbox for all, because its worker takes a moment to start."""
    with Sandbox(processing_seconds=0.0) as sandbox:
        yield sandbox


@pytest.fixture
def wire(restorer: Sandbox) -> Wire:
    return Wire(restorer)


def restored(wire: Wire, recording: bytes, **fields: Any) -> tuple[str, JSONObject]:
    generation_id = wire.generation(wire.uploaded(recording, **fields))
    return generation_id, wire.finished(generation_id, seconds=120)


def heard(wire: Wire, generation_id: str) -> tuple[Any, int]:
    samples, rate = signals.read(wire.sandbox.result_bytes(generation_id))
    return samples, rate


def spoiled(value: float, subtype: str = "FLOAT") -> bytes:
    samples, _ = signals.voice(RATE, SECONDS)
    samples[len(samples) // 2] = value
    return bytes(signals.wav(samples, RATE, subtype=subtype))


def scaled(factor: float) -> bytes:
    return bytes(signals.wav(factor * signals.voice(RATE, SECONDS)[0], RATE, subtype="FLOAT"))


def unfinished(riff: int, data: int) -> bytes:
    """A WAV whose recorder lost its power: the sizes in the header are not the file's."""
    recording = bytearray(signals.wav(signals.voice(RATE, SECONDS)[0], RATE))
    at = recording.index(b"data") + 4
    recording[4:8], recording[at : at + 4] = struct.pack("<I", riff), struct.pack("<I", data)
    return bytes(recording)


def encoded(**options: Any) -> bytes:
    return bytes(signals.wav(signals.voice(RATE, SECONDS)[0], RATE, **options))


def many_channels(count: int, rate: int = RATE, **options: Any) -> bytes:
    return bytes(signals.wav(np.stack([signals.voice(rate, SECONDS)[0]] * count, axis=1), rate, **options))


def gsm() -> bytes:
    return bytes(signals.wav(signals.voice(8000, SECONDS)[0], 8000, subtype="GSM610"))


@pytest.mark.parametrize(
    "recording",
    [
        gsm,
        lambda: signals.wav(signals.voice(8000, SECONDS)[0], 8000, subtype="ULAW"),
        lambda: spoiled(np.nan),
        lambda: spoiled(np.inf),
        lambda: spoiled(-np.inf),
        lambda: spoiled(1e300, "DOUBLE"),
        lambda: scaled(1e6),
        lambda: unfinished(0, 0),
        lambda: unfinished(0xFFFFFFFF, 0xFFFFFFFF),
        lambda: unfinished(0, 0x7FFFF000),
        lambda: encoded(format="RF64"),
        lambda: encoded(format="W64"),
        lambda: encoded(format="CAF"),
        lambda: many_channels(6, 48000, format="FLAC"),
        lambda: many_channels(24),
        lambda: media.as_media("matroska", "ac3", rate=48000),
    ],
    ids=[
        "GSM",
        "telephone",
        "NaN",
        "inf",
        "minus inf",
        "1e300",
        "loud",
        "no sizes",
        "streamed sizes",
        "wrong sizes",
        "RF64",
        "W64",
        "CAF",
        "5.1",
        "24 channels",
        "AC-3",
    ],
)
def test_an_odd_recording_is_restored(wire: Wire, recording: Callable[[], bytes]) -> None:
    generation_id, progress = restored(wire, recording())
    assert progress["status"] == "complete", progress
    samples, rate = heard(wire, generation_id)
    assert len(samples) / rate == pytest.approx(SECONDS, abs=0.1)
    level = np.sqrt(np.mean(np.square(samples)))
    assert 0.02 < level < 0.5


def test_a_cut_recording_is_restored_as_far_as_it_goes(wire: Wire) -> None:
    whole = encoded(format="FLAC")
    generation_id, progress = restored(wire, whole[: len(whole) // 2])
    assert progress["status"] == "complete", progress
    samples, rate = heard(wire, generation_id)
    assert 0.25 * SECONDS < len(samples) / rate < 0.75 * SECONDS


def test_a_damaged_recording_is_restored_without_what_is_damaged(wire: Wire) -> None:
    damaged = bytearray(encoded(format="FLAC"))
    middle = len(damaged) // 2
    damaged[middle : middle + 500] = bytes(500)
    generation_id, progress = restored(wire, bytes(damaged))
    assert progress["status"] == "complete", progress
    samples, rate = heard(wire, generation_id)
    assert len(samples) / rate > 0.75 * SECONDS


def unknown_format() -> bytes:
    recording = bytearray(encoded())
    recording[20:22] = struct.pack("<H", 0x1234)
    return bytes(recording)


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (lambda: signals.wav(np.full(RATE, np.nan), RATE, subtype="FLOAT"), "its samples are not numbers"),
        (lambda: signals.wav(np.zeros(0), RATE), "The recording is empty."),
        (lambda: unfinished(0, 0)[:44], "The recording is empty."),
        (lambda: signals.wav(signals.voice(RATE, 2)[0], 100), "The sample rate of 100 Hz is too low"),
        (unknown_format, "The sound is in a format that cannot be decoded."),
        (lambda: encoded(format="FLAC")[:30], "it is damaged, or its end or its beginning is missing"),
        (
            lambda: media.as_media("mp4", "aac", picture="mpeg4")[:9000],
            "it is damaged, or its end or its beginning is missing",
        ),
    ],
    ids=["no number", "no samples", "header only", "100 Hz", "unknown codec", "cut header", "cut MP4"],
)
def test_what_cannot_be_restored_says_why(wire: Wire, recording: Callable[[], bytes], reason: str) -> None:
    _, progress = restored(wire, recording())
    assert (progress["status"], progress["error"]) == ("failed", "The recording could not be decoded.")
    assert reason in progress["errorDetails"]


@pytest.mark.parametrize(
    ("container", "codec", "picture", "size", "pixels"),
    [
        ("webm", "libopus", "libvpx", (321, 241), "yuv420p"),
        ("mp4", "aac", "libx264", (321, 241), "yuv444p"),
        ("avi", "pcm_s16le", "mpeg4", (64, 48), "yuv420p"),
        ("matroska", "aac", "libx264", (64, 48), "yuv420p"),
        ("mxf", "pcm_s16le", "mpeg2video", (320, 240), "yuv420p"),
        ("mpegts", "aac", "libx264", (64, 48), "yuv420p"),
        ("3gp", "aac", "mpeg4", (176, 144), "yuv420p"),
    ],
)
def test_an_odd_video_is_restored(
    wire: Wire, container: str, codec: str, picture: str, size: tuple[int, int], pixels: str
) -> None:
    recording = media.as_media(container, codec, picture=picture, size=size, pixels=pixels)
    generation_id, progress = restored(wire, recording)
    assert (progress["status"], progress["hasVideo"]) == ("complete", True), progress
    assert progress["restoredVideo"]["status"] == "complete"
    with av.open(io.BytesIO(wire.sandbox.result_bytes(generation_id, "video"))) as video:
        seen, sound = video.streams.video[0], video.streams.audio[0]
        assert abs(seen.width - size[0]) <= 1
        assert abs(seen.height - size[1]) <= 1
        assert abs(float(seen.start_time * seen.time_base - sound.start_time * sound.time_base)) < 0.1
        assert sum(1 for _ in video.decode(seen)) == 100


def test_a_failed_video_does_not_take_the_sound_with_it(wire: Wire) -> None:
    recording = media.with_broken_pictures(media.as_media("webm", "libopus", picture="libvpx"), "webm")
    generation_id, progress = restored(wire, recording, contentType="video/webm")
    assert (progress["status"], progress["hasVideo"]) == ("complete", True), progress
    assert progress["inference"]["status"] == "complete"
    stage = progress["restoredVideo"]
    assert (stage["status"], stage["error"]) == ("failed", "The video could not be restored.")
    assert stage["errorDetails"] == "The pictures are damaged, or in a format that cannot be decoded."
    for fields in ({}, {"downloadType": "video"}):
        response = wire.download(generation_id, **fields)
        assert (response.status, response.body) == (409, {"error": "Restored video job has not succeeded."})
    samples, rate = signals.read(
        wire.http.get(wire.download(generation_id, downloadType="audio").body["downloadUrl"]).content
    )
    assert len(samples) / rate == pytest.approx(SECONDS, abs=0.1)


def workers() -> list[Any]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "airflow_provider_diffio.sandbox.worker" in child.cmdline()
    ]


def test_a_crash_of_the_decoder_is_told_and_ends_with_the_recording() -> None:
    with Sandbox(processing_seconds=0.0) as sandbox:
        wire = Wire(sandbox)
        before = {worker.pid for worker in workers()}
        generation_id = wire.generation(wire.uploaded(encoded()))
        deadline = time.monotonic() + 30
        while not (mine := [it for it in workers() if it.pid not in before]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(mine[0].pid, signal.SIGSEGV)
        progress = wire.finished(generation_id, seconds=60)
        assert progress["error"] == "The recording could not be restored."
        assert progress["errorDetails"] == "The decoder crashed on this recording (SIGSEGV)."
        assert restored(wire, encoded())[1]["status"] == "complete"
        # A worker that the system ends between two recordings costs neither of them.
        (idle,) = [it for it in workers() if it.pid not in before]
        idle.kill()
        time.sleep(0.5)
        assert restored(wire, encoded())[1]["status"] == "complete"


def test_nothing_of_the_decoders_is_seen_where_the_results_are_read() -> None:
    """FFmpeg and LAME write to the process's standard output if they want to; a result is a line of JSON."""
    code = (
        "import os; from airflow_provider_diffio.sandbox import worker\n"
        "def run(source, folder):\n"
        "    os.write(1, b'noise'); print('more'); return {'files': {}}\n"
        "worker.run = run; worker.main()"
    )
    worker = subprocess.run(
        [sys.executable, "-c", code],
        input=b'{"source": "a", "folder": "b"}\n',
        capture_output=True,
        check=True,
    )
    assert worker.stdout == b'{"files": {}}\n'
