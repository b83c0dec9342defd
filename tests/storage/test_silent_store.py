# ruff: noqa: PT012 -- what happens inside and at the end of a block is what is tested
"""A store that falls silent: a task whose time is over ends all the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_diffio.storage import resolve
from airflow_provider_diffio.storage.background import within
from tests.storage.conftest import Connect
from tests.stores.gate import free_port
from tests.stores.servers import gated, tell


class TestWithin:
    def test_what_ends_in_time_is_waited_for(self) -> None:
        seen: list[int] = []
        within(30, lambda: seen.append(1))
        assert seen == [1]

    def test_what_it_raises_is_raised(self) -> None:
        with pytest.raises(FileNotFoundError, match="gone"):
            within(30, Path("/gone").stat)

    def test_what_takes_longer_is_left_behind(self) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            within(0.1, lambda: time.sleep(5))
        assert time.monotonic() - started < 4


def test_an_upload_to_a_silent_store_is_given_up_within_seconds(
    s3_connection: dict[str, Any],
    bucket: str,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    mocker: Any,
) -> None:
    monkeypatch.setattr("airflow_provider_diffio.storage.remote._TIDY_SECONDS", 1)
    log = mocker.patch("airflow_provider_diffio.storage.remote.log")
    port = free_port()
    behind = urlsplit(s3_connection["extra"]["endpoint_url"]).port
    assert behind is not None
    with gated(port, behind) as gate:
        extra = {**s3_connection["extra"], "endpoint_url": f"http://127.0.0.1:{port}"}
        location = resolve(
            f"s3://{bucket}/a.wav", conn_id=connect("aws", **{**s3_connection, "extra": extra})
        )
        started = 0.0
        with pytest.raises(KeyboardInterrupt), location.writer() as writer:
            writer.write(bytes(9 * 2**20))
            tell(gate, "hold")
            started = time.monotonic()
            raise KeyboardInterrupt
        assert time.monotonic() - started < 10
        tell(gate, "release")
        assert not location.exists()
    (warning,) = log.warning.call_args_list
    assert warning.args[0].startswith("Could not abort the upload")
