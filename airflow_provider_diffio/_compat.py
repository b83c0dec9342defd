"""
What differs between the versions of Airflow: every "if this Airflow has it" of the package.

Each function asks for the thing itself rather than for a version, and imports inside its body, so that a DAG
file pays for nothing that it does not use. The rest of the package calls these functions and never imports
``airflow.sdk``.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

#: Names of this module that are Airflow's own, imported when somebody asks for them (Airflow 3.3 and later).
_AIRFLOW_NAMES = {
    "RetryDecision": "airflow.sdk.definitions.retry_policy",
    "RetryPolicy": "airflow.sdk.definitions.retry_policy",
}


def __getattr__(name: str) -> Any:
    """
    Import a name of Airflow that not every version has.

    :raises ImportError: when this Airflow lacks it.
    """
    if name not in _AIRFLOW_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_AIRFLOW_NAMES[name]), name)


def task_state_store(context: Mapping[str, Any]) -> Any | None:
    """
    Return the store that keeps a task's records over its tries (Airflow 3.3 and later).

    :param context: the task's context.
    :return: Airflow's accessor, with ``get`` and ``set``; None on older versions.
    """
    return context.get("task_state_store")


def store_task_state(store: Any, key: str, record: Mapping[str, Any]) -> None:
    """
    Store a record of a task that never expires.

    :param store: what :func:`task_state_store` returned.
    :param key: the record's name.
    :param record: plain JSON.
    :raises Exception: whatever Airflow raises when it cannot store the record.
    """
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    store.set(key, dict(record), retention=NEVER_EXPIRE)


def accepts_retry_policy(task: Any) -> bool:
    """
    Return whether a task can have a retry policy and its user chose none (Airflow 3.3 and later).

    :param task: an operator or sensor whose base class has been initialised.
    """
    return getattr(task, "retry_policy", ...) is None


def never_fail(sensor: Any) -> bool:
    """
    Return whether a sensor's user asked for *skipped* in place of every failure (``never_fail``).

    :param sensor: the sensor.
    """
    return bool(getattr(sensor, "never_fail", False))


def make_asset_watcher(name: str, trigger: Any) -> Any:
    """
    Return Airflow's ``AssetWatcher`` (Airflow 3).

    :param name: the watcher's name.
    :param trigger: an event trigger.
    :raises RuntimeError: on Airflow 2, which has no watchers.
    """
    try:
        from airflow.sdk import AssetWatcher
    except ImportError:
        raise RuntimeError("Watching for finished generations needs Airflow 3.") from None
    return AssetWatcher(name=name, trigger=trigger)


def asset_references() -> tuple[type, ...]:
    """Return the classes of what ``Asset.ref()`` returns (Airflow 3)."""
    try:
        from airflow.sdk.definitions.asset import AssetNameRef, AssetUriRef
    except ImportError:  # Airflow 2
        return ()
    return (AssetNameRef, AssetUriRef)


def open_filesystem(scheme: str, conn_id: str | None) -> Any:
    """
    Return fsspec's filesystem of a scheme, with the credentials of a connection.

    :param scheme: such as ``s3``.
    :param conn_id: id of an Airflow connection; None for the provider's default.
    :raises ImportError: when a library that the store needs is not installed.
    :raises ValueError: when no installed provider serves the scheme.
    """
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach
    return attach(scheme, conn_id).fs


def filesystem_factories() -> tuple[Any, Any]:
    """Return Airflow's ``get_fs`` and ``has_fs``, which make a filesystem, and tell whether one is served."""
    try:
        from airflow.sdk.io import get_fs, has_fs
    except ImportError:  # Airflow 2
        from airflow.io import get_fs, has_fs
    return get_fs, has_fs


