from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError
from airflow_provider_diffio.manifest import read_manifest, write_manifest
from airflow_provider_diffio.storage import resolve

ROW = {
    "source": "s3://raw/Grüße 1.wav", "status": "restored", "files": [{"path": "s3://restored/1.mp3"}],
    "generation_id": "g", "api_project_id": "p", "model": "m", "error": None,
}  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "-1.jsonl"
    rows = [{**ROW, "generation_id": f"g{number}"} for number in range(1_203)]
    assert write_manifest(resolve(str(path)), iter(rows)) == 1_203
    assert list(read_manifest(str(path))) == rows
    assert list(read_manifest({"restored": 3, "manifest": str(path)})) == rows
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_an_empty_one(tmp_path: Path) -> None:
    assert write_manifest(resolve(str(tmp_path / "m.jsonl")), iter([])) == 0
    assert list(read_manifest(tmp_path / "m.jsonl")) == []


def test_its_length_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(resolve(str(path)), ({**ROW, "source": f"{number}"} for number in range(20_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_manifest(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20 < path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "text"])
def test_what_is_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(DiffioError, match=r"Line 1 of .*m\.jsonl"):
        list(read_manifest(tmp_path / "m.jsonl"))


def test_one_that_is_not_there(tmp_path: Path) -> None:
    for nothing in (tmp_path / "none", {}, "", {"manifest": ""}):
        with pytest.raises(DiffioInputError):
            list(read_manifest(nothing))


def test_fields_of_a_later_version_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({**ROW, "score": 1}) + "\n\n")
    assert list(read_manifest(tmp_path / "m.jsonl")) == [{**ROW, "score": 1}]
