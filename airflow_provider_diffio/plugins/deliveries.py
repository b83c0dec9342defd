"""
Making an asset event of a delivery, once.

Svix delivers at least once, to whichever API server process the load balancer picks, and goes on after a
restart. What they all share is Airflow's database, so the asset event itself is the memory: it holds the
delivery's id, and the look for that id and the new event are one transaction under a lock on the asset. A
second copy therefore either waits and finds the event, or comes after a rollback and makes it. Nothing
needs a table of its own, and ``airflow db clean`` keeps it bounded.

This works on core models, as Airflow's own endpoint for asset events does; a plugin on the API server may,
but there is no public interface for it.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_diffio.assets import STATUS_OF_EVENT, asset_uri, event_extra

if TYPE_CHECKING:
    from airflow_provider_diffio.api.models import WebhookEvent

#: Svix gives up on a delivery after 28 hours. What someone sends again by hand later than this is wanted.
REMEMBERED = dt.timedelta(days=3)

Outcome = Literal["accepted", "duplicate", "unused", "ignored"]


class Deliveries:
    """
    Registers deliveries as asset events, one after the other.

    :param recent: ids of deliveries that this process remembers without asking the database, so that a
        captured delivery that is sent over and over costs nothing.
    """

    def __init__(self, *, recent: int = 4096) -> None:
        self._size = recent
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        # One at a time: on PostgreSQL they would wait for the asset's lock anyway, each with one of the
        # API server's few database connections in hand; on SQLite they would fail.
        self._turn = threading.Lock()

    def register(self, diffio_conn_id: str, event: WebhookEvent) -> Outcome:
        """
        Make the asset event of a verified delivery, unless there is one. Blocks; call it in a thread.

        :return: ``accepted``; ``duplicate``; ``unused`` when no DAG uses the asset; ``ignored`` when the
            event is not about an end.
        :raises sqlalchemy.exc.SQLAlchemyError: when the database does not take it; nothing was done then.
        """
        if event.event_type not in STATUS_OF_EVENT:
            return "ignored"
        key = (diffio_conn_id, event.message_id)
        with self._turn:
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
    Let nobody else make events of a connection until the transaction ends.

    An UPDATE that changes nothing takes a lock on every database, SQLite included, where SELECT FOR UPDATE
    takes none. Both assets of the connection are locked, since a DAG may be scheduled on both: its events
    have to become visible in the order of their times, or Airflow passes one over.
    """
    from airflow.models.asset import AssetModel
    from sqlalchemy import update

    session.execute(
        update(AssetModel)
        .where(AssetModel.uri.in_([asset_uri(diffio_conn_id, kind) for kind in STATUS_OF_EVENT]))
        .values(group=AssetModel.group)
        .execution_options(synchronize_session=False)
    )


def used_asset(session: Any, uri: str) -> Any:
    """Return the asset that DAGs use, or None. Of those with one URI, at most one is active."""
    from airflow.models.asset import AssetModel
    from sqlalchemy import select

    return session.scalar(select(AssetModel).where(AssetModel.uri == uri, AssetModel.active.has()))


def now() -> dt.datetime:
    """Return the time as Airflow's tables have it."""
    return dt.datetime.now(dt.UTC)


def _register(diffio_conn_id: str, event: WebhookEvent) -> Outcome:
    from airflow.assets.manager import asset_manager
    from airflow.utils.session import create_session

    with create_session() as session:
        lock_assets(session, diffio_conn_id)
        asset = used_asset(session, asset_uri(diffio_conn_id, event.event_type))
        if asset is None:
            return "unused"
        if _is_known(session, asset.id, event.message_id):
            return "duplicate"
        _touch_queue(session, asset.id)
        registered = asset_manager.register_asset_change(
            asset=asset, extra=event_extra(event), session=session
        )
        if registered is None:
            return "unused"
        registered.timestamp = _touch_queue(session, asset.id)
    return "accepted"


def _is_known(session: Any, asset_id: int, message_id: str) -> bool:
    from airflow.models.asset import AssetEvent
    from sqlalchemy import String, cast, select

    # The index on asset and time bounds the look. As text, since databases and Airflow versions differ in
    # how JSON is asked for a key; the few that hold the text are then read properly.
    candidates = session.scalars(
        select(AssetEvent.extra).where(
            AssetEvent.asset_id == asset_id,
            AssetEvent.timestamp > now() - REMEMBERED,
            cast(AssetEvent.extra, String).contains(message_id, autoescape=True),
        )
    )
    return any(extra.get("message_id") == message_id for extra in candidates)


def _touch_queue(session: Any, asset_id: int) -> dt.datetime:
    """
    Date what is queued for the asset's DAGs to now, and return that time.

    The scheduler starts one run with all events up to the time at which the *first* of them was queued. What
    comes in between that and the run, while the scheduler is busy or the DAG's runs are at their limit,
    would be left until some later event. Called before the event is made, it also takes a lock, so that the
    scheduler does not take the queued rows in the meantime; called after it, it covers the event.
    """
    from airflow.models.asset import AssetDagRunQueue
    from sqlalchemy import update

    moment = now()
    session.execute(
        update(AssetDagRunQueue)
        .where(AssetDagRunQueue.asset_id == asset_id)
        .values(created_at=moment)
        .execution_options(synchronize_session=False)
    )
    return moment
