from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.storage import resolve, safe_file_name
from airflow_provider_diffio.storage.file_names import MAX_NAME_BYTES, check_component, relative_parts

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=300)
HOSTILE = st.lists(
    st.sampled_from(
        ["..", "/", "\\", ".", "\0", "\n", "\u202e", "CON", ".wav", "a", " ", "é", "e\u0301", "x" * 90]
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("episode.mp3", "episode.mp3"),
        ("Gespräch – Teil 1.wav", "Gespräch – Teil 1.wav"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\music\\song.mp3", "song.mp3"),
        ("/absolute/path.wav", "path.wav"),
        (".bashrc", "bashrc"),
        ("...hidden.wav", "hidden.wav"),
        ("a\0b\r\nc.wav", "abc.wav"),
        ("gnp\u202egpj.exe", "gnpgpj.exe"),
        ("e\u0301te\u0301.wav", "été.wav"),
        ("what?*<>|.wav", "what_____.wav"),
        ("name.wav. . ", "name.wav"),
        ("lone\ud800surrogate.wav", "lonesurrogate.wav"),
        ("episode[1].wav", "episode[1].wav"),
        ("می\u200cخواهم.wav", "می\u200cخواهم.wav"),
    ],
)
def test_a_name_is_reduced_to_what_is_safe_of_it(name: str, safe: str) -> None:
    assert safe_file_name(name, "restored.mp3") == safe


@pytest.mark.parametrize(
    "name", [None, "", ".", "..", "/", "dir/", "\\", "\0", " . . ", "CON", "nul.wav", "com1.tar.gz", "LPT¹"]
)
def test_nothing_usable_gives_the_default(name: str | None) -> None:
    assert safe_file_name(name, "restored.mp3") == "restored.mp3"


def test_a_hostile_default_is_reduced_too() -> None:
    assert safe_file_name(None, "../restored.mp3") == "restored.mp3"
    assert safe_file_name(None, "..") == "file"


@pytest.mark.parametrize("letter", ["x", "ä", "語", "🎙"])
def test_a_long_name_keeps_its_extension(letter: str) -> None:
    name = safe_file_name(letter * 300 + ".mp3", "restored.mp3")
    assert name.endswith(f"{letter}.mp3")
    assert MAX_NAME_BYTES - 4 < len(name.encode()) <= MAX_NAME_BYTES


def test_a_long_extension_is_no_extension() -> None:
    assert safe_file_name("a." + "b" * 300, "d") == ("a." + "b" * 300)[:MAX_NAME_BYTES]


@given(name=st.one_of(ANY_TEXT, HOSTILE), default=st.one_of(ANY_TEXT, HOSTILE))
@example(name="x" * 197 + "...wav", default="")
@example(name="a" * 199 + ". " + "b" * 20, default="")
def test_whatever_comes_the_name_is_safe(name: str, default: str) -> None:
    safe = safe_file_name(name, default)
    check_component(safe)
    assert not safe.startswith((".", " "))
    assert not safe.endswith((".", " "))
    assert len(safe.encode()) <= MAX_NAME_BYTES
    assert safe == unicodedata.normalize("NFC", safe)
    assert safe_file_name(safe, "other") == safe


@given(name=st.one_of(ANY_TEXT, HOSTILE))
def test_a_child_never_leaves_its_directory(name: str) -> None:
    directory = resolve("/data/restored/")
    try:
        child = directory.child(name)
    except DiffioInputError:
        return
    assert child.local_path is not None
    assert child.local_path.parent == Path("/data/restored")
    assert Path(child.local_path).resolve().parent == Path("/data/restored").resolve()


@given(path=st.one_of(ANY_TEXT, HOSTILE))
def test_relative_parts_never_climb(path: str) -> None:
    try:
        parts = relative_parts(path)
    except DiffioInputError:
        return
    assert Path("/root", *parts).resolve().is_relative_to(Path("/root").resolve())
