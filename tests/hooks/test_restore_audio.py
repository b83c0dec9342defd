"""``restore_audio``: as complete as the operator, and plain about what was paid for."""

from __future__ import annotations

import inspect
import io
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
)
from airflow_provider_diffio.api.models import DownloadedFile, GenerationProgress
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.restore import RestoreOptions
from airflow_provider_diffio.operators import DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox

#: What is about the tries of a task, or about Airflow, which a hook knows nothing of.
OF_A_TASK = {"deferrable", "max_generations", "on_changed_input", "kwargs", "self"}


@pytest.fixture
def hook(connection: dict[str, Any]) -> DiffioHook:
    return DiffioHook()


def sent(sandbox: Sandbox, path: str) -> list[dict[str, Any]]:
    return [request for request in sandbox.requests() if path in request["path"]]


def generations(sandbox: Sandbox) -> list[dict[str, Any]]:
    return list(sandbox.ledger()["generations"])


def test_it_takes_what_the_operator_takes() -> None:
    of_the_operator = set(inspect.signature(DiffioRestoreOperator.__init__).parameters)
    of_the_hook = set(inspect.signature(DiffioHook.restore_audio).parameters)
    assert of_the_operator - OF_A_TASK <= of_the_hook
    assert {"on_progress", "request_options"} <= of_the_hook


def test_type_checkers_know_every_argument() -> None:
    named = [
        name
        for name, parameter in inspect.signature(DiffioHook.restore_audio).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert named == list(RestoreOptions.__annotations__)


def test_every_argument_arrives(
    hook: DiffioHook, recording: Path, output: Path, sandbox: Sandbox, mocker: MockerFixture
) -> None:
    created = mocker.spy(endpoints, "create_project")
    started = mocker.spy(endpoints, "create_generation")
    seen: list[GenerationProgress] = []
    file = hook.restore_audio(
        recording,
        "out.mp3",
        model="diffio-4.6-pro",
        sampling={"seed": 1},
        generation_params={"show": "evening"},
        project_params={"show": "morning"},
        idempotency_key="mine",
        download_type="mp3",
        file_name="renamed.wav",
        content_type="audio/special",
        file_format="special",
        overwrite="error",
        poll_interval=timedelta(seconds=0.1),
        max_poll_interval=0.2,
        timeout=timedelta(seconds=30),
        on_progress=seen.append,
        request_options={"headers": {"X-Trace": "here"}},
    )
    assert file.path == str(output / "out.mp3")
    assert file.download_type == "audio"
    assert seen[-1].status == "complete"
    told = json.loads(created.spy_return.content)
    assert told["fileName"] == "renamed.wav"
    assert (told["contentType"], told["fileFormat"]) == ("audio/special", "special")
    assert told["params"] == {"show": "morning"}
    told = json.loads(started.spy_return.content)
    assert (told["sampling"], told["params"]) == ({"seed": 1}, {"show": "evening"})
    assert told["idempotencyKey"] == "mine"
    paths = ("create_project", "pro-generation", "get_generation_progress", "get_generation_download")
    assert all("X-Trace" in request["headers"] for path in paths for request in sent(sandbox, path))
    assert sent(sandbox, "pro-generation")


@pytest.mark.parametrize("make", [str, Path, Path.read_bytes, lambda path: io.BytesIO(path.read_bytes())])
def test_bytes_in_and_bytes_out(hook: DiffioHook, recording: Path, make: Any) -> None:
    content = hook.restore_audio(make(recording), file_name="talk.wav", timeout=30, poll_interval=0.1)
    assert content == recording.read_bytes()


def test_bytes_are_whole_over_a_broken_transfer(hook: DiffioHook, recording: Path, sandbox: Sandbox) -> None:
    sandbox.add_fault("truncate", path="/m/*", nth=1)
    content = hook.restore_audio(recording, timeout=30, poll_interval=0.1)
    assert content == recording.read_bytes()
    assert len(sent(sandbox, "/m/")) > 1


def nameless(recording: Path) -> list[Any]:
    content = recording.read_bytes()
    unnamed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its owner
    unnamed.write(content)
    return [
        content,
        io.BytesIO(content),
        io.BufferedReader(io.BytesIO(content)),
        tempfile.SpooledTemporaryFile(),
        unnamed,
    ]


def test_a_recording_without_a_name_needs_one(hook: DiffioHook, recording: Path, sandbox: Sandbox) -> None:
    for source in nameless(recording):
        with pytest.raises(DiffioInputError, match="Give file_name"):
            hook.restore_audio(source)
    assert sandbox.requests() == []


def test_an_open_file_has_its_own_name(hook: DiffioHook, recording: Path, sandbox: Sandbox) -> None:
    with recording.open("rb") as stream:
        hook.restore_audio(stream, timeout=30, poll_interval=0.1)
    [project] = sandbox.ledger()["projects"]
    assert project["fileName"] == "talk.wav"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 4.6),
        ("sampling", [1]),
        ("generation_params", "x"),
        ("generation_params", {"t": object()}),
        ("project_params", 1),
        ("idempotency_key", 7),
        ("idempotency_key", "x" * 256),
        ("download_type", "flac"),
        ("file_name", 20231023),
        ("content_type", 1),
        ("file_format", 1),
        ("source_conn_id", 1),
        ("output_conn_id", 1),
        ("overwrite", "sometimes"),
        ("poll_interval", 0),
        ("poll_interval", "5"),
        ("max_poll_interval", -1),
        ("timeout", "soon"),
        ("on_progress", "print"),
    ],
)
@pytest.mark.parametrize("path", ["out.mp3", None])
def test_what_cannot_work_is_refused_before_the_first_byte(
    hook: DiffioHook, recording: Path, sandbox: Sandbox, path: str | None, name: str, value: Any
) -> None:
    if path is None and name in ("overwrite", "output_conn_id"):
        pytest.skip("is of a path")
    with pytest.raises(DiffioInputError) as caught:
        hook.restore_audio(recording, path, **{name: value})
    assert name.rpartition("_")[2] in str(caught.value)
    assert sandbox.requests() == []


