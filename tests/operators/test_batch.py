"""The batch operator on the task runner, against the sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.manifest import read_manifest
from airflow_provider_diffio.operators import DiffioRestoreBatchOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.triggers.batch import DiffioBatchTrigger
from tests.media import wav
from tests.task_runner import Outcome, TaskRunner, make_task_runner, new_id

COUNTS = ("restored", "kept", "adopted", "failed", "given_up", "left", "ignored", "started")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    directory = tmp_path / "raw"
    for number, name in enumerate(("a.wav", "2024/b.wav", "2024/c.flac", "d.mp3", "notes.txt")):
        write(directory / name, number)
    return directory


def write(path: Path, number: int) -> None:
    """Write a recording that is an hour old, and unlike any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF" + number.to_bytes(4, "big") * 500)
    past = time.time() - 3600
    os.utime(path, (past, past))


def batch(dag: Any, raw: Path, output: Path, **options: Any) -> DiffioRestoreBatchOperator:
    given = {
        "task_id": "night",
        "sources": str(raw),
        "path": str(output),
        "poll_interval": 0.1,
        "max_poll_interval": 0.5,
        "dag": dag,
        **options,
    }
    return DiffioRestoreBatchOperator(**given)


def counts(value: dict[str, Any]) -> dict[str, int]:
    """Return what is not zero."""
    return {name: value[name] for name in COUNTS if value[name]}


def fire(deferred: Outcome) -> Any:
    async def first() -> Any:
        run = DiffioBatchTrigger(**deferred.trigger).run()
        try:
            return (await anext(run)).payload
        finally:
            await run.aclose()  # type: ignore[attr-defined]

    return asyncio.run(first())


def finish(runner: TaskRunner, operator: Any, outcome: Outcome) -> tuple[Outcome, int]:
    """Resume a deferred task until it is over; return what it came to, and the number of its processes."""
    processes = 1
    while outcome.state == "deferred" and processes < 20:
        outcome = runner.resume(operator, fire(outcome), outcome)
        processes += 1
    return outcome, processes


def billed(sandbox: Sandbox) -> int:
    return len(sandbox.ledger()["generations"])


def test_a_directory_is_restored_with_its_tree(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    outcome = task_runner.run(batch(dag, raw, output))
    assert outcome.state == "success", outcome.error
    assert counts(outcome.value) == {"restored": 4, "ignored": 1, "started": 4}
    assert set(outcome.value) == {*COUNTS, "bytes", "manifest"}
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.mp3")) == [
        "2024/b.wav.mp3", "2024/c.flac.mp3", "a.wav.mp3", "d.mp3.mp3",
    ]  # fmt: skip
    assert (output / "a.wav.mp3").read_bytes() == (raw / "a.wav").read_bytes()
    rows = {Path(row["source"]).name: row for row in read_manifest(outcome.value["manifest"])}
    assert set(rows) == {"a.wav", "b.wav", "c.flac", "d.mp3"}
    row = rows["b.wav"]
    assert set(row) == {
        "source", "status", "files", "generation_id", "api_project_id", "model", "error",
    }  # fmt: skip
    assert row["status"] == "restored"
    assert row["error"] is None
    assert row["files"][0]["path"] == str(output / "2024/b.wav.mp3")
    assert row["files"][0]["generation_id"] == row["generation_id"]
    assert outcome.value["bytes"] == sum(row["files"][0]["size_bytes"] for row in rows.values())
    assert billed(sandbox) == 4


def another_dag() -> Any:
    import pendulum
    from airflow.providers.common.compat.sdk import DAG

    return DAG(dag_id=new_id("dag"), start_date=pendulum.datetime(2026, 1, 1), schedule=None)


def statuses(value: dict[str, Any]) -> dict[str, str]:
    return {Path(row["source"]).name: row["status"] for row in read_manifest(value["manifest"])}


def errors(value: dict[str, Any]) -> dict[str, str]:
    return {
        Path(row["source"]).name: row["error"] for row in read_manifest(value["manifest"]) if row["error"]
    }


def test_another_run_pays_for_nothing_again(
    task_runner: TaskRunner, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    make_task_runner().run(batch(another_dag(), raw, output))
    sent = len(sandbox.requests())
    again = make_task_runner().run(batch(another_dag(), raw, output))
    assert counts(again.value) == {"kept": 4, "ignored": 1}
    assert len(sandbox.requests()) == sent
    assert set(statuses(again.value).values()) == {"kept"}
    write(raw / "new.wav", 99)
    os.utime(raw / "a.wav", (1_000, 1_000))  # touched
    (raw / "2024/b.wav").rename(raw / "renamed.wav")
    third = make_task_runner().run(batch(another_dag(), raw, output))
    assert counts(third.value) == {"kept": 3, "restored": 2, "ignored": 1, "started": 1}
    assert statuses(third.value)["renamed.wav"] == "restored"
    assert billed(sandbox) == 5


def test_it_waits_on_the_triggerer(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox, short_deferrals: None
) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.5, nth="every")
    night = batch(dag, raw, output, deferrable=True, max_in_flight=2)
    deferred = task_runner.run(night)
    assert deferred.state == "deferred", deferred.error
    assert deferred.trigger["wake_at"] == 1
    assert sandbox.api_key not in str(deferred)
    outcome, processes = finish(task_runner, night, deferred)
    assert outcome.state == "success", outcome.error
    assert counts(outcome.value) == {"restored": 4, "ignored": 1, "started": 4}
    assert billed(sandbox) == 4
    assert processes <= 4 * 4 / 2 + 4
    assert not list(output.rglob("*waiting*"))


