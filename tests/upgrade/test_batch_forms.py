"""What a version stored of a batch is read, and gone on with, by this one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_diffio.manifest import read_manifest
from airflow_provider_diffio.operators import DiffioRestoreBatchOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.steps.batch.rows import from_checkpoint
from airflow_provider_diffio.triggers.batch import DiffioBatchTrigger, read_over
from tests.operators.test_batch import billed, counts, fire
from tests.task_runner import Outcome, TaskRunner
from tests.upgrade.frozen import NEWEST, VERSIONS, frozen, shape
from tests.upgrade.test_stored_forms import made_again

each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two recordings, one that is empty, and a file that is none."""
    directory = tmp_path / "raw"
    directory.mkdir()
    past = time.time() - 3600
    for name, content in (("a.wav", b"1" * 2004), ("b.wav", b"2" * 2004), ("c.wav", b""), ("x.txt", b"x")):
        (directory / name).write_bytes(content)
        os.utime(directory / name, (past, past))
    return directory


class Night:
    """A batch whose first process has ended, and what stands in the places of the frozen forms."""

    def __init__(self, runner: TaskRunner, dag: Any, raw: Path, output: Path) -> None:
        self.runner, self.dag, self.raw, self.output = runner, dag, raw, output
        self.ledger = output / ".diffio-ledger"
        self.filled: dict[str, Any] = {}

    def operator(self, **options: Any) -> DiffioRestoreBatchOperator:
        # Each process of a worker parses the DAG anew.
        dag = DAG(dag_id=self.dag.dag_id, start_date=self.dag.start_date, schedule=None)
        given = {
            "task_id": "night", "sources": str(self.raw), "path": str(self.output), "dag": dag,
            "max_in_flight": 1, "max_generations": 2, "max_failures": 1, "poll_interval": 0.1,
            "max_poll_interval": 0.5, "deferrable": True, **options,
        }  # fmt: skip
        return DiffioRestoreBatchOperator(**given)

    def defer(self) -> Outcome:
        """Run the first process, until it waits for the first recording."""
        deferred = self.runner.run(self.operator())
        assert deferred.state == "deferred", deferred.error
        (slot,) = self.stored("*.starts/*")
        _, _, _, run_id, *_ = slot.relative_to(self.ledger).parts
        self.filled = {"dag_id": self.dag.dag_id, "run_id": run_id, **self._record()}
        return deferred

    def _record(self) -> dict[str, Any]:
        *_, last = self.stored("records/*/*.json")
        request, revision, _ = last.stem.split("-")
        generation = json.loads(last.read_text())["restoration"]["starts"][-1].get("generation", {})
        return {
            "ledger": str(self.ledger),
            "raw": str(self.raw),
            "output": str(self.output),
            "content": last.parent.name,
            "request": request,
            "revision": revision,
            "generation_id": generation.get("generation_id", ""),
            "project_id": generation.get("api_project_id", ""),
            "started_at": time.time(),
            **{
                f"{path.stem}_version": f"mtime_ns={path.stat().st_mtime_ns}"
                for path in self.raw.glob("*.wav")
            },
        }

    def stored(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.ledger.rglob(pattern) if path.is_file())

    def form(self, version: str, name: str) -> Any:
        return frozen(version, name, self.filled)


@pytest.fixture
def night(task_runner: TaskRunner, dag: Any, raw: Path, output: Path, short_deferrals: None) -> Night:
    return Night(task_runner, dag, raw, output)


def lines(header: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in (header, *rows))


# --- triggers -------------------------------------------------------------------------------------------


@each_version
def test_a_stored_trigger_is_made_again(version: str) -> None:
    stored, newest = frozen(version, "trigger_batch"), frozen(NEWEST, "trigger_batch")
    trigger = made_again(stored)
    classpath, arguments = trigger.serialize()
    assert (classpath, shape(arguments)) == (newest["classpath"], shape(newest["kwargs"]))
    assert {name: arguments[name] for name in stored["kwargs"]} == stored["kwargs"]
    ((generation, project, started_at),) = trigger.generations
    assert (generation, project, started_at) == ("{generation_id}", "{project_id}", 1790000000.0)


@each_version
def test_a_stored_trigger_sends_the_event_that_a_deferred_task_knows(
    night: Night, sandbox: Sandbox, version: str
) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.0, nth="every")
    night.defer()
    stored = night.form(version, "trigger_batch")
    event = fire(Outcome("deferred", trigger=stored["kwargs"]))
    assert event == frozen(NEWEST, "event_batch")
    assert read_over(frozen(version, "event_batch"), 1) == {0}


# --- what is stored while a batch waits -----------------------------------------------------------------


@each_version
def test_a_deferred_batch_goes_on(night: Night, sandbox: Sandbox, output: Path, version: str) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.0, nth="every")
    night.defer()
    checkpoint = night.form(version, "batch_checkpoint")
    (night.ledger / checkpoint["name"]).write_bytes(lines(checkpoint["header"], checkpoint["rows"]))
    deferral = night.form(version, "deferral_batch")
    deferred = Outcome("deferred", next_method=deferral["method"], next_kwargs=deferral["kwargs"])
    # What its arguments are rendered to by now does not count any more; it waits on its worker this time.
    operator = night.operator(
        sources="/gone/", path=str(output / "elsewhere"), max_generations=1, max_failures=0, deferrable=False
    )
    outcome = night.runner.resume(operator, frozen(version, "event_batch"), deferred)
    assert outcome.state == "success", outcome.error
    assert counts(outcome.value) == {"restored": 2, "failed": 1, "ignored": 1, "started": 2}
    assert sorted(path.name for path in output.glob("*.mp3")) == ["a.wav.mp3", "b.wav.mp3"]
    assert billed(sandbox) == 2
    rows = {Path(row["source"]).name: row for row in read_manifest(outcome.value)}
    assert rows["a.wav"]["generation_id"] == night.filled["generation_id"]
    assert rows["c.wav"] == night.form(version, "batch_manifest")["rows"][1]


