"""What people do with a ledger."""

from __future__ import annotations

import csv
import datetime as dt
import io
from pathlib import Path

import pytest

from airflow_provider_diffio.api.models import DownloadedFile
from airflow_provider_diffio.steps.ledger import (
    Ledger,
    LedgerRequest,
    Place,
    Record,
    Target,
    export_csv,
    find_records,
    forget,
    forget_adopted,
    list_adopted,
    list_records,
    prune,
    verify,
)
from airflow_provider_diffio.storage import resolve
from tests.ledger.conftest import CONTENT, REQUEST, Seller, identity, project, start


@pytest.fixture
def written(ledger: Ledger, seller: Seller, place: Place, target: Target) -> Record:
    """A finished record whose file is there."""
    ledger.note_content(place, CONTENT, REQUEST)
    record = start(ledger, seller, place)
    assert isinstance(record, Record)
    path = Path(target.files[0][0])
    path.write_bytes(b"restored")
    file = DownloadedFile(
        path=str(path),
        size_bytes=8,
        sha256=resolve(str(path)).sha256(),
        mime_type="audio/mpeg",
        file_name=path.name,
        download_type="audio",
        generation_id="gen-1",
        api_project_id="project-1",
    )
    return ledger.finish(record, place, target, [file])


def test_records_are_listed_and_found(
    ledger: Ledger, seller: Seller, written: Record, place: Place, target: Target
) -> None:
    other = start(ledger, seller, request=LedgerRequest(base_url=REQUEST.base_url, model="diffio-4.6-pro"))
    assert {record.state for record in list_records(ledger)} == {"done", "started"}
    assert list(list_records(ledger, state="done")) == [written]
    for text in (place.uri, target.files[0][0], "gen-1"):
        assert find_records(ledger, text) == [written]
    assert len(find_records(ledger, CONTENT)) == len(find_records(ledger, "project-1")) == 2
    assert isinstance(other, Record)
    assert find_records(ledger, "gen") == []


def test_files_are_verified(ledger: Ledger, written: Record, target: Target) -> None:
    path = Path(target.files[0][0])

    def status(*, digests: bool = False) -> list[str]:
        return [each.status for each in verify(ledger, resolve, digests=digests)]

    assert status() == status(digests=True) == ["ok"]
    path.write_bytes(b"RESTORED")
    assert (status(), status(digests=True)) == (["ok"], ["changed"])
    path.write_bytes(b"shorter")
    assert status() == ["changed"]
    path.unlink()
    assert status() == ["missing"]

    def refuse(_: str) -> None:
        from airflow_provider_diffio.api.errors import DiffioTransferError

        raise DiffioTransferError("The store is away.")

    (found,) = verify(ledger, refuse)  # type: ignore[arg-type]
    assert (found.status, found.reason) == ("unreadable", "The store is away.")


def test_what_is_forgotten_is_started_again(
    ledger: Ledger, seller: Seller, written: Record, place: Place, target: Target, directory: Path
) -> None:
    assert forget(ledger, written) == 4
    left = {path.relative_to(directory).parts[0] for path in directory.rglob("*") if path.is_file()}
    assert left == {"ledger.json", "owners"}
    assert ledger.index().find(place, REQUEST, target).status == "new"
    start(ledger, seller, project=project(2))
    assert len(seller.started) == 2


def test_only_what_is_old_and_finished_is_pruned(
    ledger: Ledger, seller: Seller, written: Record, directory: Path
) -> None:
    start(ledger, seller, request=LedgerRequest(base_url=REQUEST.base_url, model="diffio-4.6-pro"))
    now = dt.datetime.now(dt.UTC)
    week = dt.timedelta(days=7)
    assert prune(ledger, older_than=week) == 0
    later = now + dt.timedelta(days=8)
    assert prune(ledger, older_than=week, now=later, dry_run=True) == 1
    assert len(list(list_records(ledger))) == 2
    assert prune(ledger, older_than=week, now=later) == 1
    assert [record.state for record in list_records(ledger)] == ["started"]
    assert list(directory.glob("owners/*")) == []
    assert list(directory.glob("done/*/*")) == []


def test_records_are_exported(ledger: Ledger, seller: Seller, written: Record, place: Place) -> None:
    formula = Place("=cmd|calc", 5, "etag=x")
    start(ledger, seller, formula, request=LedgerRequest(base_url=REQUEST.base_url, model="diffio-4.6-pro"))
    stream = io.StringIO(newline="")
    assert export_csv(ledger, stream) == 2
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    by_state = {row["state"]: row for row in rows}
    assert by_state["done"]["source"] == place.uri
    assert by_state["done"]["generation_id"] == "gen-1"
    assert by_state["done"]["file_size_bytes"] == "8"
    assert by_state["started"]["source"] == "'=cmd|calc"
    assert by_state["started"]["file"] == ""


def test_adopted_files_are_listed_and_forgotten(ledger: Ledger, place: Place, target: Target) -> None:
    ledger.adopt(place, REQUEST, target, [{"path": "/x.mp3", "size_bytes": 3}])
    ((_, body),) = list_adopted(ledger)
    assert (body["source"]["uri"], body["files"]) == (place.uri, [{"path": "/x.mp3", "size_bytes": 3}])
    assert ledger.index().find(place, REQUEST, target).status == "kept"
    assert forget_adopted(ledger, "/elsewhere.wav") == 0
    assert forget_adopted(ledger, place.uri) == 1
    assert ledger.index().find(place, REQUEST, target).status == "new"


def test_a_record_says_who_wrote_it(seller: Seller, directory: Path, tmp_path: Path) -> None:
    with Ledger.open(resolve(f"{directory}/"), task=identity(3, try_number=2)) as ledger:
        record = start(ledger, seller)
    assert isinstance(record, Record)
    assert record.written_by == {
        "dag_id": "dag", "task_id": "restore", "run_id": "run", "map_index": 3, "try_number": 2,
    }  # fmt: skip
    assert list(directory.glob("owners/*")) == []
