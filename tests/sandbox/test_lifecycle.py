"""The stages of a generation, with the time given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox.keys import KeyRing
from airflow_provider_diffio.sandbox.lifecycle import moment, progress_body, transcription_status
from airflow_provider_diffio.sandbox.state import Generation, Plan, State


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    project = State(tmp_path).add_project(
        KeyRing("key").bootstrap,
        file_name="a.wav",
        content_type="audio/wav",
        params={},
        token_life=1,
    )
    return Generation(
        "gen", project, "key", "m", None, None, None, Plan(100.0), tmp_path, created=0.0, updated=0.0
    )


def body(generation: Generation, now: float, *, ready: bool = True) -> dict[str, Any]:
    return progress_body(generation, now, edge=True, result_ready=ready, queue=(0, 1))


def test_nothing_happens_while_it_is_queued(generation: Generation) -> None:
    assert moment(generation, 99.0, result_ready=True).stage == "pending"


def test_restoring_lasts_until_there_is_a_result(generation: Generation) -> None:
    generation.status = "processing"
    assert moment(generation, 99.0, result_ready=False).stage == "restoring"
    assert moment(generation, 99.0, result_ready=True).stage == "uploading"


def test_it_is_never_over_before_its_status_says_so(generation: Generation) -> None:
    generation.status = "processing"
    late = body(generation, 1000.0)
    assert late["stage"] == "uploading"
    assert late["stageProgress"]["overallPercent"] < 100


def test_the_transcript_is_there_once_it_is_transcribed(generation: Generation) -> None:
    generation.status = "processing"
    assert transcription_status(generation, 20.0) == "pending"
    assert transcription_status(generation, 30.0) == "available"


def test_how_far_the_sound_is_ready_is_told_when_its_length_is_known(generation: Generation) -> None:
    generation.status = "processing"
    assert "durationSeconds" not in body(generation, 70.0)["stageProgress"]
    generation.duration = 60.0
    progress = body(generation, 70.0)["stageProgress"]
    assert progress["durationSeconds"] == 60.0
    assert 0 < progress["availableThroughSeconds"] < 60
