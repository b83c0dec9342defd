"""
Queueing again what Airflow's scheduler has left behind.

The scheduler reads a DAG's queue, takes the events up to the time it read there, and deletes the queue. An
event that is stored in between is in no run, and nothing is queued for it any more; it would wait for the
next event, which may never come. Airflow 3.3 locks the queue meanwhile, but SQLite knows no such lock. So
some time after the last delivery it is looked whether its asset's DAGs have run for it, or will.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from airflow_provider_diffio._compat import has_partitioned_schedule
from airflow_provider_diffio.assets import asset_uri
from airflow_provider_diffio.plugins.deliveries import lock_assets, now, used_asset

#: Seconds after the last delivery for an asset. A turn of the scheduler is over by then.
DELAY = 10.0

_log = logging.getLogger(__name__)


class Requeue:
    """
    Looks for requeue in the background of the API server's event loop, once after each burst of deliveries.

    :param delay: seconds after the last delivery.
    :param look: queues what was left behind of a connection's events of a type.
    """

    def __init__(self, *, delay: float = DELAY, check: Callable[[str, str], list[str]] | None = None) -> None:
        self._delay = delay
        self._check = check or requeue_missed
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def delivered(self, diffio_conn_id: str, event_type: str) -> None:
        """Look after a while, unless more is delivered until then."""
        key = (diffio_conn_id, event_type)
        if key in self._timers:
            self._timers[key].cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(self._delay, self._begin, key)

    def _begin(self, key: tuple[str, str]) -> None:
        del self._timers[key]
        task = asyncio.create_task(self._requeue_once(*key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _requeue_once(self, diffio_conn_id: str, event_type: str) -> None:
        try:
            dag_ids = await asyncio.to_thread(self._check, diffio_conn_id, event_type)
        except Exception:
            _log.exception("Could not look whether runs took the events of connection %s.", diffio_conn_id)
            return
        for dag_id in dag_ids:
            _log.warning(
                "Airflow had passed over the last delivery on connection %s; DAG %s is queued for it now.",
                diffio_conn_id,
                dag_id,
            )


def requeue_missed(diffio_conn_id: str, event_type: str) -> list[str]:
    """
    Queue the DAGs for which an asset's last event is in no run and in no queue. Blocks; call it in a thread.

    :return: their ids.
    """
    from airflow.models.asset import AssetDagRunQueue, AssetEvent, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import func, select

    with create_session() as session:
        lock_assets(session, diffio_conn_id)
        asset = used_asset(session, asset_uri(diffio_conn_id, event_type))
        if asset is None:
            return []
        last_event = session.scalar(
            select(func.max(AssetEvent.timestamp)).where(AssetEvent.asset_id == asset.id)
        )
        if last_event is None:
            return []
        # A run takes all events up to its own time.
        last_run = (
            select(func.max(DagRun.run_after))
            .where(DagRun.dag_id == DagModel.dag_id, DagRun.run_type == DagRunType.ASSET_TRIGGERED)
            .scalar_subquery()
        )
        queued = select(AssetDagRunQueue.target_dag_id).where(AssetDagRunQueue.asset_id == asset.id)
        dags = session.scalars(
            select(DagModel)
            .join(DagScheduleAssetReference, DagScheduleAssetReference.dag_id == DagModel.dag_id)
            .where(
                DagScheduleAssetReference.asset_id == asset.id,
                DagModel.is_paused.is_(False),
                DagModel.is_stale.is_(False),
                DagModel.dag_id.not_in(queued),
                func.coalesce(last_run, DagScheduleAssetReference.created_at) < last_event,
            )
        )
        # DAGs that are scheduled by partitions have no part in this queue.
        dag_ids = [dag.dag_id for dag in dags if not has_partitioned_schedule(dag)]
        session.add_all(
            AssetDagRunQueue(asset_id=asset.id, target_dag_id=dag_id, created_at=now()) for dag_id in dag_ids
        )
    return dag_ids
