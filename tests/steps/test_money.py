"""What is billed over tries, crashes, edits and clears; and what a user is told about it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import STATE_STORE, needs
from tests.task_runner import TaskRunner, make_task_runner

MakeRestore = Callable[..., DiffioRestoreOperator]


@pytest.fixture
def restore(dag: Any, recording: Path) -> MakeRestore:
    def make(**options: Any) -> DiffioRestoreOperator:
        arguments = {"source": str(recording), "path": "out.mp3", "poll_interval": 0.1, **options}
        return DiffioRestoreOperator(task_id="restore", deferrable=False, dag=dag, **arguments)

    return make


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was logged so far. Airflow 3 logs to standard output, Airflow 2 by the standard library."""
    caplog.set_level(logging.WARNING)
    return lambda: caplog.text + capsys.readouterr().out


def billed(sandbox: Sandbox) -> int:
    return int(sandbox.ledger()["totals"]["generations"])


@needs(STATE_STORE)
class TestTheSameRecording:
    @pytest.mark.parametrize("how", ["touched", "written again", "replaced"])
    def test_the_same_bytes_are_billed_once(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox, how: str
    ) -> None:
        operator = restore()
        first = task_runner.run(operator).value
        if how == "touched":
            os.utime(recording, (1, 1))
        elif how == "written again":
            recording.write_bytes(recording.read_bytes())
        else:
            other = recording.with_name("other.wav")
            other.write_bytes(recording.read_bytes())
            other.replace(recording)
        assert task_runner.run(operator, try_number=2).value["generation_id"] == first["generation_id"]
        assert (billed(sandbox), sandbox.ledger()["totals"]["projects"]) == (1, 1)

    def test_parts_of_any_size_make_a_digest(
        self,
        restore: MakeRestore,
        recording: Path,
        output: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with Sandbox(processing_seconds=0.1, engine="passthrough", part_size=10_001) as odd:
            fields = {**odd.connection, "extra": {"output_path": str(output)}}
            monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))
            runner, operator = make_task_runner(), restore()
            first = runner.run(operator).value
            assert sum("/parts/" in request["path"] for request in odd.requests()) > 10
            os.utime(recording, (1, 1))
            assert runner.run(operator, try_number=2).value["generation_id"] == first["generation_id"]

    @pytest.mark.parametrize("bytes_more", [0, 1])
    def test_another_content_is_warned_of(
        self,
        task_runner: TaskRunner,
        restore: MakeRestore,
        recording: Path,
        sandbox: Sandbox,
        logged: Callable[[], str],
        bytes_more: int,
    ) -> None:
        operator = restore()
        first = task_runner.run(operator).value
        recording.write_bytes(recording.read_bytes()[:-1] + b"x" * (1 + bytes_more))
        assert task_runner.run(operator, try_number=2).value["generation_id"] != first["generation_id"]
        assert billed(sandbox) == 2
        said = logged()
        assert f"after it had started generation {first['generation_id']}: the recording's content." in said
        assert "Another generation is started for the new input, and billed too." in said

    def test_a_content_too_many_is_not_uploaded_and_the_one_before_can_be_collected(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox
    ) -> None:
        operator = restore(max_generations=2)
        first = recording.read_bytes()
        task_runner.run(operator)
        recording.write_bytes(first + b"second")
        second = task_runner.run(operator, try_number=2).value
        recording.write_bytes(first + b"third!!")
        assert task_runner.run(operator, try_number=3).state == "failed"
        assert sandbox.ledger()["totals"]["projects"] == 2
        recording.write_bytes(first + b"second")
        assert task_runner.run(operator, try_number=4).value["generation_id"] == second["generation_id"]
        assert billed(sandbox) == 2

    def test_another_content_is_refused_where_that_is_wanted(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox
    ) -> None:
        operator = restore(on_changed_input="fail")
        first = task_runner.run(operator).value
        recording.write_bytes(b"RIFF" + b"another" * 100)
        before = len(sandbox.requests())
        outcome = task_runner.run(operator, try_number=2)
        assert outcome.state == "failed"
        assert first["generation_id"] in str(outcome.error)
        assert "on_changed_input='warn'" in str(outcome.error)
        assert (billed(sandbox), len(sandbox.requests())) == (1, before)

    def test_what_was_paid_for_is_collected_when_the_recording_is_gone(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox
    ) -> None:
        operator = restore()
        whole = recording.read_bytes()
        sandbox.add_fault("status", path="/m/*", status=503, nth="every")
        assert task_runner.run(operator).state != "success"
        sandbox.clear_faults()
        recording.unlink()
        value = task_runner.run(operator, try_number=2).value
        assert Path(value["path"]).read_bytes() == whole
        assert billed(sandbox) == 1

    def test_a_recording_that_was_never_there_is_still_refused(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox
    ) -> None:
        recording.unlink()
        outcome = task_runner.run(restore())
        assert outcome.state == "failed"
        assert sandbox.requests() == []

    @pytest.mark.parametrize(
        ("before", "after", "named"),
        [
            ({"generation_params": {"t": 1}}, {"generation_params": {"t": 2}}, "generation_params"),
            ({}, {"model": "diffio-4.6-pro"}, "model"),
            ({"sampling": {"seed": 1}}, {}, "sampling"),
        ],
    )
    def test_another_request_is_warned_of_by_name(
        self,
        task_runner: TaskRunner,
        restore: MakeRestore,
        sandbox: Sandbox,
        logged: Callable[[], str],
        before: dict[str, Any],
        after: dict[str, Any],
        named: str,
    ) -> None:
        operator = restore(**before)
        first = task_runner.run(operator).value
        for name in before:
            setattr(operator, name, None)
        for name, value in after.items():
            setattr(operator, name, value)
        operator.on_changed_input = "fail"
        refused = task_runner.run(operator, try_number=2)
        assert refused.state == "failed"
        assert f"{first['generation_id']}: {named}." in str(refused.error)
        assert billed(sandbox) == 1
        operator.on_changed_input = "warn"
        assert task_runner.run(operator, try_number=3).state == "success"
        assert f"{first['generation_id']}: {named}." in logged()
        assert billed(sandbox) == 2


