"""Recordings made by ffmpeg, sox and espeak-ng, where these programs are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import Wire

signals = pytest.importorskip("tests.sandbox.signals")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("ffmpeg", "sox", "espeak-ng"))), reason="needs ffmpeg, sox and espeak-ng"
)

TEST_PICTURES = "-f lavfi -i testsrc=size={size}:rate=25:duration=4"
COVER = "-f lavfi -i testsrc=size=300x300:rate=1:duration=1 -i speech.wav -map 1 -map 0 -frames:v 1"
SURROUND = "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0"
SOUNDS = {
    "gsm.wav": "sox speech.wav -r 8000 -e gsm-full-rate {}",
    "telephone.gsm": "sox speech.wav -r 8000 {}",
    "vbr.mp3": "ffmpeg -i speech.wav -q:a 4 {}",
    "rf64.wav": "ffmpeg -i speech.wav -rf64 always {}",
    "surround.ac3": f"ffmpeg -i speech.wav -af aresample=48000,{SURROUND} {{}}",
    "cover.mp3": f"ffmpeg {COVER} -c:v png {{}}",
    "cover.m4a": f"ffmpeg {COVER} -c:v mjpeg -disposition:v attached_pic {{}}",
    "cover.flac": f"ffmpeg {COVER} -c:v png -disposition:v attached_pic {{}}",
    "voice.wma": "ffmpeg -i speech.wav {}",
    "voice.spx": "ffmpeg -i speech.wav -c:a libspeex {}",
}
VIDEOS = {
    "talk.mxf": f"ffmpeg {TEST_PICTURES} -i speech.wav -c:v mpeg2video -ar 48000 {{}}",
    "talk.avi": f"ffmpeg {TEST_PICTURES} -i speech.wav -c:v mpeg4 -c:a libmp3lame {{}}",
    "odd.avi": f"ffmpeg {TEST_PICTURES.replace('{size}', '321x241')} -i speech.wav -c:v rawvideo {{}}",
    "talk.3gp": f"ffmpeg {TEST_PICTURES.replace('{size}', '176x144')} -i speech.wav -c:v h263 -c:a aac {{}}",
    "odd.webm": f"ffmpeg {TEST_PICTURES.replace('{size}', '321x241')} -i speech.wav -c:v libvpx {{}}",
    "bframes.mkv": f"ffmpeg {TEST_PICTURES} -i speech.wav -c:v libx264 -bf 3 {{}}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("programs")
    text = "It rained all day, and then the sun came out again over the hills."
    subprocess.run(["espeak-ng", "-w", "speech.wav", text], cwd=path, check=True)
    return path


@pytest.fixture(scope="module")
def restorer() -> Iterator[Sandbox]:
    with Sandbox(processing_seconds=0.0) as sandbox:
        yield sandbox


def made(folder: Path, command: str, name: str) -> bytes:
    program, *arguments = command.replace("{size}", "320x240").replace("{}", name).split()
    quiet = ["-hide_banner", "-loglevel", "error", "-y"] if program == "ffmpeg" else []
    subprocess.run([program, *quiet, *arguments], cwd=folder, check=True, capture_output=True)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("name", [*SOUNDS, *VIDEOS])
def test_it_is_restored(restorer: Sandbox, folder: Path, name: str) -> None:
    wire = Wire(restorer)
    speech, rate = signals.read((folder / "speech.wav").read_bytes())
    recording = made(folder, (SOUNDS | VIDEOS)[name], name)
    generation_id = wire.generation(wire.uploaded(recording, fileName=name))
    progress = wire.finished(generation_id, seconds=120)
    assert (progress["status"], progress["hasVideo"]) == ("complete", name in VIDEOS), progress
    assert progress.get("restoredVideo", {"status": "complete"})["status"] == "complete"
    heard, heard_rate = signals.read(restorer.result_bytes(generation_id))
    assert len(heard) / heard_rate == pytest.approx(len(speech) / rate, abs=0.3)
