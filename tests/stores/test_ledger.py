"""A ledger in every store: eight processes that are killed at random start each recording once."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.steps.ledger import Ledger
from airflow_provider_diffio.storage import Location
from airflow_provider_diffio.storage.objects import objects_at
from tests.ledger.test_killed_writers import check_started_once, run_writers
from tests.stores.conftest import locate
from tests.stores.servers import Server


def test_a_name_is_created_once_and_read_as_it_is(root: Location) -> None:
    objects = objects_at(root)
    objects.check_exclusive()
    assert objects.names("records") == []
    assert objects.read("records/a/1") is None
    assert objects.create("records/a/1", b"one")
    assert not objects.create("records/a/1", b"two")
    assert objects.create("records/a/1", b"one"), "the echo of one's own success"
    assert objects.read("records/a/1") == b"one"
    assert objects.create("records/b/2", b"2")
    assert sorted(objects.names("records")) == ["a/1", "b/2"]
    assert objects.names("records", "b/") == ["b/2"]
    assert objects.names("records", "a/1") == ["a/1"]
    objects.write("owners/me", b"1")
    objects.write("owners/me", b"2")
    assert objects.read("owners/me") == b"2"
    objects.delete("owners/me")
    objects.delete("owners/me")
    assert objects.names("owners") == []


def test_writers_that_are_killed_start_each_recording_once(server: Server, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    conn_id = server.conn_id if server.connection else None
    sold = tmp_path / "sold"
    sold.mkdir()
    try:
        with Ledger.open(locate(server, f"{name}/")):
            pass
    except DiffioError as error:  # a store whose exclusive creation does not hold
        pytest.skip(f"refused as a ledger: {error.message}")
    assert run_writers(f"{server.root}{name}/", sold, 8, conn_id=conn_id, seconds=400) > 0
    with Ledger.open(locate(server, f"{name}/")) as ledger:
        check_started_once(ledger, sold)
