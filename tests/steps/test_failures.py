"""What errors, timeouts and kills mean to Airflow."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import (
    DiffioBillingError,
    DiffioError,
    DiffioRateLimitError,
    DiffioServerError,
)
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateGenerationOperator, DiffioCreateProjectOperator
from airflow_provider_diffio.sandbox import Sandbox
from airflow_provider_diffio.sensors import DiffioGenerationSensor
from airflow_provider_diffio.triggers import DiffioGenerationTrigger
from tests.features import OUTAGES, RETRY_POLICY, needs
from tests.task_runner import AIRFLOW_3, TaskRunner, fire


@needs(RETRY_POLICY)
class TestRetryPolicy:
    def decide(self, error: BaseException) -> Any:
        from airflow_provider_diffio.retry_policy import DiffioRetryPolicy

        return DiffioRetryPolicy().evaluate(error, 1, 3)

    def test_a_final_error_ends_the_retries(self) -> None:
        assert self.decide(DiffioBillingError("No money.")).action.value == "fail"

    def test_the_next_try_waits_as_long_as_diffio_asks(self) -> None:
        decision = self.decide(DiffioRateLimitError("Slow down.", retry_after=77.0))
        assert decision.action.value == ("reschedule" if OUTAGES.here else "retry")
        assert decision.retry_delay == timedelta(seconds=77)

    def test_other_errors_are_airflows_business(self) -> None:
        outage = "reschedule" if OUTAGES.here else "default"
        assert self.decide(DiffioServerError("Away.")).action.value == outage
        assert self.decide(KeyError("x")).action.value == "default"

    def test_an_error_of_ours_is_found_behind_another(self) -> None:
        outer = RuntimeError("task failed")
        outer.__cause__ = DiffioBillingError("No money.")
        assert self.decide(outer).action.value == "fail"

    def test_tasks_have_it_unless_they_name_another(self, dag: Any) -> None:
        from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

        from airflow_provider_diffio.retry_policy import DiffioRetryPolicy

        own = ExceptionRetryPolicy(rules=[])
        upload = DiffioCreateProjectOperator(task_id="a", source="x", dag=dag)
        sensor = DiffioGenerationSensor(task_id="b", generation={}, dag=dag)
        other = DiffioCreateProjectOperator(task_id="c", source="x", retry_policy=own, dag=dag)
        assert isinstance(upload.retry_policy, DiffioRetryPolicy)
        assert isinstance(sensor.retry_policy, DiffioRetryPolicy)
        assert other.retry_policy is own


def test_a_long_retry_after_reaches_airflow(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault(
        "status", path="*create_project", status=429, headers={"Retry-After": "600"}, nth="every"
    )
    outcome = task_runner.run(DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag))
    assert isinstance(outcome.error, DiffioError)
    assert outcome.error.retry_after == 600
    assert len(sandbox.requests()) == 1


def test_execution_timeout_counts_deferred_time_too(
    task_runner: TaskRunner, dag: Any, recording: Path, slow: None, short_deferrals: None
) -> None:
    restore = DiffioCreateGenerationOperator(
        task_id="restore",
        project=DiffioHook().create_project(recording).api_project_id,
        wait_for_completion=True,
        deferrable=True,
        poll_interval=0.1,
        execution_timeout=timedelta(seconds=0.5),
        dag=dag,
    )
    deferred = task_runner.run(restore)
    assert deferred.trigger["deadline"] < time.time() + 1
    outcome = task_runner.resume(restore, fire(deferred), deferred)
    assert type(outcome.error).__name__ == "AirflowTaskTimeout"
    # Airflow 2 ends a task that resumes too late by itself, without asking anybody.
    assert not AIRFLOW_3 or "billed once" in str(outcome.error)


def test_a_refused_upload_permission_is_renewed_once(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    body = {"error": {"code": "token_expired", "message": "Upload token refused"}}
    sandbox.add_fault("status", path="/v1/uploads/parts/*", status=401, body=body, nth=1, times=1)
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert task_runner.run(upload).value["status"] == "uploaded"
    totals = sandbox.ledger()["totals"]
    assert (totals["projects"], totals["projectsWithoutUpload"], totals["openUploads"]) == (2, 1, 0)


def test_an_upload_permission_that_is_refused_again_is_an_error(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("status", path="/v1/uploads/parts/*", status=403, body={"error": {}}, nth="every")
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert "asks for a new permission" in str(task_runner.run(upload).error)
    assert sandbox.ledger()["totals"]["projects"] == 2


def test_a_killed_task_says_what_goes_on(
    dag: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sensor = DiffioGenerationSensor(task_id="wait", generation={}, dag=dag)
    sensor.generation_in_flight = "gen-1"
    with caplog.at_level(logging.WARNING):
        sensor.on_kill()
    # Airflow 3 logs to standard output, Airflow 2 by the standard library.
    logged = caplog.text + capsys.readouterr().out
    assert "gen-1 is being stopped here. Diffio offers no cancel" in logged


def test_a_killed_trigger_says_what_goes_on_and_asks_nothing(
    connection: dict[str, Any],
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trigger = DiffioGenerationTrigger(generation_id="gen-1", started_at=0, deadline=time.time() + 10)
    with caplog.at_level(logging.WARNING):
        asyncio.run(trigger.on_kill())
    assert "billed once" in caplog.text + capsys.readouterr().out
    assert sandbox.requests() == []