def test_a_lost_trigger_costs_nothing(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox, short_deferrals: None
) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.0, nth="every")
    night = batch(dag, raw, output, deferrable=True)
    assert task_runner.run(night).state == "deferred"
    (raw / "a.wav").unlink()  # tidied away meanwhile, and paid for
    write(raw / "0-new.wav", 77)
    outcome, _ = finish(task_runner, night, task_runner.run(night, try_number=2))
    assert counts(outcome.value) == {"restored": 5, "ignored": 1, "started": 5}
    assert statuses(outcome.value)["a.wav"] == "restored"
    assert (output / "a.wav.mp3").exists()
    assert billed(sandbox) == 5


def test_two_tasks_on_one_ledger(
    task_runner: TaskRunner, raw: Path, output: Path, sandbox: Sandbox, short_deferrals: None
) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.5, nth="every")
    one, two = (batch(another_dag(), raw, output, deferrable=True) for _ in range(2))
    other_runner = make_task_runner()
    first = task_runner.run(one)
    second, _ = finish(other_runner, two, other_runner.run(two))
    first, _ = finish(task_runner, one, first)
    assert first.state == second.state == "success"
    assert billed(sandbox) == 4
    assert second.value["started"] == 0
    assert first.value["started"] == 4
    assert first.value["restored"] + first.value["kept"] == 4


def test_identical_bytes_are_one_generation_and_two_files(
    task_runner: TaskRunner, dag: Any, tmp_path: Path, output: Path, sandbox: Sandbox
) -> None:
    for name in ("a.wav", "b.wav", "deep/c.wav"):
        write(tmp_path / "raw" / name, 5)
    outcome = task_runner.run(batch(dag, tmp_path / "raw", output))
    assert outcome.state == "success", outcome.error
    assert billed(sandbox) == outcome.value["started"] == 1
    assert len(list(output.rglob("*.mp3"))) == 3


def test_one_bad_recording_fails_itself(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("fail-generation", error="no voice", nth=2)
    outcome = task_runner.run(batch(dag, raw, output, transfers=1))
    assert outcome.state != "success"
    assert "1 of 4 recordings failed" in str(outcome.error)
    assert ".." not in str(outcome.error).split(" says of each")[0]
    assert counts(outcome.value) == {"restored": 3, "failed": 1, "ignored": 1, "started": 4}
    assert "no voice" in next(iter(errors(outcome.value).values()))


def test_the_next_try_starts_the_second_one_and_no_third(
    task_runner: TaskRunner, dag: Any, tmp_path: Path, output: Path, sandbox: Sandbox
) -> None:
    write(tmp_path / "raw/a.wav", 1)
    sandbox.add_fault("fail-generation", error="no voice", nth="every")
    night = batch(dag, tmp_path / "raw", output)
    for try_number, started in ((1, 1), (2, 2), (3, 2)):
        outcome = task_runner.run(night, try_number=try_number)
        assert counts(outcome.value) == {"failed": 1, "started": started}
        assert outcome.state != "success"
    assert "max_generations_per_recording is 2" in str(errors(outcome.value))
    later = make_task_runner().run(batch(another_dag(), tmp_path / "raw", output))
    assert later.state == "success", "a file that is broken for good does not make later nights red"
    assert counts(later.value) == {"given_up": 1}
    assert billed(sandbox) == 2


def test_what_does_not_pass_its_verification_is_set_aside_and_never_paid_for_again(
    dag: Any, tmp_path: Path, output: Path, sandbox: Sandbox, connection: dict[str, Any]
) -> None:
    pytest.importorskip("av")
    past = time.time() - 3600
    for name, content in (("good.wav", wav(2)), ("broken.wav", wav(4)[:60_000])):
        path = tmp_path / "raw" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (past, past))
    operator = batch(
        dag,
        tmp_path / "raw",
        output,
        verify="audio",
        download_types=("audio", "transcript"),
        max_failures=1,
    )
    for _ in range(2):
        outcome, _ = finish(runner := make_task_runner(), operator, runner.run(operator))
        assert outcome.error is None
        rows = {Path(row["source"]).name: row for row in read_manifest(outcome.value["manifest"])}
        assert rows["broken.wav"]["status"] == "failed"
        assert "failed-verification" in rows["broken.wav"]["error"]
    assert not (output / "broken.wav.mp3").exists()
    assert (output / "broken.wav.mp3.failed-verification").exists()
    assert (output / "good.wav.mp3").read_bytes() == wav(2)
    assert billed(sandbox) == 2