def test_ids_are_logged_the_moment_they_are_known(
    hook: DiffioHook, recording: Path, sandbox: Sandbox, mocker: MockerFixture
) -> None:
    info, log = mocker.spy(hook.log, "info"), mocker.spy(hook.log, "log")
    said: list[str] = []

    def note(progress: GenerationProgress) -> None:
        lines = [call.args for call in info.call_args_list] + [call.args[1:] for call in log.call_args_list]
        said.append("\n".join(str(line[0]) % line[1:] for line in lines))

    file = hook.restore_audio(recording, "x.mp3", timeout=30, poll_interval=0.1, on_progress=note)
    assert f"Created project {file.api_project_id}" in said[0]
    assert f"Started generation {file.generation_id} of project {file.api_project_id}" in said[0]
    assert f"Generation {file.generation_id}: complete" in said[-1]


def test_a_wait_that_ends_too_early_says_how_to_collect(
    hook: DiffioHook, recording: Path, sandbox: Sandbox, slow: None
) -> None:
    with pytest.raises(DiffioGenerationTimeoutError) as caught:
        hook.restore_audio(recording, "x.mp3", timeout=0.1, poll_interval=0.1)
    error = caught.value
    [generation] = generations(sandbox)
    assert error.may_be_billed
    assert (error.generation_id, error.project_id) == (generation["generationId"], generation["apiProjectId"])
    assert "billed once" in str(error)
    assert "by wait_for_generation and download" in str(error)
    assert "Calling restore_audio again starts another one" in str(error)
    collected = hook.wait_for_generation(error.generation_id or "", error.project_id, poll_interval=0.1)
    assert collected.status == "complete"


@pytest.mark.parametrize("path", ["x.mp3", None])
def test_a_download_that_fails_says_how_to_collect(
    hook: DiffioHook, recording: Path, sandbox: Sandbox, path: str | None
) -> None:
    sandbox.add_fault("status", path="/m/*", status=503, nth="every")
    with pytest.raises(DiffioError) as caught:
        hook.restore_audio(recording, path, timeout=30, poll_interval=0.1)
    error = caught.value
    assert error.may_be_billed
    assert error.generation_id == generations(sandbox)[0]["generationId"]
    assert "billed once" in str(error)
    assert "Calling restore_audio again starts another one" in str(error)


def test_a_failed_generation_is_told(hook: DiffioHook, recording: Path, sandbox: Sandbox) -> None:
    sandbox.add_fault("fail-generation", nth=1)
    with pytest.raises(DiffioGenerationFailedError) as caught:
        hook.restore_audio(recording, timeout=30, poll_interval=0.1)
    assert caught.value.may_be_billed


def test_a_lost_response_to_the_start_says_that_another_call_pays_again(
    hook: DiffioHook, recording: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("reset-after", path="*-generation", nth="every")
    with pytest.raises(DiffioError) as caught:
        hook.restore_audio(recording, "x.mp3", timeout=30)
    assert caught.value.may_be_billed
    assert caught.value.project_id
    assert "list_project_generations" in str(caught.value)
    assert "Calling restore_audio again starts another one" in str(caught.value)


def test_what_on_progress_raises_ends_the_call_with_the_ids(
    hook: DiffioHook, recording: Path, sandbox: Sandbox
) -> None:
    def stop(progress: GenerationProgress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        hook.restore_audio(recording, "x.mp3", timeout=30, on_progress=stop)
    [note] = caught.value.__notes__
    assert generations(sandbox)[0]["generationId"] in note
    assert "billed once" in note


def test_an_existing_file_is_refused_first(
    hook: DiffioHook, recording: Path, output: Path, sandbox: Sandbox
) -> None:
    (output / "x.mp3").write_text("mine")
    with pytest.raises(DiffioInputError, match="exists already"):
        hook.restore_audio(recording, "x.mp3", overwrite="error")
    assert sandbox.requests() == []
    file = hook.restore_audio(recording, "x.mp3", timeout=30, poll_interval=0.1)
    assert isinstance(file, DownloadedFile)
    assert Path(file.path).read_bytes() == recording.read_bytes()


def test_a_file_that_is_met_only_after_the_generation_says_what_was_paid(
    hook: DiffioHook, recording: Path, output: Path, sandbox: Sandbox
) -> None:
    first = hook.restore_audio(recording, "dir/", timeout=30, poll_interval=0.1)
    with pytest.raises(DiffioError, match="already") as caught:
        hook.restore_audio(recording, "dir/", overwrite="error", timeout=30, poll_interval=0.1)
    assert caught.value.may_be_billed
    assert caught.value.generation_id not in (None, first.generation_id)
    assert "Calling restore_audio again starts another one" in str(caught.value)
