"""Finished generations start DAGs where no webhook can reach Airflow, and the triggerer dies in between."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.e2e.events import DAG_ID, EXAMPLES, Events, wait_until
from tests.e2e.local_airflow import LocalAirflow
from tests.features import DURABLE_WATCHER, WATCHER, needs

pytestmark = [pytest.mark.e2e, needs(WATCHER)]

INTERVAL = 10.0

#: Two more DAGs, which only have to watch: one the same asset, one that of failures.
WATCHERS = f"""
from airflow.sdk import DAG
from airflow_provider_diffio.assets import diffio_completed_asset, diffio_failed_asset

with DAG("second", schedule=[diffio_completed_asset(poll_interval={INTERVAL})]):
    pass
with DAG("failures", schedule=[diffio_failed_asset(poll_interval={INTERVAL})]):
    pass
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Events]:
    folder = tmp_path_factory.mktemp("watched")
    dags = folder / "dags"
    dags.mkdir()
    example = (EXAMPLES / f"{DAG_ID}.py").read_text()
    (dags / f"{DAG_ID}.py").write_text(
        example.replace(
            "schedule=[diffio_completed_asset()]",
            f"schedule=[diffio_completed_asset(poll_interval={INTERVAL})]",
        )
    )
    (dags / "watchers.py").write_text(WATCHERS)
    with (
        start_sandbox_process(processing_seconds=0.5, workers=4) as sandbox,
        pytest.MonkeyPatch.context() as patch,
    ):
        connection = {**sandbox.connection, "extra": {"output_path": str(folder / "out")}}
        patch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(connection))
        env = {"AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection)}
        with LocalAirflow(folder / "airflow", dags, env=env) as airflow:
            yield Events(airflow, sandbox, DiffioHook(), folder / "out")


def looks(watched: Events) -> list[dt.datetime]:
    asked = [request for request in watched.sandbox.requests() if request["path"].endswith("list_projects")]
    return [dt.datetime.fromisoformat(request["at"]) for request in asked]


def reported(watched: Events) -> Counter[str]:
    payloads = [event["extra"]["payload"] for event in watched.asset_events() if "completed" in event["uri"]]
    return Counter(
        generation["generation_id"] for payload in payloads for generation in payload["generations"]
    )


def wait_saved(watched: Events, expected: list[str]) -> None:
    """Wait until all are reported and their files saved.

    When an event comes while the scheduler makes a run of the one before, Airflow leaves it to the run after
    the next event; then there is a next one, of one more generation, which is expected, too.
    """
    for _ in range(4):
        wait_until(lambda: set(expected) <= set(reported(watched)), 150, lambda: reported(watched))
        with contextlib.suppress(AssertionError):
            return wait_until(lambda: set(expected) <= set(watched.saved()), 45, watched.runs)
        expected.extend(watched.buy(1))
    unsaved = set(expected) - set(watched.saved())
    raise AssertionError(f"not saved: {unsaved}\n{watched.airflow.logs_text()[-20_000:]}")


@pytest.mark.skipif(DURABLE_WATCHER.here, reason="seen below, with restarts")
def test_what_finishes_is_saved(watched: Events) -> None:
    # Before Airflow 3.3 what had finished before the first look is not reported.
    before = len(looks(watched))
    wait_until(lambda: len(looks(watched)) > before + 2, 90, lambda: watched.airflow.logs_text()[-20_000:])
    expected = watched.buy(3)
    wait_saved(watched, expected)
    counts = reported(watched)
    assert {counts[generation_id] for generation_id in expected} == {1}


@needs(DURABLE_WATCHER)
def test_none_is_missed_and_none_doubled_over_restarts_of_the_triggerer(watched: Events) -> None:
    airflow = watched.airflow
    old = watched.buy(2)
    for generation_id in old:
        watched.hook.wait_for_generation(generation_id, poll_interval=0.5)
    # The watchers run from the moment the DAGs are known; their first look finds these two, or their end.
    before = len(looks(watched))
    wait_until(lambda: len(looks(watched)) >= before + 2, 90, lambda: airflow.logs_text()[-20_000:])
    baseline = reported(watched)
    assert set(baseline) <= set(old)

    expected = watched.buy(3)
    # Killed outright, at some moment between a look and the storing of what it found.
    time.sleep(INTERVAL * 0.7)
    airflow.kill("triggerer", signal.SIGKILL)
    expected += watched.buy(3)
    time.sleep(2)
    airflow.restart("triggerer")
    expected += watched.buy(2)
    wait_saved(watched, expected)

    # And as a deployment does it.
    expected += watched.buy(2)
    airflow.kill("triggerer", signal.SIGTERM)
    time.sleep(3)
    airflow.restart("triggerer")
    expected += watched.buy(2)
    wait_saved(watched, expected)
    after = len(looks(watched))
    wait_until(lambda: len(looks(watched)) >= after + 2, 60, lambda: looks(watched))

    counts = reported(watched)
    assert set(expected) <= set(counts)
    assert set(counts.values()) == {1}, counts
    for generation_id in expected:
        (file,) = watched.saved()[generation_id]
        assert file.read_bytes() == watched.sandbox.result_bytes(generation_id)


@needs(DURABLE_WATCHER)
def test_all_watchers_share_one_look(watched: Events) -> None:
    seen = len(looks(watched))
    wait_until(lambda: len(looks(watched)) >= seen + 4, 90, lambda: looks(watched))
    moments = looks(watched)[seen:]
    pauses = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments)]
    # Two assets in three DAGs: without sharing there would be two looks in each interval.
    assert min(pauses) > INTERVAL / 2
