"""A store of every kind: the local disk, a real S3 server on loopback, and deficient filesystems."""

from __future__ import annotations

import os
import tempfile

# Before anything imports Airflow, which reads its settings once.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="diffio-storage-tests-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_diffio.storage import Location, resolve
from tests.s3 import s3_server
from tests.storage.stores import CuttingFileSystem, LooseFileSystem, StubbornFileSystem

Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Define an Airflow connection for the duration of a test; gives its id."""

    def define(conn_type: str, *, conn_id: str | None = None, **fields: Any) -> str:
        name = conn_id or f"{conn_type}_{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": conn_type, **fields}))
        return name

    return define


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server that speaks HTTP on loopback."""
    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_connection(s3_endpoint: str) -> dict[str, Any]:
    """The fields of an ``aws`` connection to the S3 server."""
    return {
        "login": "testing",
        "password": "testing",
        "extra": {"endpoint_url": s3_endpoint, "region_name": "us-east-1"},
    }


@pytest.fixture
def s3_conn_id(connect: Connect, s3_connection: dict[str, Any]) -> str:
    """An Airflow connection to the S3 server."""
    return connect("aws", conn_id="storage_tests_s3", **s3_connection)


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    """boto3, to look at the S3 server past the code under test."""
    return pytest.importorskip("boto3").client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def bucket(s3_client: Any) -> str:
    """A bucket of the test's own."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_root(s3_conn_id: str, bucket: str) -> Location:
    """A directory in the test's bucket."""
    return resolve(f"s3://{s3_conn_id}@{bucket}/dir/")


@pytest.fixture
def loose() -> LooseFileSystem:
    """A filesystem that shows a file while it is written, known to Airflow as ``loose://``."""
    fs = LooseFileSystem()
    _attach(fs)
    return fs


@pytest.fixture
def stubborn() -> StubbornFileSystem:
    """A filesystem that does not rename onto an existing file, known to Airflow as ``stubborn://``."""
    fs = StubbornFileSystem()
    _attach(fs)
    return fs


@pytest.fixture
def cutting() -> None:
    """A filesystem to which a name is a URL, known to Airflow as ``cutting://``."""
    _attach(CuttingFileSystem())


def _attach(fs: LooseFileSystem) -> None:
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach

    fs.store.clear()
    attach(fs.protocol, fs=fs).fs = fs  # the store of an earlier test is kept
