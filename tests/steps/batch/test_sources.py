from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.steps.batch.selection import Naming
from airflow_provider_diffio.steps.batch.sources import Collection, Opener, Source, Wanted, collect, too_young

NAMING = Naming.read("{name}.{ext}", ("audio",))


def collected(sources: Any, out: str = "/out", **options: Any) -> Collection:
    never = options.pop("never", (out,))
    is_output = options.pop("is_output", lambda _: False)
    wanted = Wanted(
        sources,
        **{
            "source_root": None,
            "patterns": ("*",),
            "exclude": (),
            "order": "name",
            "content_type": None,
            "source_conn_id": None,
            **options,
        },
    )
    hook = DiffioHook()

    def place(source: Source) -> tuple[str, ...]:
        return tuple(f"{out}/{path}" for path in NAMING.paths(source.relative))

    return collect(Opener(hook, wanted), wanted, NAMING, place, never=never, is_output=is_output)


@pytest.fixture
def raw(tmp_path: Path, connection: dict[str, Any]) -> Path:
    directory = tmp_path / "raw"
    for name in ("b.wav", "2024/a.MP3", "notes.txt", "2024/talk.flac.part", ".hidden.wav", "z/c.m4a"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return directory


def names(collection: Collection) -> list[str]:
    return [source.relative for source in collection.sources]


def test_a_directory(raw: Path) -> None:
    found = collected(str(raw))
    assert names(found) == ["2024/a.MP3", "b.wav", "z/c.m4a"]
    assert found.ignored == 2
    first = found.sources[0]
    assert (first.uri, first.size_bytes) == (f"{raw}/2024/a.MP3", 1)
    assert first.targets == ("/out/2024/a.MP3.mp3",)
    assert first.refusal is None


def test_patterns_select_before_anything_is_counted(raw: Path) -> None:
    assert names(collected(f"{raw}/", patterns=("*.wav", "*.M4A"))) == ["b.wav", "z/c.m4a"]
    found = collected(f"{raw}/", exclude=("z/*", "*.txt"))
    assert names(found) == ["2024/a.MP3", "b.wav"]
    assert found.ignored == 1


def test_a_content_type_makes_recordings_of_all(raw: Path) -> None:
    found = collected(str(raw), content_type="audio/basic")
    assert len(found.sources) == 5
    assert found.ignored == 0


def test_the_oldest_first(raw: Path) -> None:
    for age, name in enumerate(("z/c.m4a", "2024/a.MP3", "b.wav")):
        os.utime(raw / name, (1_000 + age, 1_000 + age))
    assert names(collected(str(raw), order="oldest")) == ["z/c.m4a", "2024/a.MP3", "b.wav"]


def test_neither_output_nor_ledger_is_a_source(raw: Path) -> None:
    for name in ("restored/b.wav.mp3", ".diffio-ledger/x.wav", "restored/.diffio-ledger/y.wav"):
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    out = f"{raw}/restored"
    assert names(collected(str(raw), out, never=(out, f"{raw}/.diffio-ledger"))) == [
        "2024/a.MP3", "b.wav", "z/c.m4a",
    ]  # fmt: skip


def test_restored_files_beside_the_recordings_are_none(raw: Path) -> None:
    (raw / "b.wav.mp3").write_bytes(b"x")
    (raw / "gone.wav.mp3").write_bytes(b"x")
    found = collected(str(raw), str(raw), is_output=lambda uri: uri.endswith("gone.wav.mp3"))
    assert names(found) == ["2024/a.MP3", "b.wav", "z/c.m4a"]
    assert [source.refusal for source in found.sources] == [None] * 3


def test_a_directory_that_is_not_there(tmp_path: Path, connection: dict[str, Any]) -> None:
    with pytest.raises(DiffioInputError, match="none"):
        collected(str(tmp_path / "none"))


def test_a_list_keeps_its_order_and_says_which_cannot_be_restored(raw: Path) -> None:
    found = collected(
        [
            str(raw / "z/c.m4a"),
            raw / "b.wav",
            {"source": str(raw / "2024/a.MP3"), "model": "diffio-4.6-pro", "generation_params": {"a": 1}},
            str(raw / "gone.wav"),
            str(raw / "notes.txt"),
            {"source": str(raw / "2024/talk.flac.part"), "content_type": "audio/flac"},
            str(raw / "z"),
            str(raw / "b.wav"),
        ]
    )
    assert names(found) == ["c.m4a", "b.wav", "a.MP3", "gone.wav", "notes.txt", "talk.flac.part", "z"]
    by_name = {source.relative: source for source in found.sources}
    assert by_name["a.MP3"].model == "diffio-4.6-pro"
    assert by_name["a.MP3"].generation_params == {"a": 1}
    assert [name for name, source in by_name.items() if source.refusal] == ["gone.wav", "notes.txt", "z"]
    assert by_name["gone.wav"].gone
    assert "content_type" in str(by_name["notes.txt"].refusal)


def test_a_list_with_a_tree(raw: Path) -> None:
    found = collected([str(raw / "z/c.m4a"), "/elsewhere/d.wav"], source_root=str(raw))
    assert found.sources[0].targets == ("/out/z/c.m4a.mp3",)
    assert "source_root" in str(found.sources[1].refusal)


def test_two_recordings_for_one_file(raw: Path) -> None:
    (raw / "z/b.wav").write_bytes(b"y")
    found = collected([str(raw / "b.wav"), str(raw / "z/b.wav"), str(raw / "z/c.m4a")])
    assert ["/out/b.wav.mp3" in (source.refusal or "") for source in found.sources] == [True, True, False]


def test_no_recording_is_replaced_by_its_own_file(raw: Path) -> None:
    paths = [str(raw / "b.wav"), str(raw / "b.wav.mp3")]
    (raw / "b.wav.mp3").write_bytes(b"x")
    found = collected(paths, str(raw))
    assert "would replace a recording" in str(found.sources[0].refusal)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (None, "sources must be"),
        (7, "sources must be"),
        ({"source": "/a.wav"}, "sources must be"),
        (["/a.wav", None], r"sources\[1\]"),
        ([{"source": "/a.wav", "modle": "x"}], "modle"),
        ([{"path": "/x"}], r"sources\[0\]\['source'\]"),
        ([{"source": "/a.wav", "generation_params": "x"}], "generation_params"),
    ],
)
def test_what_is_no_collection(connection: dict[str, Any], sources: Any, said: str) -> None:
    with pytest.raises(DiffioInputError, match=said):
        collected(sources)


def test_an_empty_recording_fails_by_itself(raw: Path) -> None:
    (raw / "b.wav").write_bytes(b"")
    refusals = {source.relative: source.refusal for source in collected(str(raw)).sources}
    assert refusals == {"2024/a.MP3": None, "b.wav": "The recording is empty.", "z/c.m4a": None}


def test_young_files() -> None:
    source = Source(uri="/a", where="a", relative="a", modified=time.time())
    assert too_young(source, 60)
    assert not too_young(source, 60, time.time() + 61)
    assert not too_young(source, 0)
    source.modified = None
    assert not too_young(source, 60)
