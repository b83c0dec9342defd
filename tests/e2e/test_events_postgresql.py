"""A burst of deliveries on PostgreSQL: four API server processes are killed, and the database goes away."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.events import wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.features import WEBHOOKS, needs
from tests.plugins.signing import Delivery, event, secret_of, sign
from tests.postgresql import MissingServiceError, PostgreSQL
from tests.texts import texts, unsafe

pytestmark = [pytest.mark.e2e, needs(WEBHOOKS)]

#: How many deliveries come in the burst; ``make burst`` sends 1,000.
DELIVERIES = int(os.environ.get("DIFFIO_BURST", "200"))
SENDERS = 16
PROCESSES = 4
AWAY_SECONDS = 5.0
#: Seconds for what takes half a minute on two idle cores.
PATIENCE = 400.0
SECRET = secret_of("burst")
#: Types of events, and the DAGs that each of them starts.
USED_BY = {"generation.completed": {"completed", "both"}, "generation.failed": {"both"}}

DAGS = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_provider_diffio.assets import diffio_completed_asset, diffio_failed_asset

with DAG("completed", schedule=[diffio_completed_asset()]):
    EmptyOperator(task_id="end")
with DAG("both", schedule=(diffio_completed_asset() | diffio_failed_asset())):
    EmptyOperator(task_id="end")
"""


class Senders:
    """Svix, in a hurry: every delivery is sent until it gets a 2xx, and some are sent once more."""

    def __init__(self, url: str, deliveries: list[Delivery]) -> None:
        self._url = url
        self._deliveries = deliveries
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.answered: set[str] = set()

    def __enter__(self) -> Senders:
        self._pool = ThreadPoolExecutor(SENDERS)
        self._sent = [self._pool.submit(self._deliver, *each) for each in enumerate(self._deliveries)]
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def wait_for(self, share: float, seconds: float = PATIENCE) -> None:
        """Wait until a share of all deliveries has got its 2xx."""
        count = int(len(self._deliveries) * share)
        wait_until(lambda: len(self.answered) >= count, seconds, lambda: (len(self.answered), self.outcomes))

    def check(self) -> None:
        """Raise what a sender raised."""
        for sent in self._sent:
            sent.result()

    def _deliver(self, number: int, delivery: Delivery) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while not (accepted := self._attempt(delivery)):
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.3)
        with self._lock:
            self.answered.add(delivery.message_id)
        if accepted and number % 10 == 0:
            self._attempt(delivery)

    def _attempt(self, delivery: Delivery) -> bool:
        # Svix signs each attempt anew.
        signed = sign(delivery.event, SECRET, message_id=delivery.message_id)
        try:
            answer = requests.post(self._url, data=signed.body, headers=signed.headers, timeout=15)
        except requests.RequestException as error:
            outcome = type(error).__name__
        else:
            outcome = answer.json()["status"] if answer.ok else str(answer.status_code)
        with self._lock:
            self.outcomes[outcome] += 1
        return outcome in ("accepted", "duplicate")


class Burst:
    """An Airflow on PostgreSQL, and what its database holds."""

    def __init__(self, airflow: LocalAirflow, postgresql: PostgreSQL) -> None:
        self.airflow = airflow
        self.postgresql = postgresql

    @property
    def receiver(self) -> str:
        return f"{self.airflow.url}/diffio/webhooks/diffio_default"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        import psycopg2  # type: ignore[import-untyped]

        with contextlib.closing(psycopg2.connect(**self.postgresql.database)) as database:
            cursor = database.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())

    def stored(self) -> Counter[str]:
        """How many events each delivery became."""
        return Counter(extra["message_id"] for (extra,) in self.rows("SELECT extra FROM asset_event"))

    def taken(self) -> Counter[tuple[str, str]]:
        """How many runs of each DAG have each delivery's event."""
        rows = self.rows(
            "SELECT dag_run.dag_id, asset_event.extra FROM dagrun_asset_event"
            " JOIN dag_run ON dag_run.id = dagrun_asset_event.dag_run_id"
            " JOIN asset_event ON asset_event.id = dagrun_asset_event.event_id"
        )
        return Counter((dag_id, extra["message_id"]) for dag_id, extra in rows)

    def shown(self) -> list[dict[str, Any]]:
        """All events, as Airflow's API shows them."""
        events: list[dict[str, Any]] = []
        while page := self.airflow.rest("GET", f"/assets/events?limit=100&offset={len(events)}")[
            "asset_events"
        ]:
            events += page
        return events