@pytest.mark.parametrize(
    ("allowed", "state"), [(1, "failed"), (2, "success"), (0.5, "success"), ("2", "success")]
)
def test_max_failures(
    task_runner: TaskRunner,
    dag: Any,
    raw: Path,
    output: Path,
    sandbox: Sandbox,
    allowed: Any,
    state: str,
) -> None:
    sandbox.add_fault("fail-generation", error="no voice", nth=1, times=2)
    outcome = task_runner.run(batch(dag, raw, output, max_failures=allowed))
    assert (outcome.state == "success") is (state == "success"), outcome.error
    assert outcome.value["failed"] == 2


@pytest.mark.parametrize(
    ("status", "code"), [(402, "paymentFailed"), (403, "forbidden"), (401, "unauthorized")]
)
def test_a_blocked_account_stops_new_starts(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox, status: int, code: str
) -> None:
    sandbox.add_fault(
        "status", path="*-generation", status=status, body={"error": code, "code": code}, nth=3, times=100
    )
    outcome = task_runner.run(batch(dag, raw, output, transfers=1))
    assert outcome.state != "success"
    assert f"HTTP {status}" in str(outcome.error)
    assert billed(sandbox) == 2
    assert counts(outcome.value) == {"restored": 2, "failed": 1, "left": 1, "ignored": 1, "started": 2}


def test_a_bounded_night(task_runner: TaskRunner, raw: Path, output: Path, sandbox: Sandbox) -> None:
    for number in (1, 2):
        outcome = make_task_runner().run(batch(another_dag(), raw, output, max_generations="{{ 2 }}"))
        assert outcome.state == "success"
        assert outcome.value["started"] == 2
        assert outcome.value["left"] == 4 - 2 * number
        assert billed(sandbox) == 2 * number


