"""Finished generations start DAGs, on a real Airflow with its API server and real signed deliveries."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.e2e.attack import Attempt, Probes, bad_attempts, large_bodies, slow_clients
from tests.e2e.control import open_database
from tests.e2e.events import DAG_ID, EXAMPLES, Events, wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.features import WEBHOOKS, needs
from tests.plugins.signing import event, sign

pytestmark = [pytest.mark.e2e, needs(WEBHOOKS)]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Events]:
    folder = tmp_path_factory.mktemp("events")
    dags = folder / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLES / f"{DAG_ID}.py", dags)
    with (
        start_sandbox_process(processing_seconds=0.5, workers=4) as sandbox,
        pytest.MonkeyPatch.context() as mp,
    ):
        connection = {
            **sandbox.connection,
            "extra": {"output_path": str(folder / "out"), "webhook_secret": sandbox.webhook_secret},
        }
        mp.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(connection))
        env = {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection),
            # Two processes that share nothing but the database, behind one port.
            "AIRFLOW__API__WORKERS": "2",
            # Airflow's own pace, so that what is measured here is what a user gets.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
        }
        with LocalAirflow(folder / "airflow", dags, env=env, paused_at_creation=True) as airflow:
            airflow.wait_dag(DAG_ID)
            airflow.rest("PATCH", f"/dags/{DAG_ID}", {"is_paused": False})
            yield Events(airflow, sandbox, DiffioHook(), folder / "out")


def test_a_finished_generation_is_delivered_and_its_file_is_on_disk(events: Events) -> None:
    events.sandbox.add_webhook(events.receiver)
    (generation_id,) = events.buy()
    wait_until(
        lambda: bool(events.saved().get(generation_id)), 90, lambda: events.airflow.logs_text()[-20_000:]
    )
    (file,) = events.saved()[generation_id]
    assert file.read_bytes() == events.sandbox.result_bytes(generation_id)
    deliveries = events.sandbox.webhooks()["deliveries"]
    assert {delivery["state"] for delivery in deliveries} == {"delivered"}
    assert [delivery["attempts"] for delivery in deliveries] == [[200]] * len(deliveries)
    (made,) = events.asset_events()
    assert made["extra"]["generation_id"] == generation_id
    assert made["extra"]["status"] == "complete"


def test_sent_again_it_starts_nothing(events: Events) -> None:
    before = len(events.asset_events())
    completed = [
        delivery["messageId"]
        for delivery in events.sandbox.webhooks()["deliveries"]
        if delivery["event"]["eventType"] == "generation.completed"
    ]
    for _ in range(8):
        events.sandbox.resend_webhook(completed[0])
    wait_until(
        lambda: len([d for d in events.sandbox.webhooks()["deliveries"] if d["attempts"] == [200]]) >= 8,
        30,
        lambda: events.sandbox.webhooks(),
    )
    events.airflow.restart("api-server")
    events.sandbox.resend_webhook(completed[0])
    wait_until(
        lambda: events.sandbox.webhooks()["deliveries"][-1]["state"] == "delivered",
        30,
        lambda: events.sandbox.webhooks(),
    )
    assert len(events.asset_events()) == before


def test_a_burst_is_downloaded_to_the_last_one(events: Events) -> None:
    ids = events.buy(12)
    wait_until(
        lambda: all(events.saved().get(generation_id) for generation_id in ids),
        150,
        lambda: (sorted(set(ids) - set(events.saved())), events.runs(), events.asset_events()),
    )
    consumed = [made["extra"]["generation_id"] for made in events.asset_events()]
    assert sorted(consumed) == sorted(set(consumed))


def test_the_time_from_delivery_to_run_start(events: Events, show: Callable[[str, str], None]) -> None:
    """Shown for the README; the only claim here is that the runs come."""
    waits, answers = [], []
    for _ in range(8):
        before = {run["dag_run_id"] for run in events.runs()}
        test_event = sign(event(apiProjectId=None), events.sandbox.webhook_secret)
        sent = dt.datetime.now(dt.UTC)
        answer = requests.post(events.receiver, data=test_event.body, headers=test_event.headers, timeout=15)
        answers.append((dt.datetime.now(dt.UTC) - sent).total_seconds())
        assert answer.json() == {"status": "accepted"}

        def started(before: set[str] = before) -> list[dict[str, Any]]:
            return [run for run in events.runs() if run["dag_run_id"] not in before and run["start_date"]]

        wait_until(lambda: bool(started()), 30, events.runs)
        (run,) = started()
        waits.append((dt.datetime.fromisoformat(run["start_date"]) - sent).total_seconds())
        events.airflow.wait_run(DAG_ID, run["dag_run_id"])
    show(
        "webhooks",
        f"answer: median {statistics.median(answers) * 1000:.0f} ms; delivery to run start:"
        f" median {statistics.median(waits):.2f} s, {min(waits):.2f} to {max(waits):.2f} s",
    )


def test_an_attack_of_two_thousand_requests(events: Events, show: Callable[[str, str], None]) -> None:
    """50 clients at once; good ones among them, each sent twice. The API server answers all the while."""
    airflow = events.airflow
    airflow.rest("PATCH", f"/dags/{DAG_ID}", {"is_paused": True})
    good = [sign(event(), events.sandbox.webhook_secret) for _ in range(300)]
    requests_ = [Attempt(events.receiver, delivery, {200}) for delivery in good for _ in range(2)]
    requests_ += bad_attempts(events.receiver, events.sandbox.webhook_secret, good, 2000 - len(requests_))
    random.Random(5).shuffle(requests_)  # noqa: S311 - an order, no secret

    probes = Probes(f"{airflow.url}/api/v2/monitor/health")
    began = time.monotonic()
    with slow_clients(events.receiver, 10), large_bodies(events.receiver) as large, probes:
        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(Attempt.send, requests_))
        took = time.monotonic() - began
    wrong = [answer for answer in answers if answer.problem]
    show(
        "webhooks",
        f"2,000 requests of 50 clients in {took:.0f} s;"
        f" statuses {dict(Counter(answer.status for answer in answers))};"
        f" health answered {len(probes.seconds)} times, median {statistics.median(probes.seconds):.2f} s,"
        f" at most {max(probes.seconds):.2f} s; 100 MB bodies: {large}",
    )
    assert wrong == []
    assert probes.failures == []
    assert set(large) <= {413, 0}

    with contextlib.closing(open_database(airflow.database)) as database:
        rows = [json.loads(row["extra"]) for row in database.execute("SELECT extra FROM asset_event")]
    made = Counter(row["message_id"] for row in rows)
    assert set(made.values()) == {1}
    assert {delivery.message_id for delivery in good} <= set(made)
    assert not [row for row in rows if row["generation_id"] == "forged"]
