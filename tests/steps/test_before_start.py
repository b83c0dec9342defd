"""What would fail only after a generation is paid for is found before anything is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioError, DiffioPermissionError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.permissions import NO_GENERATION
from airflow_provider_diffio.operators import DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import STATE_STORE, needs
from tests.task_runner import TaskRunner

#: Runs a restoration, by the operator or by the hook, and returns its error.
Restore = Callable[..., BaseException | None]


@pytest.fixture(params=["operator", "hook"])
def restore(request: Any, task_runner: TaskRunner, dag: Any, recording: Path) -> Restore:
    def run(**options: Any) -> BaseException | None:
        arguments = {"source": str(recording), "path": "out.mp3", "poll_interval": 0.1, **options}
        if request.param == "operator":
            operator = DiffioRestoreOperator(task_id="restore", deferrable=False, dag=dag, **arguments)
            outcome = task_runner.run(operator)
            assert (outcome.state == "success") == (outcome.error is None)
            return outcome.error
        try:
            DiffioHook().restore_audio(**arguments)
        except DiffioError as error:
            return error
        return None

    return run


def counted(sandbox: Sandbox) -> tuple[int, int]:
    totals = sandbox.ledger()["totals"]
    return totals["projects"], totals["generations"]


def key_with(sandbox: Sandbox, connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "password": key}))


class TestTheDestination:
    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("dir", "directory"),
            ("file/out.mp3", "not a directory|Not a directory"),
            ("file/deeper/out.mp3", "not a directory|Not a directory"),
            ("file/", "not a directory|Not a directory|file"),
        ],
    )
    def test_one_that_cannot_be_written_is_refused_first(
        self, restore: Restore, output: Path, sandbox: Sandbox, path: str, words: str
    ) -> None:
        (output / "dir").mkdir()
        (output / "file").write_text("mine")
        error = restore(path=path)
        assert error is not None
        assert any(word in str(error) for word in words.split("|")), error
        assert sandbox.requests() == []
        assert (output / "file").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_directory_without_permission_is_refused_first(
        self, restore: Restore, output: Path, sandbox: Sandbox
    ) -> None:
        output.chmod(0o500)
        try:
            assert "ermission" in str(restore())
        finally:
            output.chmod(0o700)
        assert sandbox.requests() == []

    def test_a_missing_directory_is_made(self, restore: Restore, output: Path, sandbox: Sandbox) -> None:
        assert restore(path="new/er/out.mp3") is None
        assert [path.name for path in (output / "new/er").iterdir()] == ["out.mp3"]
        assert counted(sandbox) == (1, 1)

    @needs(STATE_STORE)
    def test_what_is_found_out_later_says_what_became_of_the_money(
        self, task_runner: TaskRunner, dag: Any, recording: Path, output: Path, sandbox: Sandbox
    ) -> None:
        operator = DiffioRestoreOperator(
            task_id="restore",
            source=str(recording),
            path="new/out.mp3",
            poll_interval=0.1,
            deferrable=False,
            dag=dag,
        )
        sandbox.add_fault("status", path="/m/*", status=503, nth="every")
        assert task_runner.run(operator).state != "success"
        sandbox.clear_faults()
        (output / "new").rmdir()
        (output / "new").write_text("in the way")
        outcome = task_runner.run(operator, try_number=2)
        assert "billed once" in str(outcome.error)
        assert counted(sandbox) == (1, 1)


class TestThePermissions:
    SCOPES = ("projects:read", "projects:write", "generations:read", "generations:write", "artifacts:read")

    @pytest.mark.parametrize("missing", ["artifacts:read", "generations:read"])
    def test_a_key_without_one_is_refused_before_the_upload(
        self,
        restore: Restore,
        sandbox: Sandbox,
        connection: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        missing: str,
    ) -> None:
        key = sandbox.add_key(*(scope for scope in self.SCOPES if scope != missing))
        key_with(sandbox, connection, monkeypatch, key)
        error = restore()
        assert error is not None
        assert f"API key is missing the {missing} permission." in str(error)
        assert "Nothing was uploaded, and no generation was started." in str(error)
        assert counted(sandbox) == (0, 0)
        works, message = DiffioHook().test_connection()
        assert not works
        assert missing in message

    def test_a_key_of_before_scopes_that_may_not_download_is_refused(
        self, restore: Restore, sandbox: Sandbox, connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        permissions = {"read": True, "write": True, "downloadGenerations": False}
        key_with(sandbox, connection, monkeypatch, sandbox.add_key(permissions=permissions))
        assert "not allowed to download generations" in str(restore())
        assert counted(sandbox) == (0, 0)

    def test_a_key_with_all_that_is_needed_works(
        self, restore: Restore, sandbox: Sandbox, connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key_with(sandbox, connection, monkeypatch, sandbox.add_key(*self.SCOPES))
        assert restore() is None
        assert DiffioHook().test_connection()[0]

    @pytest.mark.parametrize(
        "message",
        [
            "Project not owned by this API key.",
            "You do not have permission to access this project.",
            "Forbidden.",
        ],
    )
    def test_a_refusal_that_names_no_permission_does_not_block(
        self, restore: Restore, sandbox: Sandbox, message: str
    ) -> None:
        sandbox.add_fault(
            "status", path="*get_generation_download", status=403, nth=1, body={"error": message}
        )
        assert restore() is None
        assert counted(sandbox) == (1, 1)

    @pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 503])
    def test_any_other_response_does_not_block(self, restore: Restore, sandbox: Sandbox, status: int) -> None:
        sandbox.add_fault("status", path="*get_generation_download", status=status, nth=1)
        assert restore() is None

    def test_no_response_does_not_block(self, restore: Restore, sandbox: Sandbox) -> None:
        sandbox.add_fault("reset-before", path="*get_generation_download", nth=1)
        assert restore() is None

    def test_a_refusal_without_a_name_is_warned_of(
        self, connection: dict[str, Any], sandbox: Sandbox, mocker: Any
    ) -> None:
        body = {"error": "Project not owned by this API key."}
        sandbox.add_fault("status", path="*get_generation_download", status=403, body=body)
        hook = DiffioHook()
        warning = mocker.spy(hook.log, "warning")
        hook.check_permissions()
        [call] = warning.call_args_list
        assert "Project not owned by this API key." in call.args[0] % call.args[1:]

    def test_a_hook_asks_once(self, connection: dict[str, Any], recording: Path, sandbox: Sandbox) -> None:
        hook = DiffioHook()
        for number in range(3):
            hook.restore_audio(recording, f"{number}.mp3", poll_interval=0.1)
        asked = [r for r in sandbox.requests() if r["path"].endswith("get_generation_download")]
        assert len(asked) == 1 + 3

    def test_the_error_is_not_about_a_generation(
        self, connection: dict[str, Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key_with(sandbox, connection, monkeypatch, sandbox.add_key("projects:write"))
        with pytest.raises(DiffioPermissionError) as caught:
            DiffioHook().check_permissions()
        assert not caught.value.may_be_billed
        assert NO_GENERATION not in str(caught.value)

    @needs(STATE_STORE)
    def test_a_retry_that_uploads_nothing_does_not_ask(
        self, task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
    ) -> None:
        operator = DiffioRestoreOperator(
            task_id="restore", source=str(recording), path="o.mp3", deferrable=False, dag=dag
        )
        assert task_runner.run(operator).state == "success"
        before = len(sandbox.requests())
        assert task_runner.run(operator, try_number=2).state == "success"
        asked = [request["path"] for request in sandbox.requests()[before:]]
        assert len([path for path in asked if path.endswith("get_generation_download")]) == 1


class TestTheRecording:
    TEXT = b"# Title\n\nNot a word is spoken here.\n"
    PDF = b"%PDF-1.7\n\xe2\xe3" + b"\0" * 99
    ZIP = b"PK\3\4" + b"\0" * 99
    WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + b"\0" * 99

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("README.md", TEXT),
            ("notes.txt", TEXT),
            ("data.json", b"{}"),
            ("a.pdf", PDF),
            ("talk.wav.zip", ZIP),
        ],
    )
    def test_a_file_that_is_none_is_refused_first(
        self, restore: Restore, tmp_path: Path, sandbox: Sandbox, name: str, content: bytes
    ) -> None:
        (tmp_path / name).write_bytes(content)
        error = restore(source=str(tmp_path / name))
        assert f"{name} is no recording" in str(error)
        assert "content_type" in str(error)
        assert sandbox.requests() == []

    @pytest.mark.parametrize(
        ("name", "content", "options", "content_type"),
        [
            ("README.md", TEXT, {"content_type": "audio/wav"}, "audio/wav"),
            ("talk.wav", TEXT, {}, "audio/x-wav"),
            ("talk", TEXT, {}, "application/octet-stream"),
            ("talk", WAV, {}, "audio/x-wav"),
            ("talk.bak", WAV, {}, "audio/x-wav"),
            ("talk.raw", b"\0\1" * 99, {}, "application/octet-stream"),
            ("README.md", TEXT, {"file_name": "talk.wav"}, "audio/x-wav"),
            ("talk.wav", TEXT, {"file_name": "talk.md"}, "audio/x-wav"),
            ("talk", TEXT, {"file_name": "2026-03-01T00:00:00.123+00:00"}, "application/octet-stream"),
        ],
    )
    def test_a_file_that_may_be_one_is_taken(
        self,
        restore: Restore,
        tmp_path: Path,
        sandbox: Sandbox,
        name: str,
        content: bytes,
        options: dict[str, Any],
        content_type: str,
    ) -> None:
        (tmp_path / name).write_bytes(content)
        restore(source=str(tmp_path / name), **options)
        [project] = sandbox.ledger()["projects"]
        assert project["contentType"] == content_type
        assert counted(sandbox) == (1, 1)


class TestTheDownloadType:
    @pytest.mark.parametrize(
        ("name", "content_type"),
        [
            ("talk.wav", None),
            ("talk.MP3", None),
            ("talk.m4a", None),
            ("talk", "audio/x-wav"),
            ("a.mp4", "Audio/mp4"),
        ],
    )
    def test_the_video_of_sound_is_refused_first(
        self, restore: Restore, tmp_path: Path, sandbox: Sandbox, name: str, content_type: str | None
    ) -> None:
        source = tmp_path / name
        source.write_bytes(b"\x00\x01" * 500)
        error = restore(source=str(source), download_type="video", content_type=content_type)
        assert "download_type is 'video'" in str(error)
        assert sandbox.requests() == []

    @pytest.mark.parametrize("name", ["talk.mp4", "talk.mkv", "talk"])
    def test_what_may_be_a_video_is_not(
        self, restore: Restore, tmp_path: Path, sandbox: Sandbox, name: str
    ) -> None:
        source = tmp_path / name
        source.write_bytes(b"\x00\x01" * 500)
        restore(source=str(source), download_type="video")
        assert counted(sandbox) == (1, 1)
