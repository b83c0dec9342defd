"""What differs between the versions of Airflow, asked of the one that is installed."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_diffio import _compat
from tests.features import (
    OUTAGES,
    RETRY_POLICY,
    RUN_PER_EVENT,
    STATE_STORE,
    WAKE_UP,
    WATCHER,
    WATCHER_QUEUE,
    WEBHOOKS,
    needs,
)
from tests.subprocess_code import lines_printed_by


class Store:
    """A store of records that answers on the spot, as Airflow's blocking accessors do."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.options: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.records.get(key)

    def set(self, key: str, value: Any, **options: Any) -> None:
        self.records[key] = json.loads(json.dumps(value))
        self.options = options


class AsyncStore(Store):
    """The same with Airflow's asynchronous methods, whose blocking ones must not be called on a loop."""

    async def aget(self, key: str) -> Any:
        return Store.get(self, key)

    async def aset(self, key: str, value: Any) -> None:
        Store.set(self, key, value)

    def get(self, key: str) -> Any:
        raise AssertionError("blocks the loop")

    def set(self, key: str, value: Any, **options: Any) -> None:
        raise AssertionError("blocks the loop")


class Accessors:
    def __init__(self, by_name: dict[str, Any], by_uri: dict[str, Any]) -> None:
        self._by_name = by_name
        self._by_uri = by_uri


