"""What a file sounds like: real ones, of each kind that Diffio takes and returns, whole and cut off."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from airflow_provider_diffio.api.errors import DiffioConfigurationError
from airflow_provider_diffio.storage import audio
from tests.media import encoded, wav

KINDS = [
    ("a.mp3", "libmp3lame"),
    ("a.flac", "flac"),
    ("a.wav", "pcm_s16le"),
    ("a.m4a", "aac"),
    ("a.ogg", "libopus"),
]


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_a_whole_file_has_its_length_and_is_heard(tmp_path: Path, name: str, codec: str) -> None:
    path = encoded(tmp_path / name, 3, codec=codec)
    for file in (path, io.BytesIO(path.read_bytes())):
        sound = audio.decode(file)
        assert sound.seconds == pytest.approx(3, abs=0.15)
        assert not sound.silent
    stated = audio.stated_seconds(io.BytesIO(path.read_bytes()))
    assert stated == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(("name", "codec"), KINDS[:3])
def test_silence_is_noticed(tmp_path: Path, name: str, codec: str) -> None:
    assert audio.decode(encoded(tmp_path / name, 2, codec=codec, volume=0)).silent
    # A whisper is none.
    assert not audio.decode(encoded(tmp_path / name, 2, codec=codec, volume=0.005)).silent


@pytest.mark.parametrize(("name", "codec"), KINDS[:4])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    path = encoded(tmp_path / name, 4, codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(audio.UndecodableError):
        audio.decode(path)


def test_a_video_is_decoded_with_its_sound(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mp4", 3, codec="aac", picture=True)
    assert audio.decode(path).seconds == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("content", [b"", b"RIFF" + bytes(5000), b'{"text": "hello"}', b"\xff\xfb" * 3000])
def test_what_is_no_sound_is_refused(content: bytes) -> None:
    with pytest.raises(audio.UndecodableError):
        audio.decode(io.BytesIO(content))


@pytest.mark.parametrize(
    ("seconds", "source", "same"),
    [
        (9.6, 10, True),
        (10.5, 10, True),
        (9.4, 10, False),
        (10.6, 10, False),
        (98.1, 100, True),
        (97.9, 100, False),
    ],
)
def test_lengths_are_equal_within_the_larger_of_half_a_second_and_two_percent(
    seconds: float, source: float, same: bool
) -> None:
    assert audio.is_as_long(seconds, source) is same


def test_without_the_extra_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    audio.require_audio()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DiffioConfigurationError, match=r'pip install "airflow-provider-diffio\[audio\]"'):
        audio.require_audio()


def test_a_length_is_stated_without_decoding() -> None:
    assert audio.stated_seconds(io.BytesIO(wav(2))) == pytest.approx(2)
    assert audio.stated_seconds(io.BytesIO(b"no media")) is None
