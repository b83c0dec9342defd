"""
Several API server processes that register the same deliveries at once, on the database of the environment.

    python -m tests.plugins.api_server_processes <deliveries> <threads of a process> ...

Prints one line of JSON: what became of the deliveries in each process, and what is stored in the end. The
processes are forks of one that has imported Airflow, which takes longer than all the rest.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TYPES = ("generation.completed", "generation.failed")
#: DAGs on both assets, so that there are several queue entries to lock.
DAGS = ("a_both", "b_completed", "c_both")


#: Share of transactions that end before they are committed, as with a process that is killed.
KILLED = 0.2


class KilledError(Exception):
    """A process of the API server ends in the middle of a transaction."""


def make_tables() -> None:
    """Make Airflow's tables, with both assets and DAGs on them."""
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.asset import AssetActive, AssetModel, DagScheduleAssetReference
    from airflow.models.base import Base
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    from airflow_provider_diffio.assets import asset_uri

    import_all_models()
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add(DagBundleModel(name="tests"))
        session.flush()
        session.add_all(DagModel(dag_id=dag_id, bundle_name="tests", is_paused=False) for dag_id in DAGS)
        session.flush()
        for kind in reversed(TYPES):
            uri = asset_uri("diffio_default", kind)
            asset = AssetModel(name=uri, uri=uri, group="asset")
            session.add(asset)
            session.flush()
            session.add(AssetActive.for_asset(asset))
            used_by = [dag_id for dag_id in DAGS if "both" in dag_id or kind == TYPES[0]]
            session.add_all(DagScheduleAssetReference(asset_id=asset.id, dag_id=dag_id) for dag_id in used_by)


def text(randomly: random.Random) -> str:
    """A text that no database should get as it is."""
    parts = [
        "\ud83d",
        "\udc00",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\r",
        "\x85",
        "ä",
        "🙂",
        "\ufffe",
        "x" * 5000,
        "'\"\\",
    ]
    return "".join(randomly.choices(parts, k=6))


def deliver(number: int, deliveries: int, threads: int) -> dict[str, Any]:
    """Register deliveries of both types; each has the same ids as in the other processes."""
    from airflow_provider_diffio.api.json_fields import JSONFields
    from airflow_provider_diffio.api.models import WebhookEvent
    from airflow_provider_diffio.plugins import deliveries as module
    from airflow_provider_diffio.plugins.deliveries import Deliveries

    registry = Deliveries()
    randomly = random.Random(number)  # noqa: S311 - the order of a test
    queue_stale = module._queue_stale

    def queue_stale_or_die(session: Any, asset_id: int) -> None:
        queue_stale(session, asset_id)
        session.flush()
        if randomly.random() < KILLED:
            # The transaction stays open for a moment, and is rolled back.
            time.sleep(0.02)
            raise KilledError

    module._queue_stale = queue_stale_or_die
    ids = list(range(deliveries))
    randomly.shuffle(ids)

    def register(each: int) -> str:
        dirty = text(random.Random(each))  # noqa: S311 - the same in every process
        body = {
            "eventType": TYPES[each % 2],
            "eventId": f"evt_{each}",
            "createdAt": "2026-01-01T00:00:00Z",
            "apiKeyId": "key",
            "apiProjectId": f"project {dirty}",
            "generationId": f"gen_{each} {dirty}",
            "modelKey": dirty,
            "status": dirty,
            "error": dirty,
            "transcription": {"status": dirty},
        }
        event = WebhookEvent.read(JSONFields(body, "the webhook"), f"msg_{each}")
        try:
            while True:
                with contextlib.suppress(KilledError):
                    return registry.register("diffio_default", event)
        except Exception as error:
            return f"{type(error).__name__}: {getattr(error, 'orig', error)}"

    with ThreadPoolExecutor(threads) as pool:
        return dict(Counter(pool.map(register, ids)))


def schedule(over: Any) -> dict[str, list[str]]:
    """
    Start runs as Airflow's scheduler does until 3.3, and return the deliveries that each DAG's runs had.

    It locks the DAG and passes over locked ones, takes queue entries and passes over locked ones, and gives
    the run all events between the time of the last run before it and the time of the latest entry.
    """
    from airflow.models.asset import AssetDagRunQueue, AssetEvent, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    runs: dict[str, list[Any]] = {dag_id: [] for dag_id in DAGS}
    taken: dict[str, list[str]] = {dag_id: [] for dag_id in DAGS}
    while not over.is_set():
        for dag_id in random.sample(DAGS, len(DAGS)):
            with create_session() as session:
                dag = select(DagModel.dag_id).where(DagModel.dag_id == dag_id)
                if session.scalar(dag.with_for_update(skip_locked=True, key_share=True)) is None:
                    continue
                entries = session.scalars(
                    select(AssetDagRunQueue)
                    .where(AssetDagRunQueue.target_dag_id == dag_id)
                    .order_by(AssetDagRunQueue.created_at.desc())
                    .with_for_update(skip_locked=True)
                ).all()
                if not entries:
                    continue
                moment = entries[0].created_at
                before = max((run for run in runs[dag_id] if run < moment), default=None)
                assets = select(DagScheduleAssetReference.asset_id).where(
                    DagScheduleAssetReference.dag_id == dag_id
                )
                events = select(AssetEvent.extra).where(
                    AssetEvent.asset_id.in_(assets), AssetEvent.timestamp <= moment
                )
                if before is not None:
                    events = events.where(AssetEvent.timestamp > before)
                taken[dag_id] += [extra["message_id"] for extra in session.scalars(events)]
                runs[dag_id].append(moment)
                for entry in entries:
                    session.delete(entry)
        # Sometimes busy elsewhere, so that a DAG has entries of both assets; sometimes at once again.
        time.sleep(random.choice((0.0, 0.0, 0.0, 0.05)))  # noqa: S311 - no secret
    return taken


def show() -> dict[str, Any]:
    """Read the events as Airflow does, and what their order is like."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = session.execute(select(AssetEvent.extra, AssetEvent.timestamp).order_by(AssetEvent.id)).all()
    times = [moment for _, moment in events]
    shown = json.dumps([extra for extra, _ in events], ensure_ascii=False)
    shown.encode()
    return {
        "ids": sorted(extra["message_id"] for extra, _ in events),
        "in_order": times == sorted(times),
        "unsafe": sorted(set(shown) & set("\x00\x1b\u202e\r\x85")),
    }


def in_child(function: Any, arguments: tuple[Any, ...], answers: Any) -> None:
    """Call a function with database connections of the process's own."""
    from airflow import settings

    settings.dispose_orm()
    settings.configure_orm()
    answers.put(function(*arguments))


def main(deliveries: int, threads: list[int]) -> dict[str, Any]:
    """Run it all."""
    import airflow_provider_diffio.plugins.deliveries  # noqa: F401 - for the forks

    make_tables()
    forks = multiprocessing.get_context("fork")
    answers, taken, over = forks.Queue(), forks.Queue(), forks.Event()
    scheduler = forks.Process(target=in_child, args=(schedule, (over,), taken), daemon=True)
    scheduler.start()
    servers = [
        forks.Process(target=in_child, args=(deliver, (number, deliveries, count), answers), daemon=True)
        for number, count in enumerate(threads)
    ]
    for server in servers:
        server.start()
    outcomes = [answers.get(timeout=300) for _ in servers]
    time.sleep(1)
    over.set()
    return {"outcomes": outcomes, "taken": taken.get(timeout=60), **show()}


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:]]
    print(json.dumps(main(numbers[0], numbers[1:])))