class Thing:
    """A task, sensor, trigger or DAG with the attributes that a version of Airflow gives it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def test_a_task_without_a_state_store_has_none() -> None:
    store = Store()
    assert _compat.task_state_store({"task_state_store": store}) is store
    assert _compat.task_state_store({}) is None


@needs(STATE_STORE)
def test_a_task_record_never_expires() -> None:
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    store = Store()
    _compat.store_task_state(store, "diffio_project", {"project_id": "p"})
    assert store.records == {"diffio_project": {"project_id": "p"}}
    assert store.options == {"retention": NEVER_EXPIRE}


def test_a_retry_policy_is_set_only_where_airflow_has_them_and_the_user_chose_none() -> None:
    assert _compat.accepts_retry_policy(Thing(retry_policy=None))
    assert not _compat.accepts_retry_policy(Thing(retry_policy=object()))
    assert not _compat.accepts_retry_policy(Thing())


def test_operators_of_this_airflow_accept_a_retry_policy_where_it_has_them() -> None:
    from airflow.providers.common.compat.sdk import BaseOperator

    assert _compat.accepts_retry_policy(BaseOperator(task_id="task")) is RETRY_POLICY.here


@pytest.mark.parametrize(
    ("attributes", "asked"), [({}, False), ({"never_fail": False}, False), ({"never_fail": True}, True)]
)
def test_a_sensor_of_any_version_says_whether_it_may_fail(attributes: dict[str, Any], asked: bool) -> None:
    assert _compat.never_fail(Thing(**attributes)) is asked


@needs(RETRY_POLICY)
def test_airflows_retry_policy_is_imported_by_name() -> None:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

    assert (_compat.RetryDecision, _compat.RetryPolicy) == (RetryDecision, RetryPolicy)


@pytest.mark.skipif(RETRY_POLICY.here, reason="about older versions")
def test_where_there_are_no_retry_policies_the_import_says_so() -> None:
    with pytest.raises(ImportError):
        from airflow_provider_diffio._compat import RetryPolicy  # noqa: F401


def test_a_name_that_is_not_airflows_is_refused() -> None:
    assert not hasattr(_compat, "no_such_name")


@needs(WATCHER)
def test_a_watcher_has_its_name_and_trigger() -> None:
    from airflow_provider_diffio.triggers import DiffioGenerationEventTrigger

    trigger = DiffioGenerationEventTrigger()
    watcher = _compat.make_asset_watcher("diffio", trigger)
    assert (watcher.name, watcher.trigger) == ("diffio", trigger)


@pytest.mark.skipif(WATCHER.here, reason="about Airflow 2")
def test_on_airflow_2_a_watcher_is_refused() -> None:
    with pytest.raises(RuntimeError, match="needs Airflow 3"):
        _compat.make_asset_watcher("diffio", object())


def test_a_store_that_no_library_serves_is_an_error_of_airflows_kind() -> None:
    assert _compat.open_filesystem("file", None).protocol
    with pytest.raises(ValueError, match="No filesystem registered"):
        _compat.open_filesystem("nosuchscheme", None)


def test_a_connection_is_found_from_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    monkeypatch.setenv("AIRFLOW_CONN_SOME", json.dumps({"conn_type": "diffio", "host": "h"}))
    assert asyncio.run(_compat.find_connection("some")).host == "h"
    with pytest.raises(AirflowNotFoundException):
        asyncio.run(_compat.find_connection("missing"))


@pytest.mark.parametrize("kind", [Store, AsyncStore])
def test_an_asset_state_is_what_was_stored_last(kind: type[Store]) -> None:
    async def go() -> None:
        first, second = kind(), kind()
        trigger = Thing(asset_state_store=Accessors({"b": second}, {"a": first}))
        assert await _compat.load_asset_state(trigger, "key") is None
        await _compat.save_asset_state(trigger, "key", {"horizon": 1.0})
        assert await _compat.load_asset_state(trigger, "key") == {"horizon": 1.0}
        assert (list(first.records), list(second.records)) == (["key"], [])

    asyncio.run(go())


@pytest.mark.parametrize(
    "attributes", [{}, {"asset_state_store": None}, {"asset_state_store": Accessors({}, {})}]
)
def test_without_an_asset_state_store_nothing_is_stored(attributes: dict[str, Any]) -> None:
    async def go() -> None:
        trigger = Thing(**attributes)
        await _compat.save_asset_state(trigger, "key", {})
        assert await _compat.load_asset_state(trigger, "key") is None

    asyncio.run(go())


@needs(WATCHER_QUEUE)
def test_an_event_trigger_has_a_queue() -> None:
    assert _compat.event_trigger_arguments("eu") == {"queue": "eu"}
    assert _compat.event_trigger_arguments(None) == {}


@pytest.mark.skipif(WATCHER_QUEUE.here, reason="about older versions")
def test_where_event_triggers_have_no_queue_a_queue_is_refused() -> None:
    assert _compat.event_trigger_arguments(None) == {}
    with pytest.raises(RuntimeError, match=r"needs Airflow 3\.4"):
        _compat.event_trigger_arguments("eu")


@needs(WEBHOOKS)
def test_each_asset_event_is_queued_where_the_table_says_so() -> None:
    assert _compat.queues_each_asset_event() is RUN_PER_EVENT.here


@needs(RETRY_POLICY)
def test_a_failure_is_rescheduled_where_the_table_says_so() -> None:
    decision = _compat.reschedule_decision(timedelta(seconds=5), timedelta(hours=1), "why")
    assert (decision is not None) is OUTAGES.here
    if decision is not None:
        assert decision.action.value == "reschedule"
        assert (decision.retry_delay, decision.reschedule_timeout) == (
            timedelta(seconds=5),
            timedelta(hours=1),
        )
        assert decision.reason == "why"


def test_deferred_tasks_can_be_resumed_where_the_table_says_so() -> None:
    assert _compat.can_resume_deferred_tasks() is WAKE_UP.here


@needs(WAKE_UP)
def test_the_stored_arguments_of_a_trigger_are_read_back() -> None:
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_diffio.triggers import DiffioGenerationTrigger

    made: BaseTrigger = DiffioGenerationTrigger(generation_id="g", started_at=1.0, deadline=2.0)
    stored = Trigger.from_object(made)
    assert _compat.decoded_trigger_arguments(stored) == made.serialize()[1]


@pytest.mark.parametrize(
    ("attributes", "partitioned"),
    [({}, False), ({"timetable_partitioned": False}, False), ({"timetable_partitioned": True}, True)],
)
def test_a_dag_of_any_version_says_whether_it_runs_by_partitions(
    attributes: dict[str, Any], partitioned: bool
) -> None:
    assert _compat.has_partitioned_schedule(Thing(**attributes)) is partitioned


def test_it_imports_nothing_of_airflow_by_itself() -> None:
    code = """
import sys
import airflow_provider_diffio._compat
print(sorted(name for name in sys.modules if name.partition(".")[0] == "airflow"))
"""
    assert "airflow_provider_diffio._compat" in sys.modules
    assert lines_printed_by(code)[-1] == "[]"
