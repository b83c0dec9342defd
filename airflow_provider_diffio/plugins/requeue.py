"""
Queueing DAGs again that Airflow's scheduler passed over (for Airflow 3.0 to 3.3).

Up to Airflow 3.3, the scheduler reads a DAG's queue entry, takes the events up to the time in it, and deletes
the entry. An event that is stored in between belongs to no run, and nothing is queued for it any more: it
waits for the next event, which may never come. Airflow 3.3 locks the entry meanwhile, but SQLite has no such
lock. So some time after the last delivery, this module checks whether the asset's DAGs ran for it or will
run.

Airflow 3.4 keeps a queue entry for each event (https://github.com/apache/airflow/issues/70972), which removes
the race. There, this module does nothing. It uses Airflow's models, which are no public interface.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from airflow_provider_diffio._compat import has_partitioned_schedule, queues_each_asset_event
from airflow_provider_diffio.assets import asset_uri
from airflow_provider_diffio.plugins.deliveries import known_asset, lock_assets, now

#: Seconds after the last delivery for an asset. One round of the scheduler is over by then.
DELAY = 10.0

log = logging.getLogger(__name__)


class Requeue:
    """
    Checks in the background of the API server's event loop, once after each burst of deliveries.

    :param delay: seconds after the last delivery; 10 by default.
    :param check: queues the DAGs that were passed over, given a connection id and an event type, and returns
        their ids; :func:`requeue_missed` by default.
    """

    def __init__(self, *, delay: float = DELAY, check: Callable[[str, str], list[str]] | None = None) -> None:
        self._delay = delay
        self._check = check or requeue_missed
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def delivered(self, diffio_conn_id: str, event_type: str) -> None:
        """
        Check after the delay; another delivery until then starts the delay anew.

        :param diffio_conn_id: id of the Diffio connection.
        :param event_type: Diffio's event type.
        """
        if queues_each_asset_event():
            return
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
            log.exception("Could not check whether DAGs ran for the events of connection %s.", diffio_conn_id)
            return
        for dag_id in dag_ids:
            log.warning(
                "Airflow passed over the last delivery on connection %s. DAG %s is queued for it now.",
                diffio_conn_id,
                dag_id,
            )


def requeue_missed(diffio_conn_id: str, event_type: str) -> list[str]:
    """
    Queue the DAGs for which an asset's last event is in no run and in no queue. Blocks; call it in a thread.

    :param diffio_conn_id: id of the Diffio connection.
    :param event_type: Diffio's event type.
    :return: the ids of the DAGs.
    """
    from airflow.models.asset import AssetDagRunQueue, AssetEvent, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import func, select

    with create_session() as session:
        lock_assets(session, diffio_conn_id)
        asset = known_asset(session, asset_uri(diffio_conn_id, event_type))
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
        # DAGs that are scheduled by partitions have another queue.
        dag_ids = [dag.dag_id for dag in dags if not has_partitioned_schedule(dag)]
        session.add_all(
            AssetDagRunQueue(asset_id=asset.id, target_dag_id=dag_id, created_at=now()) for dag_id in dag_ids
        )
    return dag_ids
