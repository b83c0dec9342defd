"""A listing tells what asking for each file would tell, at a request for each thousand names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.storage import Location, resolve


def test_a_local_directory(tmp_path: Path) -> None:
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "b.wav").write_bytes(b"later")
    (tmp_path / "a.wav").write_bytes(b"x")
    os.utime(tmp_path / "a.wav", (1_000.5, 1_000.5))
    found = list(resolve(f"{tmp_path}/").scan())
    assert [file.relative for file in found] == ["2024/b.wav", "a.wav"]
    assert [file.facts.fingerprint for file in found] == [file.location.fingerprint() for file in found]
    assert [file.facts.size_bytes for file in found] == [5, 1]
    assert found[1].modified == 1_000.5
    assert [file.relative for file in resolve(f"{tmp_path}/").scan(recursive=False)] == ["a.wav"]


def test_a_bucket(s3_client: Any, bucket: str, s3_root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1_003):
        s3_client.put_object(Bucket=bucket, Key=f"dir/{number % 3}/{number:04}.wav", Body=b"x" * number)
    asked: list[str] = []
    call = type(s3_root.fs)._call_s3  # type: ignore[attr-defined]

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(method)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(type(s3_root.fs), "_call_s3", counted)  # type: ignore[attr-defined]
    found = list(s3_root.scan())
    assert len(found) == 1_003
    assert not [method for method in asked if method.startswith(("head", "get"))]
    some = found[::200]
    assert [file.facts.fingerprint for file in some] == [file.location.fingerprint() for file in some]
    assert all(file.modified and abs(file.modified - time.time()) < 120 for file in some)


def test_a_change_shows_up_in_the_next_listing(s3_client: Any, bucket: str, s3_root: Location) -> None:
    s3_client.put_object(Bucket=bucket, Key="dir/a.wav", Body=b"1")
    (before,) = s3_root.scan()
    s3_client.put_object(Bucket=bucket, Key="dir/a.wav", Body=b"22")
    s3_client.put_object(Bucket=bucket, Key="dir/b.wav", Body=b"3")
    after = list(s3_root.scan())
    assert [file.relative for file in after] == ["a.wav", "b.wav"]
    assert after[0].facts != before.facts


def test_a_place_that_is_not_there(tmp_path: Path, s3_root: Location) -> None:
    for place in (resolve(f"{tmp_path}/none/"), s3_root.child("none")):
        assert list(place.scan(missing_ok=True)) == []
        with pytest.raises(DiffioInputError, match="none"):
            list(place.scan())
