"""The thousandth file of a process costs what the first one did: nothing grows with each file."""

from __future__ import annotations

import cProfile
import json
import logging
import pstats
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api import models
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(processing_seconds=0.02, engine="passthrough") as sandbox:
        yield sandbox


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF" + b"x" * 5000)
    return path


@pytest.fixture
def hook(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiffioHook]:
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(sandbox.connection))
    hook = DiffioHook()
    yield hook
    hook.close()


def restore(hook: DiffioHook, recording: Path, target: Path) -> models.Generation:
    project = hook.create_project(recording).api_project_id
    generation = hook.create_generation(project, idempotency_key=project)
    hook.wait_for_generation(generation.generation_id, project, poll_interval=0.1)
    hook.download(generation.generation_id, project, target)
    return generation


def test_airflows_masker_is_told_nothing_of_single_files(
    hook: DiffioHook, recording: Path, tmp_path: Path, mocker: MockerFixture
) -> None:
    restore(hook, recording, tmp_path / "first.mp3")
    mask = mocker.patch("airflow_provider_diffio.hooks.diffio.mask_secret")
    for number in range(3):
        restore(hook, recording, tmp_path / f"{number}.mp3")
    assert mask.call_args_list == []


def calls_of(restore_one: Callable[[], object]) -> int:
    """How many functions run for five restorations: unlike CPU time, the same on a busy machine."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(5):
        restore_one()
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_a_later_file_takes_no_more_steps_than_the_first(
    hook: DiffioHook, recording: Path, tmp_path: Path
) -> None:
    def restore_one() -> None:
        project = hook.create_project(recording).api_project_id
        generation = hook.create_generation(project, idempotency_key=project)
        # Long enough for the sandbox; another poll would be counted.
        time.sleep(0.1)
        hook.wait_for_generation(generation.generation_id, project, poll_interval=0.1)
        hook.download(generation.generation_id, project, tmp_path / "a.mp3")

    calls_of(restore_one)  # imports what all need
    first = calls_of(restore_one)
    for _ in range(30):
        restore_one()
    last = calls_of(restore_one)
    assert last < 1.1 * first


def test_no_link_of_a_restoration_is_logged(
    hook: DiffioHook,
    recording: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mocker: MockerFixture,
) -> None:
    seen = mocker.spy(models.GenerationDownload, "read")
    with caplog.at_level(logging.DEBUG):
        restore(hook, recording, tmp_path / "a.mp3")
    links = [link.download_url for link in seen.spy_return_list]
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert links
    assert "GET" in said
    for link in links:
        assert link not in said
        assert link.partition("/m/")[2].partition("/")[0] not in said


def test_a_link_that_a_user_asks_for_is_masked_and_no_id_with_it(
    hook: DiffioHook, recording: Path, tmp_path: Path, mocker: MockerFixture
) -> None:
    generation = restore(hook, recording, tmp_path / "a.mp3")
    mask = mocker.patch("airflow_provider_diffio.hooks.diffio.mask_secret")
    link = hook.get_generation_download(generation.generation_id, generation.api_project_id)
    masked = [call.args[0] for call in mask.call_args_list]
    assert link.download_url in masked
    assert not [secret for secret in masked if secret in generation.generation_id]
    assert link.file_name not in masked
