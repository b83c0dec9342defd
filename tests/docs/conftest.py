"""A workshop for each page: Airflow with a database, the sandbox, S3, and recordings."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.docs.blocks import ROOT
from tests.docs.workshop import AIRFLOW_3, Workshop, hurry, keep_api
from tests.s3 import s3_server

RECORDINGS = ("interview.wav", "monday.wav", "tonight.wav", "tuesday.wav", "wednesday.wav")
BUCKETS = ("raw", "restored")


@pytest.fixture(scope="session")
def airflow_database() -> None:
    from airflow.utils.db import initdb

    if AIRFLOW_3:
        initdb()
    else:
        initdb(load_connections=False)


@pytest.fixture(scope="session")
def diffio() -> Iterator[Sandbox]:
    with Sandbox(processing_seconds=0.2, engine="passthrough") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def recording() -> bytes:
    return (ROOT / "example_dags" / "recordings" / "noisy_speech.wav").read_bytes()


@pytest.fixture(scope="session")
def s3(recording: bytes) -> Iterator[dict[str, Any]]:
    """A connection to an S3 server with the recordings in ``raw``."""
    import boto3

    with s3_server() as url:
        keys = {
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
            "region_name": "us-east-1",
        }
        client = boto3.client("s3", endpoint_url=url, **keys)
        for bucket in BUCKETS:
            client.create_bucket(Bucket=bucket)
        for name in RECORDINGS:
            client.put_object(Bucket="raw", Key=name, Body=recording)
        extra = {"endpoint_url": url, "region_name": "us-east-1"}
        yield {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}


@pytest.fixture
def workshop(
    airflow_database: None,
    diffio: Sandbox,
    recording: bytes,
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Workshop]:
    """A workshop with the connection that most pages take for granted."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        monkeypatch.delenv(name)
    hurry(monkeypatch)
    keep_api(monkeypatch)
    folder = tmp_path / "reader"
    recordings = folder / "data" / "recordings"
    recordings.mkdir(parents=True)
    an_hour_ago = time.time() - 3600
    for name in RECORDINGS:
        (recordings / name).write_bytes(recording)
        os.utime(recordings / name, (an_hour_ago, an_hour_ago))
    before = dict(os.environ)
    extra = {"output_path": str(folder / "data" / "restored")}
    os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = json.dumps({**diffio.connection, "extra": extra})
    if "s3://" in page.read_text():
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(request.getfixturevalue("s3"))
    # A reader's airflow.cfg has one; Airflow 3.2 does not make it up for dag.test().
    os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "not a secret, and long enough for a signature of 512 bits"
    dags = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    (dags / "recordings").mkdir(parents=True)
    (dags / "recordings" / "noisy_speech.wav").write_bytes(recording)
    monkeypatch.chdir(folder)
    diffio.clear()
    _forget_closed_streams()
    yield Workshop(folder, dags, diffio, lambda: "".join(capfd.readouterr()))
    os.environ.clear()
    os.environ.update(before)
    diffio.clear()
    shutil.rmtree(dags)
    _forget_what_commands_stored()


def _forget_what_commands_stored() -> None:
    from airflow.models import Connection, Pool
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Connection))
        session.execute(delete(Pool).where(Pool.pool != Pool.DEFAULT_POOL_NAME))


def _forget_closed_streams() -> None:
    """Airflow 2 gives loggers the standard output of the test in which they are first used, for ever."""
    for logger in list(logging.root.manager.loggerDict.values()):
        for handler in list(getattr(logger, "handlers", ())):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)  # type: ignore[union-attr]
