"""The operators that set webhooks up and try them, on the task runner."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_diffio.operators import (
    DiffioConfigureWebhookOperator,
    DiffioSendWebhookTestEventOperator,
)
from airflow_provider_diffio.sandbox import Sandbox
from tests.task_runner import TaskRunner

URL = "https://airflow.example.com/diffio/webhooks/diffio_default"


def configure(dag: Any, **arguments: Any) -> DiffioConfigureWebhookOperator:
    return DiffioConfigureWebhookOperator(task_id="configure", dag=dag, **arguments)


def test_it_names_the_endpoint_and_a_retry_leaves_one(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox
) -> None:
    for attempt in (1, 2):
        value = task_runner.run(configure(dag, url=URL) if attempt == 1 else dag.get_task("configure")).value
        assert value["url"] == URL
        assert value["event_types"] == ["generation.completed", "generation.failed"]
        assert value["mode"] == "live"
    (endpoint,) = sandbox.webhooks()["endpoints"]
    assert (endpoint["url"], endpoint["endpointId"]) == (URL, value["endpoint_id"])


def test_the_url_is_airflows_own_when_it_knows_one(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")
    assert task_runner.run(configure(dag)).value["url"] == URL


def test_a_path_prefix_of_airflow_is_part_of_the_url(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/data/airflow/")
    expected = "https://airflow.example.com/data/airflow/diffio/webhooks/diffio_default"
    assert task_runner.run(configure(dag)).value["url"] == expected


@pytest.mark.parametrize("conn_id", ["dïffio", "a..b", "diffio:eu"])
def test_an_id_that_the_receiver_refuses_is_refused_before_anything_is_sent(
    task_runner: TaskRunner,
    dag: Any,
    connection: dict[str, Any],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    outcome = task_runner.run(configure(dag, diffio_conn_id=conn_id))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "letters, digits, '_', '-' and single dots" in str(outcome.error)
    assert sandbox.requests() == []
    # Somebody else may receive for such a connection.
    elsewhere = DiffioConfigureWebhookOperator(task_id="elsewhere", url=URL, diffio_conn_id=conn_id, dag=dag)
    assert task_runner.run(elsewhere).value["url"] == URL


def test_without_an_https_address_nothing_is_sent(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    outcome = task_runner.run(configure(dag))
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "base_url" in str(outcome.error)
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "arguments", [{"mode": "dry"}, {"event_types": ["generation.done"]}, {"event_types": []}]
)
def test_what_diffio_does_not_know_is_refused_before_it_is_sent(
    task_runner: TaskRunner, dag: Any, sandbox: Sandbox, arguments: dict[str, Any]
) -> None:
    assert (
        type(task_runner.run(configure(dag, url=URL, **arguments)).error).__name__ == "AirflowFailException"
    )
    assert sandbox.requests() == []


def test_a_test_event_is_sent_to_the_endpoints(task_runner: TaskRunner, dag: Any, sandbox: Sandbox) -> None:
    sandbox.add_webhook("http://127.0.0.1:9/nobody")
    send = DiffioSendWebhookTestEventOperator(
        task_id="send", sample_payload={"generationId": "gen_sample"}, dag=dag
    )
    value = task_runner.run(send).value
    assert value["event_type"] == "generation.completed"
    deadline = time.monotonic() + 10
    while not (deliveries := sandbox.webhooks()["deliveries"]):
        assert time.monotonic() < deadline
    assert deliveries[0]["messageId"] == value["svix_message_id"]
    assert deliveries[0]["event"]["eventId"] == value["event_id"]
    assert deliveries[0]["event"]["generationId"] == "gen_sample"
