"""The receiver on a real HTTP server, with Airflow's real models in a database of the test's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from tests.plugins.signing import Delivery, secret_of

SECRET, OLD_SECRET, FOREIGN = secret_of("current"), secret_of("old"), secret_of("someone else's")


class ReceiverServer:
    """A uvicorn in a thread, as in Airflow's API server; no Airflow around it."""

    def __init__(self) -> None:
        import uvicorn

        from airflow_provider_diffio.plugins.diffio import DiffioPlugin

        (mount,) = DiffioPlugin().fastapi_apps
        self.app = _mounted(mount)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.session = requests.Session()
        self.session.trust_env = False

    def url(self, conn_id: str = "diffio_default") -> str:
        return f"http://127.0.0.1:{self.port}/diffio/webhooks/{conn_id}"

    def post(
        self,
        delivery: Delivery,
        *,
        conn_id: str = "diffio_default",
        changed: Mapping[str, str | None] | None = None,
    ) -> requests.Response:
        """Send a delivery; headers that are ``changed`` to None are left out."""
        headers = {**delivery.headers, **(changed or {})}
        return self.session.post(self.url(conn_id), data=delivery.body, headers=headers, timeout=30)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


def _mounted(mount: dict[str, Any]) -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.mount(mount["url_prefix"], mount["app"], name=mount["name"])
    return app


@pytest.fixture(scope="session")
def tables() -> None:
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    assert settings.engine is not None
    Base.metadata.create_all(settings.engine)


@pytest.fixture(scope="session")
def assets(tables: None) -> dict[str, int]:
    """Both assets of ``diffio_default``, used by a DAG each, and by none that other tests left behind."""
    from airflow.models.asset import (
        AssetActive,
        AssetDagRunQueue,
        AssetEvent,
        AssetModel,
        DagScheduleAssetReference,
    )
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    from airflow_provider_diffio.assets import STATUS_OF_EVENT, asset_uri

    ids = {}
    with create_session() as session:
        for table in (AssetDagRunQueue, AssetEvent, DagScheduleAssetReference, AssetActive, AssetModel):
            session.execute(delete(table))
        session.add(DagBundleModel(name="tests"))
        session.flush()
        for kind in STATUS_OF_EVENT:
            uri = asset_uri("diffio_default", kind)
            asset = AssetModel(name=uri, uri=uri, group="asset")
            session.add_all(
                [asset, DagModel(dag_id=kind, bundle_name="tests", is_paused=False, is_stale=False)]
            )
            session.flush()
            session.add(AssetActive.for_asset(asset))
            session.add(DagScheduleAssetReference(asset_id=asset.id, dag_id=kind))
            ids[kind] = asset.id
    return ids


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_connection(conn_id: str, conn_type: str = "diffio", **extra: Any) -> None:
        fields = {"conn_type": conn_type, "password": "diffio_live_key", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    set_connection("diffio_default", webhook_secret=f"{SECRET}, {OLD_SECRET}")
    set_connection("other", webhook_secret=FOREIGN)
    set_connection("no_secret")
    set_connection("another_type", "http", webhook_secret=SECRET)
    set_connection("quoted", webhook_secret=f'"{SECRET}"')
    set_connection("broken", webhook_secret="whsec_")
    set_connection("wrong", webhook_secret=SECRET, timeout="soon")


@pytest.fixture
def server(assets: dict[str, int]) -> Iterator[ReceiverServer]:
    receiver = ReceiverServer()
    yield receiver
    receiver.stop()


@pytest.fixture
def recorded(assets: dict[str, int]) -> Iterator[Any]:
    """What asset events there are, as a function."""
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    def read() -> list[dict[str, Any]]:
        with create_session() as session:
            return list(session.scalars(select(AssetEvent.extra).order_by(AssetEvent.id)))

    yield read
    with create_session() as session:
        session.execute(delete(AssetEvent))
        session.execute(delete(AssetDagRunQueue))