class TestTheBound:
    @needs(STATE_STORE)
    @pytest.mark.parametrize("bound", [1, 2, 4])
    def test_it_holds_over_all_tries(
        self, task_runner: TaskRunner, restore: MakeRestore, sandbox: Sandbox, bound: int
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        operator = restore(max_generations=bound)
        outcomes = [task_runner.run(operator, try_number=number) for number in range(1, bound + 3)]
        assert billed(sandbox) == bound
        assert [type(outcome.error).__name__ for outcome in outcomes] == [
            *["DiffioGenerationFailedError"] * bound,
            *["AirflowFailException"] * 2,
        ]
        said = str(outcomes[-1].error)
        assert "raise max_generations" in said
        assert "'diffio_restoration'" in said
        assert task_runner.run(restore_with(operator, bound + 1), try_number=9).state != "failed"
        assert billed(sandbox) == bound + 1

    @needs(STATE_STORE)
    def test_it_counts_what_was_started_for_another_input(
        self, task_runner: TaskRunner, restore: MakeRestore, recording: Path, sandbox: Sandbox
    ) -> None:
        operator = restore()
        for number in (1, 2, 3):
            recording.write_bytes(b"RIFF" + bytes([number]) * 1000)
            outcome = task_runner.run(operator, try_number=number)
        assert outcome.state == "failed"
        assert "max_generations is 2" in str(outcome.error)
        assert billed(sandbox) == 2

    def test_create_generation_has_it_on_every_airflow(
        self, task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        project = DiffioHook().create_project(recording).to_value()
        operator = DiffioCreateGenerationOperator(
            task_id="start", project=project, wait_for_completion=True, poll_interval=0.1, dag=dag
        )
        states = [task_runner.run(operator, try_number=number).error for number in (1, 2, 3, 4)]
        assert billed(sandbox) == 2
        assert type(states[-1]).__name__ == "AirflowFailException"
        assert "has started 2 generations" in str(states[-1])

    def test_a_run_that_is_made_again_under_its_id_starts_no_endless_number(
        self, task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
    ) -> None:
        """``airflow dags test`` makes the same run again: always the first try, with nothing recorded."""
        sandbox.add_fault("fail-generation", nth="every")
        project = DiffioHook().create_project(recording).to_value()
        operator = DiffioCreateGenerationOperator(
            task_id="start", project=project, wait_for_completion=True, poll_interval=0.1, dag=dag
        )
        for _ in range(4):
            task_runner.state_store.clear()
            outcome = task_runner.run(operator)
        assert "max_generations is 2" in str(outcome.error)
        assert billed(sandbox) == 2

    @pytest.mark.skipif(STATE_STORE.here, reason="about Airflow before 3.3, which keeps no record")
    def test_restore_counts_its_tries_where_there_is_no_record(
        self,
        task_runner: TaskRunner,
        restore: MakeRestore,
        sandbox: Sandbox,
        logged: Callable[[], str],
    ) -> None:
        sandbox.add_fault("fail-generation", nth="every")
        operator = restore()
        outcomes = [task_runner.run(operator, try_number=number) for number in (1, 2, 3)]
        assert billed(sandbox) == 2
        assert "if an earlier try started a generation, this one starts another" in logged()
        assert outcomes[-1].state == "failed"
        assert "max_generations is 2" in str(outcomes[-1].error)

    @pytest.mark.skipif(STATE_STORE.here, reason="about Airflow before 3.3, which keeps no record")
    def test_a_timeout_without_a_record_says_that_a_retry_is_billed(
        self, task_runner: TaskRunner, restore: MakeRestore, slow: None
    ) -> None:
        outcome = task_runner.run(restore(timeout=0.1))
        assert "starts another one, which is billed too" in str(outcome.error)

    @pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None])
    def test_what_is_no_bound_is_refused(
        self, task_runner: TaskRunner, restore: MakeRestore, sandbox: Sandbox, value: Any
    ) -> None:
        outcome = task_runner.run(restore(max_generations=value))
        assert outcome.state == "failed"
        assert "max_generations must be a whole number of at least 1" in str(outcome.error)
        assert sandbox.requests() == []