async def find_connection(conn_id: str) -> Any:
    """
    Read an Airflow connection on an event loop without blocking it.

    :param conn_id: the connection's id.
    :raises AirflowNotFoundException: when the connection does not exist.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        # Under dag.test() of Airflow 3 the asynchronous look-up does not find connections that exist. The
        # synchronous one finds them, and fails too for a connection that is really missing.
        return await asyncio.to_thread(BaseHook.get_connection, conn_id)


def event_trigger_arguments(queue: str | None) -> dict[str, Any]:
    """
    Return the arguments for the constructor of ``BaseEventTrigger``.

    :param queue: the triggerer queue that runs the trigger; None for none.
    :raises RuntimeError: when a queue is given and this Airflow's event triggers have none (before 3.4).
    """
    if queue is None:
        return {}
    from airflow.providers.common.compat.triggers import BaseEventTrigger

    if "queue" not in inspect.signature(BaseEventTrigger.__init__).parameters:
        raise RuntimeError("A queue for an event trigger needs Airflow 3.4.")
    return {"queue": queue}


def batch_asset_events(schedule: Any) -> Any:
    """
    Return a schedule with which one DAG run takes all asset events since the last one, on every Airflow.

    :param schedule: an asset, or assets joined by ``|`` or ``&``.
    :return: the schedule itself before Airflow 3.4, which always batches; a timetable from then on.
    """
    try:
        sdk = importlib.import_module("airflow.sdk")
    except ImportError:  # Airflow 2
        return schedule
    timetable = getattr(sdk, "AssetTriggeredTimetable", None)
    return schedule if timetable is None else timetable(schedule, batch_asset_events=True)


def reschedule_decision(delay: timedelta | None, within: timedelta, reason: str) -> Any | None:
    """
    Return a retry policy's decision to run the task again without using a retry (Airflow 3.4 and later).

    :param delay: time until then; None for the task's own ``retry_delay``.
    :param within: time after the try's first reschedule from which on it uses retries again.
    :param reason: for the log.
    :return: the decision; None on versions that cannot do this.
    """
    from airflow.sdk.definitions.retry_policy import RetryDecision

    if not hasattr(RetryDecision, "reschedule"):
        return None
    return RetryDecision.reschedule(delay, reschedule_timeout=within, reason=reason)


async def load_asset_state(trigger: Any, key: str) -> Any:
    """
    Read what an event trigger stored with its asset (Airflow 3.3 and later).

    :param trigger: the trigger.
    :param key: the record's name.
    :return: plain JSON; None when nothing is stored, or this Airflow stores nothing.
    """
    store = _asset_state_store(trigger)
    if store is None:
        return None
    if hasattr(store, "aget"):
        return await store.aget(key)
    return await asyncio.to_thread(store.get, key)  # 3.3.0 and 3.3.1 have the blocking method alone


async def save_asset_state(trigger: Any, key: str, state: Any) -> None:
    """
    Store something with an event trigger's asset; does nothing before Airflow 3.3.

    :param trigger: the trigger.
    :param key: the record's name.
    :param state: plain JSON.
    :raises Exception: whatever Airflow raises when it cannot store the record.
    """
    store = _asset_state_store(trigger)
    if store is None:
        return
    if hasattr(store, "aset"):
        await store.aset(key, state)
    else:
        await asyncio.to_thread(store.set, key, state)


def _asset_state_store(trigger: Any) -> Any | None:
    accessors = getattr(trigger, "asset_state_store", None)
    # A trigger that was made by hand can serve several assets; the first one by name holds the state.
    stores = {**getattr(accessors, "_by_name", {}), **getattr(accessors, "_by_uri", {})}
    return stores[min(stores)] if stores else None


def can_resume_deferred_tasks() -> bool:
    """Return whether Airflow has what ``plugins.wakeup`` needs to resume a deferred task (3.2 and later)."""
    try:
        # Its parents are packages; Airflow 2 lacks both the module and the plain JSON that it decodes.
        return importlib.util.find_spec("airflow.serialization.decoders") is not None
    except ImportError:
        return False


def queues_each_asset_event() -> bool:
    """
    Return whether Airflow's queue of DAG runs has an entry for each asset event (3.4 and later).

    Before, it has one entry for each asset and DAG. Call it on the API server only: it imports the models.
    """
    from airflow.models.asset import AssetDagRunQueue

    return hasattr(AssetDagRunQueue, "asset_event_id")


def has_partitioned_schedule(dag: Any) -> bool:
    """
    Return whether a DAG is scheduled by partitions, which have a queue of their own (Airflow 3.2 and later).

    :param dag: a row of Airflow's table of DAGs.
    """
    return bool(getattr(dag, "timetable_partitioned", False))


def decoded_trigger_arguments(trigger: Any) -> dict[str, Any]:
    """
    Return the arguments of a stored trigger as they were given to it.

    :param trigger: a row of Airflow's table of triggers.
    """
    from airflow.serialization.decoders import smart_decode_trigger_kwargs

    return {name: smart_decode_trigger_kwargs(value) for name, value in dict(trigger.kwargs).items()}


def use_metastore() -> None:
    """
    Let this process, which is a command of an administrator, find the connections in Airflow's database.

    Airflow 3 lets only its servers, and commands such as ``airflow connections``, read them there.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow 2 logs each connection that it reads to standard output, where the command's result goes.
    logging.getLogger("airflow.hooks.base").setLevel(logging.WARNING)


def triggerer_capacity() -> int:
    """Return how many triggers one triggerer carries, by Airflow's configuration."""
    from airflow.providers.common.compat.sdk import conf

    # Airflow 2 has another name for it.
    other = conf.getint("triggerer", "default_capacity", fallback=1000)
    return int(conf.getint("triggerer", "capacity", fallback=other))


def has_api_server() -> bool:
    """Return whether Airflow has the API server that plugins add apps to (Airflow 3)."""
    return importlib.util.find_spec("airflow.api_fastapi") is not None
