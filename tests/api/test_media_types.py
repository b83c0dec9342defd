"""Media types by file name, the same on every machine."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import pytest

from airflow_provider_diffio.api.media_types import (
    MEDIA_TYPES,
    is_foreign_name,
    is_recording,
    media_type_of,
    media_type_of_content,
)
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


RIFF = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + b"\0" * 99


@pytest.mark.parametrize(
    ("beginning", "media_type"),
    [
        (RIFF, "audio/x-wav"),
        (b"ID3\x03\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 9, "audio/mpeg"),
        (b"fLaC\0\0\0\x22" + b"\0" * 99, "audio/x-flac"),
        (b"OggS\0\2" + b"\0" * 99, "audio/ogg"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 99, "video/mp4"),
        (b"%PDF-1.7\n\xe2\xe3", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 99, "image/png"),
        (b"PK\3\4" + b"\0" * 99, "application/zip"),
        (b"# Title\n\nWords.\n", "text/plain"),
        ("Grüße\t€\r\n".encode(), "text/plain"),
        ("Grüße".encode()[:-3], "text/plain"),
        (b"\xef\xbb\xbfwords", "text/plain"),
        ("words".encode("utf-16"), "text/plain"),
        (b'{"a": 1}', "text/plain"),
        (b"<!DOCTYPE html>", "text/plain"),
        (b"\0\1" * 99, None),
        (bytes(range(256)) * 9, None),
        (b"\xd2\x20" * 99, None),
        (b"words\0", None),
    ],
)
def test_the_first_bytes_show_what_it_is(beginning: bytes, media_type: str | None) -> None:
    assert media_type_of_content(beginning) == media_type


@pytest.mark.parametrize("name", ["README.md", "a/b.TXT", "talk.wav.gz", "x.7z", "notes.docx"])
def test_an_ending_that_says_that_it_is_no_recording(name: str) -> None:
    assert is_foreign_name(name)


@pytest.mark.parametrize(
    "name", ["talk", "talk.wav", "2026-03-01T00:00:00.123+00:00", "take.001", ".hidden", "x."]
)
def test_an_ending_that_does_not(name: str) -> None:
    assert not is_foreign_name(name)
