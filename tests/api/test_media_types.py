"""Media types by file name, the same on every machine."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import pytest

from airflow_provider_diffio.api.media_types import MEDIA_TYPES, is_recording, media_type_of
from airflow_provider_diffio.api.uploads import guess_content_type

KNOWN = [
    ("a.wav", "audio/x-wav"),
    ("A.MP3", "audio/mpeg"),
    ("talk.flac", "audio/flac"),
    ("talk.m4a", "audio/mp4"),
    ("talk.ogg", "audio/ogg"),
    ("talk.opus", "audio/ogg"),
    ("talk.aac", "audio/aac"),
    ("talk.aiff", "audio/aiff"),
    ("film.mkv", "video/x-matroska"),
    ("film.ts", "video/mp2t"),
    ("film.mp4", "video/mp4"),
    ("film.mov", "video/quicktime"),
    ("film.webm", "video/webm"),
    ("folder.wav/film.avi", "video/x-msvideo"),
    ("10:30 interview.part 2.wav", "audio/x-wav"),
    (".hidden.wav", "audio/x-wav"),
]
UNKNOWN = [
    "talk.wav.gz",
    "talk.wav.part",
    "README.md",
    "a",
    "",
    ".wav",
    "a.",
    "a.wav ",
    "a.json",
    "a.unknown-ending",
]


@pytest.fixture(params=["no table", "another table"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be a machine without a table of media types, and one with an odd one."""
    table = tmp_path / "mime.types"
    table.write_text("" if request.param == "no table" else "text/vnd.trolltech.linguist ts wav flac\n")
    monkeypatch.setattr(mimetypes, "knownfiles", [str(table)])
    monkeypatch.setattr(mimetypes, "_db", None)
    mimetypes.init([str(table)])


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("name", "media_type"), KNOWN)
def test_the_ending_says_what_it_is_on_every_machine(name: str, media_type: str) -> None:
    assert media_type_of(name) == guess_content_type(name) == media_type


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_recording_by_its_name_has_no_type(name: str) -> None:
    assert media_type_of(name) is None
    assert guess_content_type(name) == "application/octet-stream"


def test_every_type_of_the_table_is_one_of_a_recording() -> None:
    assert all(ending == ending.lower() and "." not in ending for ending in MEDIA_TYPES)
    assert all(is_recording(media_type) for media_type in MEDIA_TYPES.values())


@pytest.mark.parametrize("media_type", ["audio/wav", "VIDEO/MP4", "audio/L16; rate=8000", "application/ogg"])
def test_types_of_recordings(media_type: str) -> None:
    assert is_recording(media_type)


@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream", "image/png", ""])
def test_other_types(media_type: str) -> None:
    assert not is_recording(media_type)
