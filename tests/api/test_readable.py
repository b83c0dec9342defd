"""Sizes and times as a person reads them."""

from __future__ import annotations

import pytest

from airflow_provider_diffio.api.readable import readable_seconds, readable_size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (485_244, "485 kB"),
        (4_200_000, "4.2 MB"),
        (2 * 1024**3, "2.1 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_a_size(size_bytes: int, text: str) -> None:
    assert readable_size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.42, "0.4 s"),
        (3, "3 s"),
        (9.96, "10 s"),
        (100.2, "100 s"),
        (119.6, "2 min"),
        (125.2, "2 min 5 s"),
        (3600, "1 h"),
        (6 * 3600, "6 h"),
        (3 * 3600 + 61, "3 h 1 min"),
        (51 * 3600, "2 d 3 h"),
    ],
)
def test_a_time(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text
