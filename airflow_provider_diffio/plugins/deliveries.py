"""
Turning a verified delivery into an asset event, exactly once.

Svix delivers at least once, to whichever API server process the load balancer picks, and again after a
restart. All processes share Airflow's database, so the asset event itself records the delivery: it holds the
delivery's id. Searching for that id and adding the event are one transaction under a lock. A second copy
either waits for the lock and then finds the event, or comes after a rollback and adds the event. No table of
our own is needed, and ``airflow db clean`` removes old events.

This uses Airflow's models, as Airflow's own endpoint for asset events does. A plugin on the API server may do
so, but Airflow has no public interface for it.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_diffio._compat import has_partitioned_schedule, queues_each_asset_event
from airflow_provider_diffio.assets import STATUS_OF_EVENT, asset_uri, event_extra

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import WebhookEvent

#: Copies of a delivery are recognised for this long. Svix gives up after 28 hours; whatever somebody sends
#: again by hand after three days is meant to count.
DUPLICATE_WINDOW = dt.timedelta(days=3)

Outcome = Literal["accepted", "duplicate", "unused", "ignored"]


class Deliveries:
    """
    Registers deliveries as asset events, one after the other.

    :param recent: number of deliveries that this process recognises without asking the database, so that a
        captured delivery that is sent over and over costs nothing; 4,096 by default.
    """

    def __init__(self, *, recent: int = 4096) -> None:
        self._size = recent
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        # One at a time: on PostgreSQL, each would wait for the asset's lock and hold one of the API server's
        # few database connections meanwhile; on SQLite, they would fail.
        self._one_at_a_time = threading.Lock()

    def register(self, diffio_conn_id: str, event: WebhookEvent) -> Outcome:
        """
        Add the asset event of a verified delivery, unless it exists. Blocks; call it in a thread.

        :param diffio_conn_id: id of the Diffio connection.
        :param event: the delivery's event.
        :return: ``accepted``; ``duplicate``; ``unused`` when Airflow does not know the asset, since no DAG
            has ever used it; ``ignored`` when the event does not say that a generation ended.
        :raises sqlalchemy.exc.SQLAlchemyError: when the database does not accept the event; then nothing has
            been stored.
        """
        if event.event_type not in STATUS_OF_EVENT:
            return "ignored"
        key = (diffio_conn_id, event.message_id)
        with self._one_at_a_time:
            if key in self._recent:
                self._recent.move_to_end(key)
                return "duplicate"
            outcome = _register(diffio_conn_id, event)
            if outcome != "unused":
                self._recent[key] = None
                if len(self._recent) > self._size:
                    self._recent.popitem(last=False)
            return outcome


def lock_assets(session: Any, diffio_conn_id: str) -> None:
    """
    Keep everybody else from adding events of a connection until the transaction ends.

    Both assets of the connection share one lock, since a DAG may be scheduled on both: its events must become
    visible in the order of their times, or Airflow passes one over. The lock is on one row, the asset with
    the lowest id, so that two processes never wait for each other. An UPDATE that changes nothing locks a row
    on every database, SQLite included, where SELECT FOR UPDATE locks nothing.

    :param session: a database session.
    :param diffio_conn_id: id of the Diffio connection.
    """
    from airflow.models.asset import AssetModel
    from sqlalchemy import func, select, update

    uris = [asset_uri(diffio_conn_id, event_type) for event_type in STATUS_OF_EVENT]
    # One statement: a transaction on SQLite that reads before it writes fails when somebody else writes.
    first = select(func.min(AssetModel.id).label("id")).where(AssetModel.uri.in_(uris)).subquery()
    session.execute(
        update(AssetModel)
        .where(AssetModel.id == select(first.c.id).scalar_subquery())
        .values(group=AssetModel.group)
        .execution_options(synchronize_session=False)
    )


def known_asset(session: Any, uri: str) -> Any:
    """
    Return the asset that an event of a URI belongs to, or None when Airflow does not know any.

    Several assets can share a URI, and at most one of them is active. None is active while the only DAG file
    that uses the asset is broken. The event then goes to the asset that DAGs were last scheduled on: its DAGs
    are queued, and run when the file is repaired.

    :param session: a database session.
    :param uri: the asset's URI.
    """
    from airflow.models.asset import AssetModel, DagScheduleAssetReference
    from sqlalchemy import case, exists, select

    # The relationship to the DAGs has another name on Airflow 3.0.
    schedules_dags = exists().where(DagScheduleAssetReference.asset_id == AssetModel.id)
    return session.scalar(
        select(AssetModel)
        .where(AssetModel.uri == uri)
        .order_by(
            case((AssetModel.active.has(), 0), (schedules_dags, 1), else_=2),
            AssetModel.id.desc(),
        )
        .limit(1)
    )


def now() -> dt.datetime:
    """Return the time in the form of Airflow's tables."""
    return dt.datetime.now(dt.UTC)


