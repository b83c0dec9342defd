"""What a retry finds in the task's state store: a crash at any point costs no second purchase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api import uploads
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.uploads import ProjectUpload
from airflow_provider_diffio.operators import DiffioCreateProjectOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import STATE_STORE, needs
from tests.task_runner import TaskRunner, fire

pytestmark = needs(STATE_STORE)


class Crash(BaseException):
    """The worker dies: nothing below the task runner handles it."""


@pytest.fixture
def restore(dag: Any, recording: Path) -> DiffioRestoreOperator:
    return DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out.mp3", deferrable=False, poll_interval=0.1, dag=dag
    )


def crash_after(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str) -> None:
    """Let a method do its work, and die before anybody learns of it."""
    original = getattr(owner, method)

    def dying(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        monkeypatch.setattr(owner, method, original)
        raise Crash

    monkeypatch.setattr(owner, method, dying)


def crash_before(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str) -> None:
    original = getattr(owner, method)

    def dying(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(owner, method, original)
        raise Crash

    monkeypatch.setattr(owner, method, dying)


def run_until_crash(task_runner: TaskRunner, operator: Any) -> None:
    assert isinstance(task_runner.run(operator).error, Crash)


def assert_paid_once(
    task_runner: TaskRunner, operator: Any, sandbox: Sandbox, recording: Path, projects: int
) -> None:
    asset = task_runner.run(operator, try_number=2).value
    assert Path(asset["path"]).read_bytes() == recording.read_bytes()
    ledger = sandbox.ledger()
    assert ledger["totals"]["generations"] == 1
    assert ledger["totals"]["projects"] == projects
    assert ledger["totals"]["openUploads"] == 0


@pytest.mark.parametrize(
    ("when", "method", "projects"),
    [
        ("after", "run", 1),
        ("before", "complete_project_upload", 1),
        ("after", "complete_project_upload", 1),
        ("before", "create_generation", 1),
        ("after", "create_generation", 1),
        ("before", "get_generation_progress", 1),
        ("before", "download", 1),
        ("after", "download", 1),
    ],
)
def test_a_crash_between_the_steps_is_paid_once(
    task_runner: TaskRunner,
    restore: DiffioRestoreOperator,
    sandbox: Sandbox,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    method: str,
    projects: int,
) -> None:
    owner = ProjectUpload if method == "run" else DiffioHook
    (crash_after if when == "after" else crash_before)(monkeypatch, owner, method)
    run_until_crash(task_runner, restore)
    assert_paid_once(task_runner, restore, sandbox, recording, projects)


def test_an_upload_that_broke_off_starts_again_in_a_new_project(
    task_runner: TaskRunner,
    restore: DiffioRestoreOperator,
    sandbox: Sandbox,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crash_before(monkeypatch, uploads, "upload")
    run_until_crash(task_runner, restore)
    # The token of the first upload is a secret and kept nowhere, so the first project stays unfinished.
    assert_paid_once(task_runner, restore, sandbox, recording, projects=2)
    assert sandbox.ledger()["totals"]["projectsWithoutUpload"] == 1


def test_a_clear_while_deferred_waits_for_the_same_generation(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox, short_deferrals: None, slow: None
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out.mp3", deferrable=True, poll_interval=0.1, dag=dag
    )
    first = task_runner.run(restore)
    second = task_runner.run(restore, try_number=2)
    assert second.trigger["generation_id"] == first.trigger["generation_id"]
    assert task_runner.resume(restore, fire(second), second).state == "success"
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_a_failed_generation_is_bought_again_for_the_same_project(
    task_runner: TaskRunner, restore: DiffioRestoreOperator, sandbox: Sandbox
) -> None:
    sandbox.add_fault("fail-generation", times=1)
    assert type(task_runner.run(restore).error).__name__ == "DiffioGenerationFailedError"
    assert task_runner.run(restore, try_number=2).state == "success"
    assert (sandbox.ledger()["totals"]["generations"], sandbox.ledger()["totals"]["projects"]) == (2, 1)


def test_an_edited_recording_never_gets_the_old_result(
    task_runner: TaskRunner, restore: DiffioRestoreOperator, sandbox: Sandbox, recording: Path
) -> None:
    task_runner.run(restore)
    recording.write_bytes(b"RIFF" + b"another recording" * 1000)
    asset = task_runner.run(restore, try_number=2).value
    assert Path(asset["path"]).read_bytes() == recording.read_bytes()
    assert sandbox.ledger()["totals"]["generations"] == 2


def test_a_record_that_can_not_be_read_is_not_taken_for_none(
    task_runner: TaskRunner, restore: DiffioRestoreOperator, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_runner.run(restore)
    monkeypatch.setattr(
        task_runner, "_store", lambda *_: (_ for _ in ()).throw(RuntimeError("database is away"))
    )
    outcome = task_runner.run(restore, try_number=2)
    assert type(outcome.error).__name__ == "DiffioTaskStateError"
    assert sandbox.ledger()["totals"]["generations"] == 1


def test_nothing_is_bought_for_a_project_that_could_not_be_recorded(
    task_runner: TaskRunner,
    restore: DiffioRestoreOperator,
    sandbox: Sandbox,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = task_runner._store  # type: ignore[attr-defined]

    def forgetful(method: str, key: str, body: Any) -> Any:
        if method == "PUT" and "project" in body["value"]["upload"]:
            raise RuntimeError("database is away")
        return store(method, key, body)

    with monkeypatch.context() as patched:
        patched.setattr(task_runner, "_store", forgetful)
        outcome = task_runner.run(restore)
    assert type(outcome.error).__name__ == "DiffioTaskStateError"
    assert sandbox.ledger()["totals"]["generations"] == 0
    # That the upload began is recorded, and it had arrived whole.
    assert_paid_once(task_runner, restore, sandbox, recording, projects=1)


def test_records_hold_no_secret(
    task_runner: TaskRunner, restore: DiffioRestoreOperator, sandbox: Sandbox
) -> None:
    task_runner.run(restore)
    stored = str(task_runner.state_store)
    assert set(task_runner.state_store) == {"diffio_restoration"}
    assert sandbox.api_key not in stored
    assert "http" not in stored
    assert "v1." not in stored


def test_a_retried_upload_returns_the_project_that_is_there(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    first = task_runner.run(upload).value
    assert task_runner.run(upload, try_number=2).value == first
    assert sandbox.ledger()["totals"]["projects"] == 1


def test_skip_keeps_the_file_that_an_earlier_try_wrote(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out/", overwrite="skip", poll_interval=0.1, dag=dag
    )
    first = task_runner.run(restore).value
    before = len(sandbox.requests())
    assert task_runner.run(restore, try_number=2).value == first
    later = [request["path"] for request in sandbox.requests()[before:]]
    assert later == ["/v1/get_generation_progress", "/v1/get_generation_progress"]

    Path(first["path"]).write_bytes(b"somebody else")
    again = task_runner.run(restore, try_number=3).value
    assert again == first
    assert Path(first["path"]).read_bytes() == recording.read_bytes()


def test_error_does_not_mind_the_file_of_an_earlier_try(
    task_runner: TaskRunner, dag: Any, recording: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="out.mp3",
        overwrite="error",
        poll_interval=0.1,
        dag=dag,
    )
    crash_after(monkeypatch, DiffioHook, "download")
    run_until_crash(task_runner, restore)
    assert (output / "out.mp3").exists()
    assert task_runner.run(restore, try_number=2).state == "success"