def test_the_bound_holds_over_all_tries(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("fail-generation", error="no voice", nth="every")
    night = batch(dag, raw, output, max_generations=3)
    for try_number in (1, 2, 3):
        outcome = task_runner.run(night, try_number=try_number)
    assert billed(sandbox) == outcome.value["started"] == 3


def test_a_dry_run_sends_nothing(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    outcome = task_runner.run(batch(dag, raw, output, dry_run=True))
    assert outcome.state == "success"
    assert sandbox.requests() == []
    assert counts(outcome.value) == {"left": 4, "ignored": 1}
    rows = list(read_manifest(outcome.value["manifest"]))
    assert sum(row["size_bytes"] for row in rows) == outcome.value["bytes"] == 4 * 2004
    assert list(output.rglob("*.mp3")) == []


def test_young_files_are_left(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    os.utime(raw / "a.wav")
    outcome = task_runner.run(batch(dag, raw, output))
    assert counts(outcome.value) == {"restored": 3, "left": 1, "ignored": 1, "started": 3}
    assert "min_age" in errors(outcome.value)["a.wav"]


def test_a_changed_request(task_runner: TaskRunner, raw: Path, output: Path, sandbox: Sandbox) -> None:
    make_task_runner().run(batch(another_dag(), raw, output))
    pro = {"model": "diffio-4.6-pro"}
    sent = len(sandbox.requests())
    refused = make_task_runner().run(batch(another_dag(), raw, output, **pro))
    assert "4 of 4 recordings were restored before with another request (model changed)" in str(refused.error)
    assert len(sandbox.requests()) == sent
    started = make_task_runner().run(batch(another_dag(), raw, output, **pro, on_changed_request="start"))
    assert counts(started.value) == {"restored": 4, "ignored": 1, "started": 4}
    sent = len(sandbox.requests())
    other = {"model": "diffio-4.6-pro", "generation_params": {"a": 1}}
    kept = make_task_runner().run(batch(another_dag(), raw, output, **other, on_changed_request="keep"))
    assert counts(kept.value) == {"kept": 4, "ignored": 1}
    assert len(sandbox.requests()) == sent
    revised = make_task_runner().run(batch(another_dag(), raw, output, **pro, revision="2"))
    assert counts(revised.value) == {"restored": 4, "ignored": 1, "started": 4}
    assert billed(sandbox) == 12


def test_files_that_were_there(task_runner: TaskRunner, raw: Path, output: Path, sandbox: Sandbox) -> None:
    (output / "a.wav.mp3").write_bytes(b"mine")
    refused = make_task_runner().run(batch(another_dag(), raw, output, overwrite="error", max_failures=1))
    assert counts(refused.value) == {"restored": 3, "failed": 1, "ignored": 1, "started": 3}
    adopted = make_task_runner().run(batch(another_dag(), raw, output, overwrite="skip"))
    assert counts(adopted.value) == {"kept": 3, "adopted": 1, "ignored": 1}
    assert (output / "a.wav.mp3").read_bytes() == b"mine"
    again = make_task_runner().run(batch(another_dag(), raw, output))
    assert counts(again.value) == {"kept": 4, "ignored": 1}
    assert billed(sandbox) == 3


def test_files_that_are_there_no_more(
    task_runner: TaskRunner, raw: Path, output: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    make_task_runner().run(batch(another_dag(), raw, output))
    (output / "a.wav.mp3").unlink()
    assert counts(make_task_runner().run(batch(another_dag(), raw, output)).value)["kept"] == 4
    again = make_task_runner().run(batch(another_dag(), raw, output, missing_output="download"))
    assert counts(again.value) == {"kept": 3, "restored": 1, "ignored": 1}
    ledger = str(output / ".diffio-ledger")
    elsewhere = make_task_runner().run(batch(another_dag(), raw, tmp_path / "other", ledger=ledger))
    assert counts(elsewhere.value) == {"restored": 4, "ignored": 1}
    assert billed(sandbox) == 4


def test_output_below_the_sources(task_runner: TaskRunner, raw: Path, sandbox: Sandbox) -> None:
    for path in (raw / "restored", raw):
        ledger = str(raw / "restored/.diffio-ledger")
        for _ in range(2):
            outcome = make_task_runner().run(batch(another_dag(), raw, path, ledger=ledger))
            assert sum(outcome.value[name] for name in ("restored", "kept")) == 4, statuses(outcome.value)
    assert billed(sandbox) == 4


def test_a_list_with_overrides(
    task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox
) -> None:
    sources = [
        str(raw / "a.wav"),
        {"source": str(raw / "2024/b.wav"), "model": "diffio-4.6-pro", "path": str(output / "x/b.mp3")},
        {"source": str(raw / "d.mp3"), "path": str(output / "y") + "/"},
        str(raw / "none.wav"),
        str(raw / "notes.txt"),
    ]
    outcome = task_runner.run(batch(dag, raw, output, sources=sources, max_failures=2))
    assert outcome.state == "success", outcome.error
    assert counts(outcome.value) == {"restored": 3, "failed": 2, "started": 3}
    rows = {Path(row["source"]).name: row for row in read_manifest(outcome.value["manifest"])}
    assert rows["b.wav"]["model"] == "diffio-4.6-pro"
    assert rows["b.wav"]["files"][0]["path"] == str(output / "x/b.mp3")
    assert (output / "y/d.mp3.mp3").exists()


def test_several_types(task_runner: TaskRunner, dag: Any, raw: Path, output: Path, sandbox: Sandbox) -> None:
    outcome = task_runner.run(
        batch(dag, raw, output, pattern="a.*", download_types=("audio", "transcript"), name="{stem}.{ext}")
    )
    assert outcome.state == "success", outcome.error
    assert sorted(path.name for path in output.iterdir() if path.is_file()) == ["a.json", "a.mp3"]


def test_a_templated_path_needs_a_ledger(
    connection: dict[str, Any], dag: Any, raw: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{output}/{{{{ ds }}}}/"
    with pytest.raises(DiffioInputError, match="ledger"):
        batch(dag, raw, output, path=path)
    batch(another_dag(), raw, output, path=path, ledger=str(output / "ledger"))
    extra = {**connection["extra"], "ledger_path": str(output / "ledger")}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps({**connection, "extra": extra}))
    batch(another_dag(), raw, output, path=path)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("order", "size", "order"),
        ("overwrite", "maybe", "overwrite"),
        ("max_in_flight", 0, "max_in_flight"),
        ("max_generations", "many", "max_generations"),
        ("max_failures", 1.5, "max_failures"),
        ("max_failures", True, "max_failures"),
        ("min_age", -1, "min_age"),
        ("pattern", None, "pattern"),
        ("name", "x", "name"),
        ("download_types", ["sound"], "sound"),
        ("transfers", "four", "transfers"),
        ("dry_run", "no", "dry_run"),
        ("sources", 7, "sources"),
        ("revision", 2, "revision"),
        ("poll_interval", 0, "poll_interval"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    task_runner: TaskRunner,
    dag: Any,
    raw: Path,
    output: Path,
    sandbox: Sandbox,
    argument: str,
    value: Any,
    said: str,
) -> None:
    outcome = task_runner.run(batch(dag, raw, output, **{argument: value}))
    assert said in str(outcome.error)
    assert "No retry" in str(outcome.error)
    assert sandbox.requests() == []