@pytest.fixture
def burst(tmp_path: Path) -> Iterator[Burst]:
    pytest.importorskip("psycopg2")
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "burst.py").write_text(DAGS)
    connection = {"conn_type": "diffio", "password": "diffio_live_x", "extra": {"webhook_secret": SECRET}}
    env = {
        "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection),
        "AIRFLOW__API__WORKERS": str(PROCESSES),
    }
    try:
        server = PostgreSQL(tmp_path)
    except MissingServiceError as error:
        pytest.skip(str(error))
    with (
        server,
        LocalAirflow(
            tmp_path / "airflow",
            dags,
            env=env,
            components=("api-server", "scheduler", "dag-processor"),
            database_url=server.database_url,
        ) as airflow,
    ):
        airflow.wait_dag("completed")
        airflow.wait_dag("both")
        yield Burst(airflow, server)


def make_deliveries(count: int) -> list[Delivery]:
    """Deliveries of both types, whose texts are such as no database should get."""
    types = list(USED_BY)
    made = []
    # A delivery has 256 KiB at most, and one of these characters is up to 12 bytes in JSON.
    for number, text in enumerate(texts(count, longest=4000)):
        body = event(
            eventType=types[number % 2],
            error=text,
            modelKey=text,
            status=f"complete {text}",
            apiProjectId=f"proj_{number} {text}",
            transcription={"status": text},
        )
        made.append(sign(body, SECRET, message_id=f"msg_{number}"))
    return made


def test_a_burst_is_stored_once_whatever_dies_meanwhile(
    burst: Burst, show: Callable[[str, str], None]
) -> None:
    airflow, deliveries = burst.airflow, make_deliveries(DELIVERIES)
    began = time.monotonic()
    with Senders(burst.receiver, deliveries) as senders:
        senders.wait_for(0.3)
        # Four processes, each of which imports all of Airflow while it is being asked.
        airflow.restart("api-server", timeout=PATIENCE)
        senders.wait_for(0.6)
        with burst.postgresql.stopped():
            time.sleep(AWAY_SECONDS)
        revived = airflow.revive()
        senders.wait_for(1.0)
        senders.check()
    sent = time.monotonic() - began

    # What got a 2xx is stored, and once.
    assert senders.answered == {delivery.message_id for delivery in deliveries}
    stored = burst.stored()
    assert set(stored) == senders.answered
    assert set(stored.values()) == {1}
    assert set(senders.outcomes) - {"accepted", "duplicate", "503"} <= {
        "ConnectionError",
        "ReadTimeout",
        "ChunkedEncodingError",
    }

    # Every event is in one run of every DAG that is scheduled on its asset.
    expected = {
        (dag_id, delivery.message_id)
        for delivery in deliveries
        for dag_id in USED_BY[delivery.event["eventType"]]
    }

    def all_taken() -> bool:
        revived.extend(airflow.revive())
        return set(burst.taken()) == expected

    wait_until(all_taken, PATIENCE + DELIVERIES, lambda: expected - set(burst.taken()))
    assert set(burst.taken().values()) == {1}

    wait_until(lambda: len(burst.shown()) == DELIVERIES, 30, lambda: len(burst.shown()))
    assert unsafe(json.dumps(burst.shown(), ensure_ascii=False)) == set()
    assert "deadlock detected" not in burst.postgresql.log.read_text()
    ((runs,),) = burst.rows("SELECT count(*) FROM dag_run")
    show(
        "burst",
        f"{DELIVERIES:,} deliveries of {SENDERS} senders to {PROCESSES} API server processes on PostgreSQL,"
        f" the API server killed once and the database away for {AWAY_SECONDS:g} s:"
        f" all stored in {sent:.0f} s, {runs} runs; attempts: {dict(senders.outcomes)}; started again:"
        f" {', '.join(revived) or 'nothing'}",
    )
