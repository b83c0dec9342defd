"""Account operators, and the guard that lives by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioAccountSettingsOperator, DiffioUsageSummaryOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.task_runner import TaskRunner


def test_usage_counts_what_was_bought(task_runner: TaskRunner, dag: Any, recording: Path) -> None:
    operator = DiffioUsageSummaryOperator(task_id="usage", dag=dag)
    before = task_runner.run(operator).value["total_cents"]
    hook = DiffioHook()
    hook.create_generation(hook.create_project(recording).api_project_id)
    value = task_runner.run(operator).value
    assert value["total_cents"] == before + 1
    assert value["billing"] == dict(hook.get_usage_summary().billing) != {}
    assert value["periods"][0]["model_seconds"] == {"diffio-4.6-flash": 60}


def test_an_unknown_cost_is_not_taken_for_none(task_runner: TaskRunner, dag: Any, sandbox: Sandbox) -> None:
    body = {"usage": {"periods": [{"periodId": "2026-11"}]}}
    sandbox.add_fault("body", path="*usage/summary", body=body)
    outcome = task_runner.run(DiffioUsageSummaryOperator(task_id="usage", dag=dag))
    assert "did not say" in str(outcome.error)


def test_settings_are_plain_json(task_runner: TaskRunner, dag: Any) -> None:
    value = task_runner.run(DiffioAccountSettingsOperator(task_id="account", dag=dag)).value
    assert (value["billing_status"], value["billing_policy"]) == ("active", {"type": "customerStripe"})
    assert isinstance(value["updated_at"], str)


@pytest.mark.parametrize("operator", [DiffioUsageSummaryOperator, DiffioAccountSettingsOperator])
def test_a_key_without_the_scope_fails_for_good(
    task_runner: TaskRunner,
    dag: Any,
    operator: Any,
    monkeypatch: pytest.MonkeyPatch,
    connection: dict[str, Any],
) -> None:
    import json

    scoped = DiffioHook().create_api_key("narrow", ["projects:read"])
    monkeypatch.setenv("AIRFLOW_CONN_NARROW", json.dumps({**connection, "password": scoped.key}))
    outcome = task_runner.run(operator(task_id="ask", diffio_conn_id="narrow", dag=dag))
    assert type(outcome.error).__name__ == "AirflowFailException"
