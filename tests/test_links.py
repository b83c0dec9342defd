"""Links lead to a file's page in its cloud's console, or are not there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_diffio import operators, sensors
from airflow_provider_diffio.get_provider_info import get_provider_info
from airflow_provider_diffio.links import DiffioRecordingLink, DiffioRestoredFileLink
from airflow_provider_diffio.operators import (
    DiffioCreateProjectOperator,
    DiffioDownloadOperator,
    DiffioRestoreOperator,
)
from airflow_provider_diffio.storage import resolve
from airflow_provider_diffio.storage.console_url import console_url
from airflow_provider_diffio.storage.filesystems import FixedStore
from tests.s3 import s3_server
from tests.task_runner import AIRFLOW_3, TaskRunner, fire

CONSOLE = "https://console.aws.amazon.com/s3/object/{bucket}?region=eu-west-1&prefix={key}"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3_url: str) -> str:
    """A bucket in Ireland with the recording ``raw/a b.wav``."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="eu-west-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    name = f"links-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_object(Bucket=name, Key="raw/a b.wav", Body=b"RIFF" + bytes(1000))
    return name


@pytest.fixture
def aws(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ``aws``: to AWS itself, by a proxy, and that is where our requests end."""
    extra = {
        "region_name": "eu-west-1",
        "endpoint_url": "http://s3.eu-west-1.amazonaws.com",
        "service_config": {"s3": {"proxy-uri": s3_url}},
    }
    _connect(monkeypatch, "aws", extra)


def _connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, extra: dict[str, Any]) -> None:
    fields = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def links(task_runner: Any, operator: Any) -> dict[str, str]:
    """What Airflow's UI gets: from the worker's XComs in Airflow 3, from the webserver's operator in 2."""
    if AIRFLOW_3:
        stored = {
            key: value for (task_id, key), value in task_runner.xcoms.items() if task_id == operator.task_id
        }
        # An XCom that says nothing is clutter.
        assert [key for key, value in stored.items() if "link" in key.lower() and not value] == []
        return {link.name: stored.get(link.xcom_key, "") for link in operator.operator_extra_links}
    from airflow.serialization.serialized_objects import SerializedDAG

    dag = SerializedDAG.from_dict(SerializedDAG.to_dict(operator.dag))
    task = dag.get_task(operator.task_id)
    ti = task_runner._dag_run.get_task_instance(operator.task_id)
    return {name: task.get_extra_links(ti, name) for name in task.extra_links}


def test_an_upload_links_to_its_recording(task_runner: TaskRunner, dag: Any, bucket: str, aws: None) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=f"s3://aws@{bucket}/raw/a b.wav", dag=dag)
    assert task_runner.run(upload).state == "success"
    assert links(task_runner, upload) == {"Recording": CONSOLE.format(bucket=bucket, key="raw%2Fa%20b.wav")}


def test_a_restoration_links_to_its_recording_while_it_waits_and_to_both_files_afterwards(
    task_runner: TaskRunner, dag: Any, bucket: str, aws: None, slow: None, short_deferrals: None
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=f"s3://aws@{bucket}/raw/a b.wav",
        path=f"s3://aws@{bucket}/restored/",
        deferrable=True,
        poll_interval=0.1,
        dag=dag,
    )
    deferred = task_runner.run(restore)
    recording = CONSOLE.format(bucket=bucket, key="raw%2Fa%20b.wav")
    assert links(task_runner, restore) == {"Recording": recording, "Restored file": ""}

    finished = task_runner.resume(restore, fire(deferred), deferred)
    restored = CONSOLE.format(
        bucket=bucket, key=f"restored%2F{finished.value['file_name'].replace(' ', '%20')}"
    )
    assert links(task_runner, restore) == {"Recording": recording, "Restored file": restored}


def test_there_is_no_link_to_a_local_file(task_runner: TaskRunner, dag: Any, recording: Path) -> None:
    restore = DiffioRestoreOperator(task_id="restore", source=str(recording), path="x.mp3", dag=dag)
    assert task_runner.run(restore).state == "success"
    # Where a relative path leads is the connection's affair, and so not known to a DAG file.
    assert links(task_runner, restore) == {"Restored file": ""}


@pytest.mark.parametrize(
    ("path", "has_place"),
    [
        ("/data/a.wav", False),
        ("file:///data/a.wav", False),
        (Path("/data/a.wav"), False),
        ("s3://bucket/a.wav", True),
        ("a.wav", True),
        ("{{ params.source }}", True),
        ("/data/{{ ds }}.wav", True),
    ],
)
def test_a_page_has_no_place_for_a_link_that_cannot_be(path: Any, has_place: bool, dag: Any) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=path, dag=dag)
    assert [link.name for link in upload.operator_extra_links] == ["Recording"] * has_place
    restore = DiffioRestoreOperator(task_id="restore", source=path, path=path, dag=dag)
    assert len(restore.operator_extra_links) == 2 * has_place
    save = DiffioDownloadOperator(task_id="save", generation={}, path=path, dag=dag)
    assert len(save.operator_extra_links) == has_place