def restore_with(operator: DiffioRestoreOperator, bound: int) -> DiffioRestoreOperator:
    operator.max_generations = bound
    return operator


@needs(STATE_STORE)
class TestTheFile:
    def test_an_intent_is_no_ownership(
        self, task_runner: TaskRunner, restore: MakeRestore, output: Path, sandbox: Sandbox
    ) -> None:
        operator = restore(overwrite="error")
        sandbox.add_fault("truncate", path="/m/*", bytes=10, nth="every")
        assert task_runner.run(operator).state != "success"
        sandbox.clear_faults()
        (output / "out.mp3").write_bytes(b"somebody else's")
        outcome = task_runner.run(operator, try_number=2)
        assert outcome.state == "failed"
        assert "exists already" in str(outcome.error)
        assert (output / "out.mp3").read_bytes() == b"somebody else's"
        assert billed(sandbox) == 1

    def test_a_name_that_is_known_only_afterwards_says_what_was_paid_for(
        self, task_runner: TaskRunner, restore: MakeRestore, output: Path, sandbox: Sandbox
    ) -> None:
        operator = restore(path="all/")
        first = task_runner.run(operator).value
        task_runner.state_store.clear()
        operator.overwrite = "error"
        outcome = task_runner.run(operator, try_number=2)
        assert "There is already a file" in str(outcome.error)
        assert "billed" in str(outcome.error)
        assert "generation" in str(outcome.error)
        assert Path(first["path"]).exists()


@needs(STATE_STORE)
def test_a_generation_that_is_gone_names_the_record_to_delete(
    task_runner: TaskRunner, restore: MakeRestore, sandbox: Sandbox
) -> None:
    operator = restore()
    task_runner.run(operator)
    body = {"error": "Generation not found"}
    sandbox.add_fault("status", path="*get_generation_progress", status=404, body=body, nth="every")
    outcome = task_runner.run(operator, try_number=2)
    assert outcome.state == "failed"
    assert "delete the record 'diffio_restoration'" in str(outcome.error)
    assert billed(sandbox) == 1