def _register(diffio_conn_id: str, event: WebhookEvent) -> Outcome:
    from airflow.assets.manager import asset_manager
    from airflow.utils.session import create_session

    with create_session() as session:
        lock_assets(session, diffio_conn_id)
        asset = known_asset(session, asset_uri(diffio_conn_id, event.event_type))
        if asset is None:
            return "unused"
        if _is_stored(session, asset.id, event.message_id):
            return "duplicate"
        _lock_dags(session, asset.id)
        registered = asset_manager.register_asset_change(
            asset=asset, extra=event_extra(event), session=session
        )
        if registered is None:
            return "unused"
        _queue_stale(session, asset.id)
        registered.timestamp = _date_queue(session, asset.id)
    return "accepted"


def _is_stored(session: Any, asset_id: int, message_id: str) -> bool:
    from airflow.models.asset import AssetEvent
    from sqlalchemy import String, cast, select

    # The index on asset and time bounds the search. It compares text, since databases and Airflow versions
    # differ in how they find a key in JSON; the few events that hold the text are then read properly.
    candidates = session.scalars(
        select(AssetEvent.extra).where(
            AssetEvent.asset_id == asset_id,
            AssetEvent.timestamp > now() - DUPLICATE_WINDOW,
            cast(AssetEvent.extra, String).contains(message_id, autoescape=True),
        )
    )
    return any(extra.get("message_id") == message_id for extra in candidates)


def _queue_stale(session: Any, asset_id: int) -> None:
    """
    Queue the asset's DAGs whose file is broken at this moment: they run when it is repaired.

    Airflow does so itself from 3.1 on; 3.0 passes over them, and the event would wait for the next one.
    """
    from airflow.models.asset import AssetDagRunQueue, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    if queues_each_asset_event():
        return
    queued = select(AssetDagRunQueue.target_dag_id).where(AssetDagRunQueue.asset_id == asset_id)
    left_out = session.scalars(
        select(DagModel)
        .join(DagScheduleAssetReference, DagScheduleAssetReference.dag_id == DagModel.dag_id)
        .where(
            DagScheduleAssetReference.asset_id == asset_id,
            DagModel.is_stale.is_(True),
            DagModel.is_paused.is_(False),
            DagModel.dag_id.not_in(queued),
        )
        .order_by(DagModel.dag_id)
    ).all()
    session.add_all(
        AssetDagRunQueue(asset_id=asset_id, target_dag_id=dag.dag_id, created_at=now())
        for dag in left_out
        # DAGs that are scheduled by partitions have another queue.
        if not has_partitioned_schedule(dag)
    )
    session.flush()


def _lock_dags(session: Any, asset_id: int) -> None:
    """
    Keep the scheduler from making a run of the asset's DAGs until the transaction ends (before Airflow 3.4).

    The scheduler leaves out DAGs that are locked. Otherwise it could take a DAG's queue entry before the new
    event is there to see, or one of its entries only: were the other older, and stayed because this
    transaction is rolled back, then a later run would take events again that an earlier one had.
    """
    from airflow.models.asset import AssetDagRunQueue, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from sqlalchemy import or_, select

    if queues_each_asset_event():
        return
    queued = select(AssetDagRunQueue.target_dag_id).where(AssetDagRunQueue.asset_id == asset_id)
    scheduled = select(DagScheduleAssetReference.dag_id).where(DagScheduleAssetReference.asset_id == asset_id)
    # Locked in one order, so that two processes never wait for each other. (SQLite locks nothing here.)
    session.execute(
        select(DagModel.dag_id)
        .where(or_(DagModel.dag_id.in_(queued), DagModel.dag_id.in_(scheduled)))
        .order_by(DagModel.dag_id)
        .with_for_update(key_share=True)
    ).all()


def _date_queue(session: Any, asset_id: int) -> dt.datetime:
    """
    Set the time of all queue entries of the asset's DAGs to now, and return that time.

    Before Airflow 3.4, the scheduler starts one run with all events up to the time at which the *first* of
    them was queued. Events that come in between that time and the run, while the scheduler is busy or the DAG
    has as many runs as it may, would be left until some later event.
    """
    from airflow.models.asset import AssetDagRunQueue
    from sqlalchemy import update

    moment = now()
    if not queues_each_asset_event():
        session.execute(
            update(AssetDagRunQueue)
            .where(AssetDagRunQueue.asset_id == asset_id)
            .values(created_at=moment)
            .execution_options(synchronize_session=False)
        )
    return moment
