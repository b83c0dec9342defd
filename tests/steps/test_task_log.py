"""What a person finds in the log of a task: short lines that say it all, and one traceback at most."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.error_lines import LINE_WIDTH
from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
    diffio_error,
)
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import (
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from tests.task_runner import AIRFLOW_3, Outcome, TaskRunner, fire

ReadLog = Callable[[], list[tuple[str, str]]]
_LABELS = ("Where: ", "What to do: ", "Money: ")


@pytest.fixture
def read_log(monkeypatch: pytest.MonkeyPatch) -> ReadLog:
    """Returns level and text of each event that tasks have logged."""
    seen: list[tuple[str, str]] = []
    if AIRFLOW_3:
        import structlog

        def keep(_: Any, level: str, event: Any) -> Any:
            seen.append((level, str(event["event"])))
            return event

        processors = structlog.get_config()["processors"]
        monkeypatch.setattr(structlog._config._CONFIG, "default_processors", [keep, *processors])
    else:
        handler = logging.Handler()
        records: list[logging.LogRecord] = []

        def keep_once(record: logging.LogRecord) -> None:
            if record not in records:
                records.append(record)
                seen.append((record.levelname.lower(), record.getMessage()))

        handler.emit = keep_once  # type: ignore[method-assign]
        for name in (None, "airflow.task", "airflow.task.operators", "airflow.task.hooks"):
            monkeypatch.setattr(logging.getLogger(name), "handlers", [handler])
    return lambda: seen


def said(log: list[tuple[str, str]], level: str = "error") -> list[str]:
    """Return what our own lines said, from the class on."""
    texts = [text for each, text in log if each == level]
    start = next(at for at, text in enumerate(texts) if re.match(r"Diffio\w+Error:", text))
    return texts[start : start + 1 + len(_LABELS)]


def check(outcome: Outcome, log: list[tuple[str, str]], cls: type[Exception], level: str = "error") -> str:
    """See that each part is said in short lines, and the traceback is one; return all that is said."""
    texts = said(log, level)
    assert texts[0].startswith(f"{cls.__name__}:")
    for text, label in zip(texts[1:], _LABELS, strict=True):
        assert text.startswith(label)
    lines = [line for text in texts for line in text.splitlines()]
    assert [line for line in lines if len(line) > LINE_WIDTH and len(line.split()) > 1] == []
    assert outcome.error is not None
    assert isinstance(diffio_error(outcome.error), cls)
    shown = "".join(traceback.format_exception(outcome.error))
    assert shown.count("Traceback (most recent call last)") == 1
    return " ".join(" ".join(texts).split())


def test_a_wrong_key(
    task_runner: TaskRunner,
    dag: Any,
    recording: Path,
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    read_log: ReadLog,
) -> None:
    wrong = {**connection, "password": "diffio_live_nobody_has_this_key"}
    monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(wrong))
    outcome = task_runner.run(DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag))
    assert type(outcome.error).__name__ == "AirflowFailException"
    text = check(outcome, read_log(), DiffioAuthenticationError)
    assert "connection 'diffio_default', endpoint create_project, HTTP 401" in text
    assert "Check the API key in the connection's password field" in text
    assert "There is no retry" in text
    assert "This try started no generation, so nothing is billed for it." in text
    assert len(traceback.extract_tb(outcome.error.__traceback__)) < 20  # type: ignore[union-attr]


def test_a_missing_file(task_runner: TaskRunner, dag: Any, tmp_path: Path, read_log: ReadLog) -> None:
    missing = tmp_path / "a directory with a long name" / "none.wav"
    restore = DiffioRestoreOperator(task_id="restore", source=str(missing), path="out.mp3", dag=dag)
    text = check(task_runner.run(restore), read_log(), DiffioInputError)
    assert str(missing) in text
    assert "nothing is billed" in text


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_failed_generation(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox, read_log: ReadLog, soft_fail: bool
) -> None:
    sandbox.add_fault("fail-generation", error="Cannot decode: header missing", nth="every")
    hook = DiffioHook()
    generation = hook.create_generation(hook.create_project(recording).api_project_id).to_value()
    read_log().clear()
    sensor = DiffioGenerationSensor(
        task_id="wait", generation=generation, poke_interval=0.1, soft_fail=soft_fail, dag=dag
    )
    outcome = task_runner.run(sensor)
    if soft_fail:
        # Its user is prepared: nothing in the log of a task that is skipped is an error of ours.
        assert outcome.state == "skipped"
        assert said(read_log(), "warning")[3].startswith("Money: ")
        return
    text = check(outcome, read_log(), DiffioGenerationFailedError)
    assert "Cannot decode: header missing" in text
    assert f"generation {generation['generation_id']}" in text
    assert "may have been billed" in text
    assert (
        "What to do: Check that the recording plays, and clear the task that started the generation" in text
    )


def test_a_timeout(
    task_runner: TaskRunner, dag: Any, recording: Path, slow: None, short_deferrals: None, read_log: ReadLog
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="out.mp3",
        deferrable=True,
        poll_interval=0.1,
        timeout=0.2,
        dag=dag,
    )
    deferred = task_runner.run(restore)
    text = check(
        task_runner.resume(restore, fire(deferred), deferred), read_log(), DiffioGenerationTimeoutError
    )
    assert "goes on at Diffio, " in text
    assert "is billed once" in text
    assert "What to do: Give the task a longer timeout" in text


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 ends such a task by itself")
def test_an_execution_timeout(
    task_runner: TaskRunner, dag: Any, recording: Path, slow: None, read_log: ReadLog
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="out.mp3",
        poll_interval=0.1,
        execution_timeout=timedelta(seconds=0.5),
        dag=dag,
    )
    outcome = task_runner.run(restore)
    assert type(outcome.error).__name__ == "AirflowTaskTimeout"
    if diffio_error(outcome.error):  # Airflow's own timer may ring first
        check(outcome, read_log(), DiffioGenerationTimeoutError)


def test_a_broken_download_after_the_generation(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox, read_log: ReadLog, output: Path
) -> None:
    hook = DiffioHook()
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id).to_value()
    hook.wait_for_generation(generation["generation_id"], project.api_project_id, poll_interval=0.1)
    read_log().clear()
    (output / "out.mp3").write_bytes(b"mine")
    save = DiffioDownloadOperator(
        task_id="save", generation=generation, path="out.mp3", overwrite="error", dag=dag
    )
    text = check(task_runner.run(save), read_log(), DiffioInputError)
    assert "A generation exists, or may exist, and is billed." in text


def test_lines_of_success_have_readable_sizes_and_times_and_no_key(
    task_runner: TaskRunner, dag: Any, recording: Path, slow: None, read_log: ReadLog
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore", source=str(recording), path="out.mp3", poll_interval=0.1, dag=dag
    )
    assert task_runner.run(restore).state == "success"
    log = read_log()
    lines = [text for level, text in log if level == "info"]
    for pattern in (
        r"Created project \S+; uploading talk\.wav \(102 kB\)\.",
        r"Uploaded talk\.wav in [\d.]+ s\.",
        r"Started generation .* with diffio-\S+\.",
        r"Generation \S+: complete.* after [\d.]+ s.*",
        r"Wrote \S+out\.mp3 \([\d.]+ kB, audio/\w+\) in [\d.]+ s\.",
    ):
        assert [line for line in lines if re.fullmatch(pattern, line)], f"{pattern} is not in {lines}"
    assert [text for level, text in log if level != "debug" and "airflow-" in text] == []
    assert [text for text in lines if re.search(r"\d{4,} bytes", text)] == []
