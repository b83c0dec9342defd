"""What a long transfer tells its log, and a short one does not."""

from __future__ import annotations

import io
import logging

import pytest

from airflow_provider_diffio.api.transfer_log import TransferLog
from airflow_provider_diffio.api.uploads import Slice

LOG = logging.getLogger("transfer")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    return Clock()


def test_a_transfer_of_ten_seconds_shows_how_far_it_is(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    transfer = TransferLog(LOG, "Uploaded", "talk.wav", 200_000_000, clock=clock)
    transfer.add(40_000_000)
    clock.now += 9.9
    transfer.add(40_000_000)
    assert caplog.messages == []
    clock.now += 0.1
    transfer.add(20_000_000)
    assert caplog.messages == ["Uploaded 100 MB of 200 MB (50 %) of talk.wav in 10 s, 10.0 MB/s."]


def test_a_length_that_is_not_known_yet_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    transfer = TransferLog(LOG, "Downloaded", "talk.mp3", clock=clock)
    clock.now += 20
    transfer.add(4_000_000)
    assert caplog.messages == ["Downloaded 4.0 MB of talk.mp3 in 20 s, 200 kB/s."]


def test_a_transfer_of_hours_has_few_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    transfer = TransferLog(LOG, "Uploaded", "talk.wav", 36_000, clock=clock)
    for _ in range(36_000):
        clock.now += 0.1
        transfer.add(1)
    assert 10 <= len(caplog.messages) <= 30
    assert transfer.elapsed == "1 h"


def test_what_is_sent_again_counts_once() -> None:
    moved: list[int] = []
    part = Slice(io.BytesIO(b"0123456789"), 2, 6, "talk.wav", moved=moved.append)
    part.read(4)
    part.seek(0)
    while part.read(4):
        pass
    assert sum(moved) == 6
