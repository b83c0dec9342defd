"""Whether a restored recording is better than what was sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import JSONObject, Wire

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")
pytest.importorskip("noisereduce")
signals = pytest.importorskip("tests.sandbox.signals")
media = pytest.importorskip("tests.sandbox.media")


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
    return generation_id, wire.finished(generation_id, seconds=60)


@pytest.mark.parametrize("kind", ["white", "pink", "hum"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_noisy_recording_comes_back_cleaner(wire: Wire, rate: int, kind: str) -> None:
    clean, speaking = signals.voice(rate)
    noisy = signals.mixed(clean, speaking, signals.noise(len(clean), kind, rate), decibels=10)
    scale = 0.95 / np.abs(noisy).max()
    generation_id, progress = restored(wire, signals.wav(noisy * scale, rate))
    assert progress["status"] == "complete"
    heard, heard_rate = signals.read(wire.sandbox.result_bytes(generation_id))
    assert (heard_rate, len(heard)) == (rate, len(clean))
    better = signals.signal_to_noise(clean, heard) - signals.signal_to_noise(clean, noisy)
    quieter = signals.floor(noisy * scale, speaking, rate) - signals.floor(heard, speaking, rate)
    assert better >= 5
    assert quieter >= 18


def test_a_clean_recording_is_left_as_it_is(wire: Wire) -> None:
    clean, _ = signals.voice(16000)
    generation_id, _ = restored(wire, signals.wav(clean, 16000))
    heard, _ = signals.read(wire.sandbox.result_bytes(generation_id))
    assert signals.signal_to_noise(clean, heard) > 15


def test_joins_between_blocks_are_not_heard(wire: Wire) -> None:
    rate = 8000
    clean, speaking = signals.voice(rate, seconds=40)
    noisy = signals.mixed(clean, speaking, signals.noise(len(clean), "white", rate), decibels=15)
    generation_id, _ = restored(wire, signals.wav(noisy * 0.5, rate))
    heard, _ = signals.read(wire.sandbox.result_bytes(generation_id))
    assert len(heard) == len(clean)
    half = rate // 2
    around = [
        signals.signal_to_noise(clean[at - half : at + half], heard[at - half : at + half])
        for at in (15 * rate, 30 * rate)
        if speaking[at - half : at + half].mean() > 0.5
    ]
    assert around
    assert min(around) > signals.signal_to_noise(clean, noisy) - 3


def test_stereo_stays_stereo(wire: Wire) -> None:
    clean, _ = signals.voice(44100, seconds=3)
    both = np.stack([clean, 0.5 * clean], axis=1)
    generation_id, _ = restored(wire, signals.wav(both, 44100))
    heard, _ = signals.read(wire.sandbox.result_bytes(generation_id))
    assert heard.shape == both.shape
    assert np.std(heard[:, 0]) > 1.5 * np.std(heard[:, 1])


def test_the_transcript_says_when_somebody_speaks(wire: Wire) -> None:
    rate = 16000
    clean, speaking = signals.voice(rate)
    noisy = signals.mixed(clean, speaking, signals.noise(len(clean), "pink", rate), decibels=10)
    generation_id, _ = restored(wire, signals.wav(noisy * 0.3, rate))
    segments = json.loads(wire.sandbox.result_bytes(generation_id, "transcript"))["segments"]
    assert {segment["text"] for segment in segments} == {"[speech]"}
    found = np.zeros(len(clean), dtype=bool)
    for segment in segments:
        assert segment["words"][0]["start"] == segment["start"] < segment["end"]
        found[int(segment["start"] * rate) : int(segment["end"] * rate)] = True
    assert found[speaking].mean() > 0.95
    assert found[~speaking].mean() < 0.5


@pytest.mark.parametrize(
    ("content_type", "recording"),
    [
        ("audio/flac", lambda: signals.wav(signals.voice(48000, 3)[0], 48000, format="FLAC")),
        ("audio/ogg", lambda: signals.wav(signals.voice(48000, 3)[0], 48000, format="OGG")),
        ("audio/mpeg", lambda: signals.wav(signals.voice(22050, 3)[0], 22050, format="MP3")),
        ("audio/wav", lambda: signals.wav(signals.voice(96000, 3)[0], 96000)),
        ("audio/wav", lambda: signals.wav(np.stack([signals.voice(48000, 3)[0]] * 6, axis=1), 48000)),
        ("audio/wav", lambda: signals.wav(signals.voice(8000, 3)[0][:50], 8000)),
        ("audio/wav", lambda: signals.wav(np.zeros(8000), 8000)),
        ("audio/mp4", lambda: media.as_media("ipod", "aac")),
        ("application/octet-stream", lambda: media.as_media("matroska", "libopus")),
    ],
    ids=["flac", "ogg", "mp3", "96 kHz", "six channels", "tiny", "silence", "m4a", "mka"],
)
def test_many_formats_can_be_read(wire: Wire, content_type: str, recording: Any) -> None:
    generation_id, progress = restored(wire, recording(), contentType=content_type)
    assert (progress["status"], progress["hasVideo"]) == ("complete", False), progress
    samples, rate = signals.read(wire.sandbox.result_bytes(generation_id))
    assert rate <= 48000
    assert len(samples) > 0


@pytest.mark.parametrize(
    ("container", "codec", "picture", "kept"),
    [
        ("mp4", "aac", "libx264", "h264"),
        ("mov", "aac", "mpeg4", "mpeg4"),
        ("webm", "libopus", "libvpx", "h264"),
    ],
)
def test_a_video_keeps_its_pictures(wire: Wire, container: str, codec: str, picture: str, kept: str) -> None:
    recording = media.as_media(container, codec, picture=picture)
    generation_id, progress = restored(wire, recording, fileName=f"talk.{container}")
    assert (progress["status"], progress["hasVideo"]) == ("complete", True), progress
    assert progress["restoredVideo"]["status"] == "complete"
    link = wire.download(generation_id).body
    assert (link["downloadType"], link["mimeType"]) == ("video", "video/mp4")
    with av.open(io.BytesIO(wire.http.get(link["downloadUrl"]).content)) as video:
        assert [stream.codec_context.name for stream in video.streams] == [kept, "aac"]
        assert sum(1 for _ in video.decode(video=0)) == 100
    assert wire.download(generation_id, downloadType="audio").body["mimeType"] == "audio/mpeg"


@pytest.mark.parametrize(
    "recording",
    [b"", b"this is not sound\n" * 500, bytes(range(256)) * 4000],
    ids=["nothing", "text", "noise"],
)
def test_what_is_no_recording_fails(wire: Wire, recording: bytes) -> None:
    _, progress = restored(wire, recording)
    assert (progress["status"], progress["stage"]) == ("failed", "failed")
    assert progress["error"] == "The recording could not be decoded."
    assert progress["errorDetails"]
    assert "/" not in progress["errorDetails"]


def test_work_that_takes_longer_than_the_set_time_is_waited_for(wire: Wire) -> None:
    clean, _ = signals.voice(44100, seconds=30)
    generation_id = wire.generation(wire.uploaded(signals.wav(clean, 44100)))
    stages = {wire.progress(generation_id)["stage"] for _ in range(5)}
    assert stages & {"pending", "restoring"}
    assert wire.finished(generation_id, seconds=60)["status"] == "complete"