def test_what_is_stored_while_it_waits_is_frozen(night: Night, sandbox: Sandbox) -> None:
    sandbox.add_fault("processing-seconds", seconds=1.0, nth="every")
    deferred = night.defer()
    trigger, deferral = night.form(NEWEST, "trigger_batch"), night.form(NEWEST, "deferral_batch")
    assert shape(deferred.trigger) == shape(trigger["kwargs"])
    classpath = f"{DiffioBatchTrigger.__module__}.{DiffioBatchTrigger.__qualname__}"
    assert classpath == trigger["classpath"]
    assert {name: deferred.trigger[name] for name in ("version", "wake_at", "total", "done", "failed")} == {
        name: trigger["kwargs"][name] for name in ("version", "wake_at", "total", "done", "failed")
    }
    assert deferred.next_method == deferral["method"]
    stored = deferred.next_kwargs["deferral"]
    assert {**stored, "ledger": stored["ledger"].rstrip("/")} == deferral["kwargs"]["deferral"]
    form = night.form(NEWEST, "batch_checkpoint")
    header, *rows = map(json.loads, (night.ledger / form["name"]).read_text().splitlines())
    times = {"began": form["header"]["began"]}
    assert {**header, **times} == form["header"]
    for row, known in zip(rows, form["rows"], strict=True):
        assert shape(row) == shape(known)
        source = {**row["source"], **{name: known["source"][name] for name in ("modified", "version")}}
        started = {"started_at": known["started_at"]} if "started_at" in known else {}
        assert {**row, **started, "source": source} == known


def test_a_field_that_is_not_known_is_passed_over() -> None:
    form = frozen(NEWEST, "batch_checkpoint")
    known = from_checkpoint(lines(form["header"], form["rows"]).splitlines())
    for row in form["rows"]:
        row["of_a_later_version"] = row["source"]["of_a_later_version"] = 1
    header, rows = from_checkpoint(lines({**form["header"], "later": 1}, form["rows"]).splitlines())
    assert (header, rows) == ({**known[0], "later": 1}, known[1])


# --- the slots of max_generations -----------------------------------------------------------------------


@each_version
def test_a_start_that_a_dead_try_had_begun_finds_its_slot(
    night: Night, raw: Path, sandbox: Sandbox, version: str
) -> None:
    """The one start that the bound allows may have happened: it is finished, and no other one begun."""
    sandbox.add_fault("status", path="*-generation", status=500, body={}, nth=1, times=6)
    one = {"max_generations": 1, "max_failures": 2, "transfers": 1, "deferrable": False}
    (raw / "b.wav").unlink()
    failed = night.runner.run(night.operator(**one))
    assert counts(failed.value) == {"failed": 2, "ignored": 1, "started": 1}
    (slot,) = night.stored("*.starts/*")
    _, _, _, run_id, *_ = slot.relative_to(night.ledger).parts
    night.filled = {"dag_id": night.dag.dag_id, "run_id": run_id, **night._record()}
    newest, form = night.form(NEWEST, "batch_slot"), night.form(version, "batch_slot")
    written = json.loads(slot.read_text())
    assert str(slot.relative_to(night.ledger)) == newest["name"]
    assert {**written, "writer": newest["body"]["writer"]} == newest["body"]
    slot.unlink()
    (night.ledger / form["name"]).write_text(json.dumps(form["body"]))
    (raw / "0.wav").write_bytes(b"0" * 2004)
    os.utime(raw / "0.wav", (1e9, 1e9))
    outcome = night.runner.run(night.operator(**one), try_number=2)
    assert counts(outcome.value) == {"restored": 1, "failed": 1, "left": 1, "ignored": 1, "started": 1}
    assert billed(sandbox) == 1


# --- manifests ------------------------------------------------------------------------------------------


@each_version
def test_a_stored_manifest_is_read(night: Night, tmp_path: Path, version: str) -> None:
    night.filled = {"ledger": str(tmp_path), "dag_id": "dag", "run_id": "run"}
    form = night.form(version, "batch_manifest")
    place = Path(form["value"]["manifest"])
    place.parent.mkdir(parents=True)
    place.write_text("".join(json.dumps(row) + "\n" for row in form["rows"]))
    assert list(read_manifest(form["value"])) == form["rows"]


def test_the_manifest_that_is_written_is_frozen(night: Night) -> None:
    night.filled = {}
    outcome = night.runner.run(night.operator(deferrable=False))
    form, value = frozen(NEWEST, "batch_manifest"), outcome.value
    assert shape(value) == shape(form["value"])
    assert {**value, "manifest": ""} == {**form["value"], "manifest": ""}
    rows = list(read_manifest(value))
    restored, failed = form["rows"]
    assert [shape(row) for row in rows] == [shape(restored), shape(restored), shape(failed)]
    *_, dag_id, task_id, _, name = Path(value["manifest"]).parts
    assert (dag_id, task_id, name) == (night.dag.dag_id, "night", Path(form["name"]).name)


@each_version
def test_no_field_of_a_manifest_is_removed(version: str) -> None:
    old, new = frozen(version, "batch_manifest"), frozen(NEWEST, "batch_manifest")
    assert old["value"].keys() <= new["value"].keys()
    for before, after in zip(old["rows"], new["rows"], strict=True):
        assert before.keys() <= after.keys()
