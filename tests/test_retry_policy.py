"""What a failed try means for the next one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioConnectionError,
    DiffioError,
    DiffioGenerationTimeoutError,
    DiffioNotReadyError,
    DiffioRateLimitError,
    DiffioServerError,
    DiffioTransferError,
)
from airflow_provider_diffio.operators import DiffioCreateProjectOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import OUTAGES, RETRY_POLICY, needs
from tests.task_runner import TaskRunner

pytestmark = needs(RETRY_POLICY)

OUTAGE_ERRORS = [
    DiffioConnectionError("no network"),
    DiffioServerError("down", status_code=503),
    DiffioRateLimitError("too many"),
]


def decide(error: BaseException) -> Any:
    from airflow_provider_diffio.retry_policy import DiffioRetryPolicy

    return DiffioRetryPolicy().evaluate(error, 1, 3)


def test_a_final_error_ends_the_retries() -> None:
    assert decide(DiffioAuthenticationError("wrong key")).action.value == "fail"


@pytest.mark.parametrize("error", [ValueError("not ours"), DiffioError("ours, and nothing is known")])
def test_other_errors_are_airflows_business(error: Exception) -> None:
    assert decide(error).action.value == "default"


@needs(OUTAGES)
@pytest.mark.parametrize("error", OUTAGE_ERRORS)
def test_an_outage_uses_up_no_retry_for_a_day(error: DiffioError) -> None:
    decision = decide(error)
    assert (decision.action.value, decision.retry_delay) == ("reschedule", None)
    assert decision.reschedule_timeout == timedelta(days=1)
    error.retry_after = 30.0
    try:
        assert decide(error).retry_delay == timedelta(seconds=30)
    finally:
        error.retry_after = None


@needs(OUTAGES)
def test_an_outage_is_found_below_what_it_caused() -> None:
    outer = RuntimeError("in user code")
    outer.__cause__ = DiffioConnectionError("no network")
    assert decide(outer).action.value == "reschedule"


@pytest.mark.parametrize(
    "error", [DiffioGenerationTimeoutError("late"), DiffioTransferError("cut"), DiffioNotReadyError("soon")]
)
def test_what_passes_but_is_no_outage_uses_up_retries(error: DiffioError) -> None:
    assert decide(error).action.value == "default"


@pytest.mark.skipif(OUTAGES.here, reason="about Airflow 3.3")
@pytest.mark.parametrize("error", OUTAGE_ERRORS)
def test_before_airflow_3_4_an_outage_uses_up_retries(error: DiffioError) -> None:
    assert decide(error).action.value == "default"


@needs(OUTAGES)
def test_airflow_runs_the_task_again_in_the_same_try(
    task_runner: TaskRunner, dag: Any, recording: Path, sandbox: Sandbox
) -> None:
    sandbox.add_fault("status", path="*create_project", status=429, headers={"Retry-After": "600"}, times=1)
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert task_runner.run(upload).state == "up_for_reschedule"
    assert task_runner.run(upload).state == "success"