def test_there_is_no_link_into_a_store_that_only_speaks_s3(
    task_runner: TaskRunner, dag: Any, bucket: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _connect(monkeypatch, "minio", {"region_name": "eu-west-1", "endpoint_url": s3_url})
    upload = DiffioCreateProjectOperator(task_id="upload", source=f"s3://minio@{bucket}/raw/a b.wav", dag=dag)
    assert task_runner.run(upload).state == "success"
    assert links(task_runner, upload) == {"Recording": ""}


def test_a_task_that_pushes_no_xcom_has_no_link(
    task_runner: TaskRunner, dag: Any, bucket: str, aws: None
) -> None:
    source = f"s3://aws@{bucket}/raw/a b.wav"
    upload = DiffioCreateProjectOperator(task_id="upload", source=source, do_xcom_push=False, dag=dag)
    assert task_runner.run(upload).state == "success"
    assert links(task_runner, upload) == {"Recording": ""}


def test_no_task_fails_for_a_link(
    task_runner: TaskRunner, dag: Any, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(location: Any) -> str:
        asked.append(location.uri)
        raise RuntimeError("no idea")

    monkeypatch.setattr("airflow_provider_diffio.storage.console_url.console_url", fail)
    restore = DiffioRestoreOperator(task_id="restore", source=str(recording), path="x.mp3", dag=dag)
    outcome = task_runner.run(restore)
    assert (outcome.state, asked) == ("success", [str(recording), outcome.value["path"]])


@pytest.mark.parametrize("value", ["javascript:alert(1)", "http://somewhere", {"url": "https://a"}, None])
def test_only_web_addresses_are_links(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import XCom

    monkeypatch.setattr(XCom, "get_value", lambda **_: value)
    assert DiffioRecordingLink().get_link(None, ti_key=None) == ""


def test_a_link_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import XCom

    def fail(**_: Any) -> None:
        raise RuntimeError("API server is away")

    monkeypatch.setattr(XCom, "get_value", fail)
    assert DiffioRestoredFileLink().get_link(None, ti_key=None) == ""


def test_airflow_is_told_of_every_link() -> None:
    classes = [getattr(room, name) for room in (operators, sensors) for name in room.__all__]
    used = {type(link) for cls in classes for link in cls.operator_extra_links}
    assert {f"{link.__module__}.{link.__name__}" for link in used} == set(get_provider_info()["extra-links"])
    assert DiffioRestoredFileLink in {type(link) for link in DiffioDownloadOperator.operator_extra_links}


@pytest.mark.parametrize(
    ("endpoint", "region", "page"),
    [
        (
            "https://s3.amazonaws.com",
            "us-east-1",
            "https://console.aws.amazon.com/s3/object/b?region=us-east-1",
        ),
        ("https://s3.amazonaws.com", "aws-global", "https://console.aws.amazon.com/s3/object/b?"),
        (
            "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com",
            "eu-west-1",
            "https://console.aws.amazon.com/s3/object/b?region=eu-west-1",
        ),
        (
            "https://s3.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            "https://console.amazonaws-us-gov.com/s3/object/b?region=us-gov-west-1",
        ),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
            "https://console.amazonaws.cn/s3/object/b?region=cn-north-1",
        ),
        ("https://amazonaws.com.example.org", "eu-west-1", None),
        ("https://account.r2.cloudflarestorage.com", "auto", None),
    ],
)
def test_the_console_is_that_of_the_endpoint(endpoint: str, region: str, page: str | None) -> None:
    meta = SimpleNamespace(endpoint_url=endpoint, region_name=region)
    fs = SimpleNamespace(s3=SimpleNamespace(meta=meta))
    url = console_url(replace(resolve("s3://b/dir/a&b.wav", connect=False), store=FixedStore(fs)))  # type: ignore[call-arg]
    assert url == (page and f"{page}{'' if page.endswith('?') else '&'}prefix=dir%2Fa%26b.wav")


@pytest.mark.parametrize(
    ("endpoint", "page"),
    [
        (
            "https://storage.googleapis.com",
            "https://console.cloud.google.com/storage/browser/_details/b/dir/a%3Fb.wav;tab=live_object",
        ),
        ("http://127.0.0.1:4443", None),
    ],
)
def test_googles_console_shows_what_is_at_google(endpoint: str, page: str | None) -> None:
    fs = SimpleNamespace(_location=endpoint)
    location = replace(resolve("gs://b/dir/a?b.wav", connect=False), store=FixedStore(fs))  # type: ignore[call-arg]
    assert console_url(location) == page


@pytest.mark.parametrize("path", ["/data/a.wav", "s3://b/a.wav", "abfs://c/a.wav", "sftp://host/a.wav"])
def test_a_name_alone_is_not_enough_for_a_link(path: str) -> None:
    assert console_url(resolve(path, connect=False)) is None
