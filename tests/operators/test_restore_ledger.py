"""The restore operator with a ledger: paid once per recording, on every Airflow, whatever its position."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.task_runner import Outcome, TaskRunner, fire, make_task_runner

MakeRestore = Callable[..., DiffioRestoreOperator]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def restore(dag: Any, recording: Path, ledger: Path, connection: dict[str, Any]) -> MakeRestore:
    numbers = iter(range(1000))

    def make(source: Path | str = recording, **options: Any) -> DiffioRestoreOperator:
        arguments = {
            "source": str(source),
            "path": f"{Path(source).stem}.mp3",
            "ledger": str(ledger),
            "poll_interval": 0.1,
            "deferrable": False,
            "task_id": f"restore_{next(numbers)}",
            **options,
        }
        return DiffioRestoreOperator(dag=dag, **arguments)

    return make


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """Run one try of a task as a task instance of its own: another run, or another map index."""

    def running(operator: Any, **options: Any) -> Outcome:
        return make_task_runner().run(operator, **options)

    return running


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + capsys.readouterr().out


def billed(sandbox: Sandbox) -> int:
    return int(sandbox.ledger()["totals"]["generations"])


def uploads(sandbox: Sandbox) -> int:
    return int(sandbox.ledger()["totals"]["projects"])


def write(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "raw" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"RIFF" + name.encode() * 1000)
    return path


class TestAListThatShifts:
    """Case M1: the recording is paid for once, whatever its map index."""

    def test_a_timeout_and_a_clear_bill_three_for_three(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, tmp_path: Path
    ) -> None:
        a, b, c = (write(tmp_path, f"{name}.wav") for name in "abc")
        assert run(restore(a)).state == "success"
        sandbox.add_fault("processing-seconds", seconds=2.0, nth="every")
        assert run(restore(b, timeout=0.2)).state in ("failed", "up_for_retry")
        sandbox.clear_faults()
        assert run(restore(c)).state == "success"
        # jobs() leaves out what is done: b is at another position now.
        assert run(restore(b)).state == "success"
        assert billed(sandbox) == 3
        assert uploads(sandbox) == 3

    def test_a_new_file_and_a_clear_bill_what_is_new(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, tmp_path: Path
    ) -> None:
        b, c = (write(tmp_path, f"{name}.wav") for name in "bc")
        first = [run(restore(path)).value for path in (b, c)]
        a = write(tmp_path, "a.wav")
        second = [run(restore(path)).value for path in (a, b, c)]
        assert second[1:] == first
        assert billed(sandbox) == 3

    def test_every_try_and_every_dag_finds_it(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox
    ) -> None:
        values = [run(restore(), try_number=number).value for number in (1, 2, 1)]
        assert values[0] == values[1] == values[2]
        assert billed(sandbox) == 1
        assert uploads(sandbox) == 1

    def test_a_finished_recording_costs_no_request_to_diffio(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox
    ) -> None:
        run(restore())
        before = len(sandbox.requests())
        assert run(restore()).state == "success"
        assert len(sandbox.requests()) == before


class TestIdentity:
    @pytest.mark.parametrize("how", ["touched", "renamed", "moved", "copied"])
    def test_the_same_bytes_are_the_same_recording(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        recording: Path,
        sandbox: Sandbox,
        output: Path,
        how: str,
    ) -> None:
        first = run(restore(path="out.mp3")).value
        source = recording
        if how == "touched":
            os.utime(recording, (1, 1))
        elif how == "renamed":
            source = recording.rename(recording.with_name("interview.wav"))
        elif how == "moved":
            (recording.parent / "archive").mkdir()
            source = recording.rename(recording.parent / "archive" / "talk.wav")
        else:
            source = Path(shutil.copy(recording, recording.with_name("copy.wav")))
        second = run(restore(source, path="other.mp3")).value
        assert second["generation_id"] == first["generation_id"]
        assert (output / "other.mp3").read_bytes() == (output / "out.mp3").read_bytes()
        assert billed(sandbox) == 1

    def test_a_touched_recording_is_read_and_not_uploaded(
        self, restore: MakeRestore, run: Callable[..., Outcome], recording: Path, sandbox: Sandbox
    ) -> None:
        run(restore())
        os.utime(recording, (1, 1))
        assert run(restore()).state == "success"
        assert uploads(sandbox) == 1

    def test_another_recording_in_its_place_is_warned_of(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        recording: Path,
        sandbox: Sandbox,
        logged: Callable[[], str],
    ) -> None:
        run(restore())
        recording.write_bytes(b"RIFF" + b"other" * 500)
        assert run(restore()).state == "success"
        assert "its content changed. Another generation is started for it, and billed too." in logged()
        assert billed(sandbox) == 2

    def test_another_api_starts_anew(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        connection: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run(restore())
        with Sandbox(processing_seconds=0.1, engine="passthrough") as other:
            fields = {**connection, **other.connection, "extra": connection["extra"]}
            monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))
            assert run(restore()).state == "success"
            assert billed(other) == 1

    def test_a_source_that_is_gone_is_collected(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        recording: Path,
        sandbox: Sandbox,
        output: Path,
    ) -> None:
        sandbox.add_fault("status", path="/m/*", status=403, nth="every")
        assert run(restore()).state != "success"
        sandbox.clear_faults()
        data = recording.read_bytes()
        recording.unlink()
        assert run(restore()).state == "success"
        assert (output / "talk.mp3").read_bytes() == data
        assert billed(sandbox) == 1
        assert run(restore("/nowhere/else.wav")).state == "failed"


class TestAChangedRequest:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"model": "diffio-4.6-pro"}, "model"),
            ({"sampling": {"steps": 5}}, "sampling"),
            ({"generation_params": {"strength": 2}}, "generation_params"),
            ({"project_params": {"team": "a"}}, "project_params"),
            ({"file_format": "wav"}, "file_format"),
            ({"content_type": "audio/x-wav"}, "content_type"),
        ],
    )
    def test_it_fails_before_anything_is_sent(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, change: Any, named: str
    ) -> None:
        first = run(restore()).value
        before = len(sandbox.requests())
        outcome = run(restore(**change))
        assert outcome.state == "failed"
        assert f"{named} changed" in str(outcome.error)
        assert first["generation_id"] in str(outcome.error)
        assert len(sandbox.requests()) == before
        kept = run(restore(**change, on_changed_request="keep"))
        assert kept.value["generation_id"] == first["generation_id"]
        assert len(sandbox.requests()) == before

    def test_the_connections_default_model_counts(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        sandbox: Sandbox,
        connection: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run(restore())
        fields = {**connection, "extra": {**connection["extra"], "model": "diffio-4.6-pro"}}
        monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))
        assert run(restore()).state == "failed"
        assert billed(sandbox) == 1

    def test_a_renamed_recording_fails_before_its_start(
        self, restore: MakeRestore, run: Callable[..., Outcome], recording: Path, sandbox: Sandbox
    ) -> None:
        run(restore())
        moved = recording.rename(recording.with_name("moved.wav"))
        outcome = run(restore(moved, model="diffio-4.6-pro"))
        assert outcome.state == "failed"
        assert "model changed" in str(outcome.error)
        assert billed(sandbox) == 1

    def test_it_starts_another_one_where_it_is_told_to(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        sandbox: Sandbox,
        logged: Callable[[], str],
    ) -> None:
        first = run(restore()).value
        second = run(restore(model="diffio-4.6-pro", on_changed_request="start")).value
        assert second["generation_id"] != first["generation_id"]
        assert "model changed. Another generation is started, and billed too." in logged()
        assert billed(sandbox) == 2
        run(restore(model="diffio-4.6-pro"))
        run(restore())
        assert billed(sandbox) == 2

    def test_a_revision_starts_anew(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, logged: Callable[[], str]
    ) -> None:
        run(restore())
        for _ in range(2):
            assert run(restore(revision="2")).state == "success"
        assert "for revision '2', and billed too" in logged()
        assert billed(sandbox) == 2

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("on_changed_request", "ask"),
            ("missing_output", "restore"),
            ("max_generations_per_recording", 0),
            ("overwrite", "always"),
            ("revision", ["2"]),
            ("ledger", 5),
        ],
    )
    def test_wrong_arguments_are_named(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, name: str, value: Any
    ) -> None:
        outcome = run(restore(**{name: value}))
        assert outcome.state == "failed"
        assert name in str(outcome.error)
        assert sandbox.requests() == []


class TestFailures:
    def test_they_count_over_runs(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, logged: Callable[[], str]
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        errors = [run(restore()).error for _ in range(4)]
        assert billed(sandbox) == 2
        assert [type(error).__name__ for error in errors] == [
            *["DiffioGenerationFailedError"] * 2,
            *["AirflowFailException"] * 2,
        ]
        assert "max_generations_per_recording is 2" in str(errors[-1])
        assert "Another one is started, the 2. of at most 2" in logged()
        assert uploads(sandbox) == 1

    def test_a_task_instance_has_its_own_bound(
        self, restore: MakeRestore, task_runner: TaskRunner, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        operator = restore(max_generations=1, max_generations_per_recording=9)
        for number in (1, 2, 3):
            outcome = task_runner.run(operator, try_number=number)
        assert "max_generations is 1" in str(outcome.error)
        assert billed(sandbox) == 1

    def test_a_generation_that_is_gone_is_never_started_again(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("processing-seconds", seconds=2.0, nth="every")
        run(restore(timeout=0.1))
        sandbox.clear_faults()
        body = {"error": "Generation not found"}
        sandbox.add_fault("status", path="*get_generation_progress", status=404, body=body, nth="every")
        for _ in range(2):
            outcome = run(restore())
            assert outcome.state == "failed"
            assert "this API key cannot find it" in str(outcome.error)
        assert billed(sandbox) == 1

    def test_a_ledger_that_cannot_be_read_starts_nothing(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, ledger: Path
    ) -> None:
        run(restore())
        before = len(sandbox.requests())
        (ledger / "ledger.json").write_text("{}")
        outcome = run(restore())
        assert outcome.state != "success"
        assert "ledger.json is damaged" in str(outcome.error)
        assert len(sandbox.requests()) == before


class TestFilesThatAreThere:
    def test_skip_adopts_and_costs_nothing(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, output: Path
    ) -> None:
        (output / "talk.mp3").write_bytes(b"restored long ago")
        for _ in range(2):
            outcome = run(restore(overwrite="skip"))
            assert outcome.state == "success"
            assert outcome.value["size_bytes"] == 17
            assert outcome.value["generation_id"] is None
        # It counts whatever overwrite says later, and when it was moved on.
        (output / "talk.mp3").unlink()
        assert run(restore()).state == "success"
        assert sandbox.requests() == []

    def test_an_adopted_file_under_another_request_fails(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, output: Path
    ) -> None:
        (output / "talk.mp3").write_bytes(b"restored long ago")
        run(restore(overwrite="skip"))
        other = {"model": "diffio-4.6-pro"}
        outcome = run(restore(**other))
        assert outcome.state == "failed"
        assert "was adopted" in str(outcome.error)
        assert run(restore(**other, on_changed_request="keep")).state == "success"
        assert sandbox.requests() == []
        assert run(restore(**other, on_changed_request="start")).state == "success"
        assert billed(sandbox) == 1

    def test_error_refuses_before_anything_is_sent(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, output: Path
    ) -> None:
        (output / "talk.mp3").write_bytes(b"somebody's")
        outcome = run(restore(overwrite="error"))
        assert outcome.state == "failed"
        assert "exists already" in str(outcome.error)
        assert sandbox.requests() == []

    def test_replace_replaces(
        self, restore: MakeRestore, run: Callable[..., Outcome], recording: Path, output: Path
    ) -> None:
        (output / "talk.mp3").write_bytes(b"somebody's")
        run(restore())
        assert (output / "talk.mp3").read_bytes() == recording.read_bytes()

    def test_skip_restores_what_changed(
        self, restore: MakeRestore, run: Callable[..., Outcome], recording: Path, output: Path
    ) -> None:
        """The file there is recorded as that of the older recording: it is no reason to skip."""
        run(restore(overwrite="skip"))
        recording.write_bytes(b"RIFF" + b"newer" * 1000)
        run(restore(overwrite="skip"))
        assert (output / "talk.mp3").read_bytes() == recording.read_bytes()

    def test_a_file_that_is_gone_stays_so_or_is_downloaded(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, output: Path
    ) -> None:
        run(restore())
        (output / "talk.mp3").unlink()
        assert run(restore()).state == "success"
        assert not (output / "talk.mp3").exists()
        assert run(restore(missing_output="download")).state == "success"
        assert (output / "talk.mp3").exists()
        assert (billed(sandbox), uploads(sandbox)) == (1, 1)

    def test_a_directory_gets_diffios_name(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, output: Path
    ) -> None:
        first = run(restore(path="all/")).value
        assert Path(first["path"]).parent == output / "all"
        assert run(restore(path="all/")).value == first
        assert billed(sandbox) == 1


class TestDeferral:
    def test_it_goes_on_with_what_was_begun(
        self,
        restore: MakeRestore,
        task_runner: TaskRunner,
        sandbox: Sandbox,
        slow: None,
        short_deferrals: None,
        recording: Path,
        output: Path,
        ledger: Path,
    ) -> None:
        operator = restore(deferrable=True)
        deferred = task_runner.run(operator)
        assert deferred.state == "deferred"
        assert list(ledger.glob("owners/*")) == []
        recording.unlink()
        event = fire(deferred)
        # Templates are rendered again when it resumes, and may give something else by then.
        operator.model, operator.revision = "diffio-4.6-pro", "9"
        outcome = task_runner.resume(operator, event, deferred)
        assert outcome.state == "success"
        assert (output / "talk.mp3").exists()
        assert billed(sandbox) == 1
        (open_names, done_names) = (list(ledger.glob(f"{name}/*/*")) for name in ("open", "done"))
        assert (open_names, len(done_names)) == ([], 1)

    def test_a_failure_seen_after_it_is_recorded(
        self,
        restore: MakeRestore,
        task_runner: TaskRunner,
        sandbox: Sandbox,
        slow: None,
        short_deferrals: None,
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        operator = restore(deferrable=True, max_generations_per_recording=1)
        deferred = task_runner.run(operator)
        outcome = task_runner.resume(operator, fire(deferred), deferred)
        assert "Error" in type(outcome.error).__name__
        outcome = task_runner.run(operator, try_number=2)
        assert "max_generations_per_recording is 1" in str(outcome.error)
        assert billed(sandbox) == 1

    def test_others_wait_for_the_same_generation(
        self,
        restore: MakeRestore,
        task_runner: TaskRunner,
        run: Callable[..., Outcome],
        sandbox: Sandbox,
        slow: None,
        short_deferrals: None,
        output: Path,
    ) -> None:
        operator = restore(deferrable=True)
        deferred = task_runner.run(operator)
        assert run(restore(path="second.mp3")).state == "success"
        assert task_runner.resume(operator, fire(deferred), deferred).state == "success"
        assert sorted(path.name for path in output.iterdir()) == ["second.mp3", "talk.mp3"]
        assert billed(sandbox) == 1


class TestTheConnectionsLedger:
    @pytest.fixture
    def _default(self, connection: dict[str, Any], ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fields = {**connection, "extra": {**connection["extra"], "ledger_path": str(ledger)}}
        monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))

    @pytest.mark.usefixtures("_default")
    def test_it_is_the_default(
        self,
        restore: MakeRestore,
        run: Callable[..., Outcome],
        sandbox: Sandbox,
        recording: Path,
        output: Path,
    ) -> None:
        for _ in range(2):
            assert run(restore(ledger=None)).state == "success"
        file = DiffioHook().restore_audio(recording, "elsewhere.mp3")
        assert file.path == str(output / "elsewhere.mp3")
        assert billed(sandbox) == 1

    @pytest.mark.parametrize("_", [1])
    def test_without_one_nothing_is_recorded(
        self, restore: MakeRestore, run: Callable[..., Outcome], sandbox: Sandbox, ledger: Path, _: int
    ) -> None:
        for _number in range(2):
            assert run(restore(ledger=None)).state == "success"
        assert not ledger.exists()
        assert billed(sandbox) == 2


class TestTheHook:
    def test_every_call_finds_what_another_paid_for(
        self,
        recording: Path,
        ledger: Path,
        sandbox: Sandbox,
        restore: MakeRestore,
        run: Callable[..., Outcome],
    ) -> None:
        run(restore())
        hook = DiffioHook()
        data = recording.read_bytes()
        assert hook.restore_audio(recording, ledger=ledger) == data
        assert hook.restore_audio(data, ledger=ledger, file_name="talk.wav") == data
        with recording.open("rb") as stream:
            assert hook.restore_audio(stream, "b.mp3", ledger=str(ledger)).size_bytes == len(data)
        assert (billed(sandbox), uploads(sandbox)) == (1, 1)

    def test_bytes_are_paid_for_once(self, ledger: Path, sandbox: Sandbox, connection: Any) -> None:
        data = b"RIFF" + b"memory" * 1000
        for _ in range(2):
            assert DiffioHook().restore_audio(data, ledger=ledger, file_name="talk.wav") == data
        assert billed(sandbox) == 1

    def test_skip_adopts(
        self, recording: Path, ledger: Path, sandbox: Sandbox, output: Path, connection: Any
    ) -> None:
        (output / "talk.mp3").write_bytes(b"old")
        file = DiffioHook().restore_audio(recording, "talk.mp3", ledger=ledger, overwrite="skip")
        assert file.size_bytes == 3
        assert sandbox.requests() == []
