from __future__ import annotations

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.steps.batch.selection import Naming, Patterns, read_patterns, without_outputs


@pytest.mark.parametrize(
    ("patterns", "path", "fits"),
    [
        (("*",), "a.wav", True),
        (("*",), "2024/05/a.wav", True),
        (("*.wav",), "deep/er/TALK.WAV", True),
        (("*.WAV",), "talk.wav", True),
        (("*.wav",), "talk.wav.bak", False),
        (("*.mp3", "*.wav"), "b/talk.wav", True),
        (("2024/*.wav",), "2024/a.wav", True),
        (("2024/*.wav",), "2023/a.wav", False),
        (("2024/*",), "x/2024/a.wav", False),
        (("**/a.wav",), "a.wav", True),
        (("**/a.wav",), "x/y/a.wav", True),
        (("./*.wav",), "a.wav", True),
        (("talk[1].wav",), "talk1.wav", True),
        (("*",), ".hidden.wav", False),
        (("*",), ".trash/a.wav", False),
        ((".*",), ".hidden.wav", True),
        ((), "a.wav", False),
    ],
)
def test_patterns(patterns: tuple[str, ...], path: str, fits: bool) -> None:
    assert Patterns(patterns).match(path) is fits


@pytest.mark.parametrize("value", [None, 3, [None], [3], "", " ", ["*.wav", ""], "None", b"*.wav"])
def test_what_is_no_pattern_is_refused(value: object) -> None:
    with pytest.raises(DiffioInputError, match="pattern"):
        read_patterns(value, "pattern")


@pytest.mark.parametrize(
    ("template", "types", "paths"),
    [
        ("{name}.{ext}", ("audio",), ("x/talk.wav.mp3",)),
        ("{stem}.{ext}", ("audio", "transcript"), ("x/talk.mp3", "x/talk.json")),
        ("clean-{name}", ("mp3",), ("x/clean-talk.wav",)),
        ("{name}.{ext}", ("video",), ("x/talk.wav.mp4",)),
    ],
)
def test_names(template: str, types: tuple[str, ...], paths: tuple[str, ...]) -> None:
    assert Naming.read(template, types).paths("x/talk.wav") == paths


@pytest.mark.parametrize(
    ("template", "types", "said"),
    [
        ("{nome}.{ext}", ("audio",), "nome"),
        ("{name", ("audio",), "pattern"),
        ("{name!r}", ("audio",), "format"),
        ("{0}", ("audio",), "stands for nothing"),
        ("restored.{ext}", ("audio",), "same for each recording"),
        ("{name}.mp3", ("audio", "transcript"), "same for audio and transcript"),
        ("{name}.{ext}", (), "at least one"),
        ("{name}.{ext}", ("audio", "mp3"), "once"),
        ("{name}.{ext}", ("sound",), "sound"),
    ],
)
def test_names_that_cannot_work(template: str, types: tuple[str, ...], said: str) -> None:
    with pytest.raises(DiffioInputError, match=said):
        Naming.read(template, types)


@pytest.mark.parametrize("relative", ["a\\b.wav", "x/../b.wav", f"{'ä' * 126}.wav"])
def test_a_recording_whose_file_could_not_be_written(relative: str) -> None:
    with pytest.raises(DiffioInputError):
        Naming.read("{name}.{ext}", ("audio",)).paths(relative)


def test_restored_files_are_no_recordings() -> None:
    naming = Naming.read("{name}.{ext}", ("audio",))
    files = ["d/a.wav", "d/a.wav.mp3", "d/a.wav.mp3.mp3", "d/b.mp3"]
    made = without_outputs((file, naming.paths(file)) for file in files)
    # The third one is no file of d/a.wav's, and the recording that it would be one of is none itself.
    assert made == {"d/a.wav.mp3"}
    assert naming.siblings("s3://b/x.wav.MP3") == ("s3://b/x.wav.mp3",)
    assert naming.siblings("s3://b/x.wav") is None
