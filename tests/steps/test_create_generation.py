"""Paying once: what retries, crashes and clears do to the bill."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.steps.create_generation import GenerationOptions, TaskIdentity
from tests.task_runner import TaskRunner, fire


@pytest.fixture
def project(task_runner: TaskRunner, recording: Any) -> dict[str, Any]:
    return DiffioHook().create_project(recording).to_value()


def restore(dag: Any, project: Any, **options: Any) -> DiffioCreateGenerationOperator:
    return DiffioCreateGenerationOperator(
        task_id="restore", project=project, poll_interval=0.1, dag=dag, **options
    )


def billed(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.ledger()["generations"]
    return found


def test_every_try_gets_the_same_generation(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any], sandbox: Sandbox
) -> None:
    operator = restore(dag, project)
    tries = [task_runner.run(operator, try_number=number).value["generation_id"] for number in (1, 2, 3)]
    assert len(set(tries)) == 1
    assert len(billed(sandbox)) == 1


def test_a_lost_answer_is_paid_once(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any], sandbox: Sandbox
) -> None:
    sandbox.add_fault("reset-after", path="*-generation", nth=1, times=2)
    operator = restore(dag, project)
    lost = task_runner.run(operator)
    assert lost.state == "up_for_retry" or lost.error is not None
    assert "A retry under the same idempotency key pays once" in str(lost.error)
    assert (
        task_runner.run(operator, try_number=2).value["generation_id"] == billed(sandbox)[0]["generationId"]
    )
    assert len(billed(sandbox)) == 1


def test_a_failed_generation_is_bought_again_by_the_next_try_alone(
    task_runner: TaskRunner,
    dag: Any,
    project: dict[str, Any],
    sandbox: Sandbox,
    short_deferrals: None,
    slow: None,
) -> None:
    sandbox.add_fault("fail-generation", error="Worker lost.", times=1)
    operator = restore(dag, project, wait_for_completion=True, deferrable=True)
    deferred = task_runner.run(operator)
    failed = task_runner.resume(operator, fire(deferred), deferred)
    assert "Worker lost." in str(failed.error)
    assert type(failed.error).__name__ == "DiffioGenerationFailedError"
    assert len(billed(sandbox)) == 1
    second = task_runner.run(operator, try_number=2)
    finished = task_runner.resume(operator, fire(second), second)
    assert finished.value["status"] == "complete"
    assert len(billed(sandbox)) == 2
    third = task_runner.run(operator, try_number=3)
    assert third.value["generation_id"] == finished.value["generation_id"]
    assert len(billed(sandbox)) == 2


def test_waiting_on_the_worker_gives_the_finished_value(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any]
) -> None:
    value = task_runner.run(restore(dag, project, wait_for_completion=True, deferrable=False)).value
    assert (value["status"], value["transcription"], value["model"]) == (
        "complete",
        "available",
        "diffio-4.6-flash",
    )


def test_a_key_of_ones_own_is_sent_as_it_is(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any], sandbox: Sandbox
) -> None:
    task_runner.run(restore(dag, project, idempotency_key=" order-{{ 40 + 2 }} "))
    assert billed(sandbox)[0]["idempotencyKey"] == "order-42"


def test_another_request_is_another_purchase(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any], sandbox: Sandbox
) -> None:
    task_runner.run(restore(dag, project))
    operator = dag.get_task("restore")
    operator.model = "diffio-4.6-pro"
    task_runner.run(operator, try_number=2)
    assert {entry["model"] for entry in billed(sandbox)} == {"diffio-4.6-flash", "diffio-4.6-pro"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"idempotency_key": "k" * 256}, "1 to 255 characters"),
        ({"idempotency_key": "  "}, "1 to 255 characters"),
        ({"model": "../diffio"}, "no model id"),
        ({"sampling": "fast"}, "sampling must be a mapping"),
        ({"timeout": "1 hour"}, "timeout must be a number"),
        ({"max_poll_interval": 0}, "at least 0.1 seconds"),
        ({"generation_params": {"x": {1, 2}}}, "cannot be sent as JSON"),
    ],
)
def test_bad_input_fails_for_good_before_anything_is_sent(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, options: dict[str, Any], complaint: str
) -> None:
    outcome = task_runner.run(restore(dag, "some-project", **options))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert complaint in str(outcome.error)
    assert sandbox.requests() == []


@pytest.mark.parametrize(("status", "word"), [(401, "API key"), (402, "billing portal"), (403, "permission")])
def test_refusals_burn_no_retries(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any], sandbox: Sandbox, status: int, word: str
) -> None:
    sandbox.add_fault("status", path="*-generation", status=status, body={"error": "No."})
    outcome = task_runner.run(restore(dag, project))
    assert outcome.state == "failed"
    assert word in str(outcome.error)
    assert billed(sandbox) == []


def test_a_retired_model_names_the_models_to_use(
    task_runner: TaskRunner, dag: Any, project: dict[str, Any]
) -> None:
    outcome = task_runner.run(restore(dag, project, model="diffio-3.5"))
    assert outcome.state == "failed"
    assert "diffio-4.6-flash, diffio-4.6-pro" in str(outcome.error)


def test_the_key_depends_on_task_and_request_and_not_on_the_try() -> None:
    options = GenerationOptions("m", {"seed": 1}, {"a": 1, "b": 2})
    task = TaskIdentity("dag", "task", "run", 3, try_number=1)
    key = options.key_for(task, "p", 0)
    assert key == GenerationOptions("m", {"seed": 1}, {"b": 2, "a": 1}).key_for(
        TaskIdentity("dag", "task", "run", 3, try_number=7), "p", 0
    )
    others = [
        options.key_for(task, "p", 1),
        options.key_for(TaskIdentity("dag", "task", "run", 4, 1), "p", 0),
        options.key_for(TaskIdentity("dag", "task", "run2", 3, 1), "p", 0),
        options.key_for(task, "p2", 0),
        options._replace(sampling={"seed": 2}).key_for(task, "p", 0),
    ]
    assert key not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "../outside.mp3"}, "cannot leave its root"),
        ({"download_type": "mp4"}, "download_type must be one of"),
        ({"model": "a b"}, "no model id"),
        ({"overwrite": "maybe"}, "overwrite must be"),
        ({"source": "/nowhere/at/all.wav"}, "all.wav"),
        ({"path": __file__, "overwrite": "error"}, "exists already"),
        ({"project_params": {"x": {1}}}, "cannot be sent as JSON"),
        ({"path": "nosuchscheme://bucket/x"}, "nosuchscheme"),
    ],
)
def test_restore_refuses_bad_input_before_anything_is_sent(
    task_runner: TaskRunner,
    dag: Any,
    recording: Any,
    sandbox: Sandbox,
    options: dict[str, Any],
    complaint: str,
) -> None:
    arguments = {"source": str(recording), "path": "out.mp3", **options}
    outcome = task_runner.run(DiffioRestoreOperator(task_id="restore", dag=dag, **arguments))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert complaint in str(outcome.error)
    assert sandbox.requests() == []
