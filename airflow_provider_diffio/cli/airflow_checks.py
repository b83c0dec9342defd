"""What Airflow itself needs: triggerers, pools, and a receiver for webhooks. Reads Airflow's database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests
from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio import _compat, config
from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioError
from airflow_provider_diffio.api.http_failures import describe_failure
from airflow_provider_diffio.api.webhooks import verify_webhook
from airflow_provider_diffio.assets import receives_webhooks
from airflow_provider_diffio.cli.findings import Finding
from airflow_provider_diffio.hooks.connection import DiffioConnection

_RECEIVER_SECONDS = 2.0
#: A delivery that is nobody's, by which a secret shows whether it is one.
_NO_DELIVERY = {"svix-id": "msg_doctor", "svix-timestamp": "0", "svix-signature": "v1,AAAA"}


def check_airflow() -> Iterator[Finding]:
    """Look at triggerers and pools."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            yield from _check_triggerers(session)
            for pool in session.scalars(select(Pool)):
                yield from _check_pool(pool)
    except SQLAlchemyError as error:
        yield Finding(
            "airflow",
            "unknown",
            f"Airflow's database cannot be read ({type(error).__name__}): triggerers and pools are unknown.",
            "Run doctor where Airflow runs; airflow db check looks at the database.",
        )


def _check_triggerers(session: Any) -> Iterator[Finding]:
    from airflow.jobs.job import Job
    from airflow.models.trigger import Trigger
    from sqlalchemy import func, select

    jobs = session.scalars(select(Job).where(Job.job_type == "TriggererJob", Job.state == "running"))
    alive = sum(bool(job.is_alive()) for job in jobs)
    triggers = session.scalar(select(func.count()).select_from(Trigger)) or 0
    deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
    capacity = alive * _compat.triggerer_capacity()
    if not alive:
        yield Finding(
            "triggerer",
            "problem" if deferrable or triggers else "note",
            "No triggerer runs: "
            + ("deferred tasks wait for ever." if deferrable or triggers else "deferrable tasks would wait."),
            "Start one with: airflow triggerer"
            + ("; or switch off [operators] default_deferrable." if deferrable else "."),
        )
    elif triggers > capacity:
        yield Finding(
            "triggerer",
            "problem",
            f"{triggers} triggers are waiting, and the {alive} triggerers that run carry {capacity}.",
            "Start another triggerer, or raise its capacity: airflow triggerer --capacity N.",
        )
    else:
        yield Finding("triggerer", "ok", f"{alive} run, with {triggers} triggers of {capacity} at most.")


def _check_pool(pool: Any) -> Iterator[Finding]:
    if pool.slots == 0:
        yield Finding(
            "pools",
            "problem",
            f"The pool {pool.pool!r:.80} has no slots: its tasks stay queued for ever.",
            f"airflow pools set {pool.pool} 8 'Uploads and downloads at once'",
        )
    elif pool.include_deferred and pool.pool == "default_pool":
        yield Finding(
            "pools",
            "note",
            f"default_pool counts deferred tasks: {pool.slots} waits at Diffio stop everything else.",
            "Give the tasks a pool of their own.",
        )


def check_webhooks(conn_id: str, connection: DiffioConnection) -> Iterator[Finding]:
    """
    Look at the webhook's secret and its receiver.

    :param conn_id: id of the Diffio connection.
    :param connection: the connection.
    """
    wake_up = conf.getboolean("diffio", "wake_up", fallback=False)
    if wake_up and not config.wake_up_enabled():
        yield Finding(
            "webhooks",
            "problem",
            "[diffio] wake_up is on, and this Airflow cannot do it.",
            "Switch it off, or run Airflow 3.2 or later.",
        )
    if connection.webhook_secret is None:
        if wake_up:
            yield Finding(
                "webhooks",
                "problem",
                "[diffio] wake_up is on, and the connection has no webhook_secret: no delivery is accepted.",
                "Copy the endpoint's signing secret from Diffio's dashboard into the extra webhook_secret.",
            )
        else:
            yield Finding("webhooks", "ok", "The connection has no webhook_secret, so none are received.")
        return
    try:
        verify_webhook(b"{}", _NO_DELIVERY, connection.webhook_secret)
    except DiffioConfigurationError as error:
        yield Finding("webhooks", "problem", error.message, error.advice)
        return
    except DiffioError:
        yield Finding("webhooks", "ok", "The webhook_secret has the form of one.")
    yield _check_receiver(conn_id)


def _check_receiver(conn_id: str) -> Finding:
    if not _compat.has_api_server():
        return Finding(
            "receiver",
            "problem",
            "The connection has a webhook_secret, and this Airflow has no receiver: it needs Airflow 3.",
            "Upgrade Airflow, or receive deliveries in a service of your own by hook.verify_webhook.",
        )
    if not receives_webhooks(conn_id):
        return Finding(
            "receiver",
            "problem",
            f"The receiver refuses the connection id {conn_id!r:.80}.",
            "Name the connection with letters, digits, '_', '-' and single dots.",
        )
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    if not base:
        return Finding(
            "receiver", "unknown", "[api] base_url is not set, so the receiver cannot be asked from here."
        )
    url = f"{base}/diffio/webhooks/{conn_id}"
    try:
        status = requests.get(url, timeout=_RECEIVER_SECONDS, allow_redirects=False).status_code
    except requests.RequestException as error:
        return Finding(
            "receiver",
            "problem",
            f"The API server does not respond at {base}: {describe_failure(error, _RECEIVER_SECONDS)}.",
            "Start it (airflow api-server), or correct [api] base_url.",
        )
    # It takes POST alone, and says so.
    if status == 405:
        return Finding("receiver", "ok", f"It listens at {url}.")
    return Finding(
        "receiver",
        "problem",
        f"There is no receiver at {url}: HTTP {status}.",
        'Install "airflow-provider-diffio[webhooks]" on the API server and restart it; mind a path prefix in'
        " [api] base_url.",
    )
