"""A ledger that an older version wrote, read and gone on with by this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.ledger.marker import SCHEMA as LEDGER_SCHEMA
from airflow_provider_diffio.ledger.record import SCHEMA, Record
from airflow_provider_diffio.steps.ledger import Ledger, LedgerRequest, Place, Target, list_adopted
from airflow_provider_diffio.storage import resolve
from tests.ledger.conftest import Seller, project
from tests.upgrade.frozen import NEWEST, VERSIONS, frozen, shape

CONTENT = "c" * 64
REQUEST = LedgerRequest(
    base_url="https://api.diffio.ai/v1",
    model="diffio-4.6-flash",
    sampling={"steps": 5},
    generation_params={"strength": 1},
    project_params={"team": "a"},
    file_format="wav",
    content_type="audio/wav",
    revision="2",
)
PLACE = Place("s3://raw/talk.wav", 1000, "etag=abc")
TARGET = Target.of("s3://restored/talk.mp3", "audio")
OLD, OLD_TARGET = Place("s3://raw/old.wav", 5, "etag=old"), Target.of("s3://restored/old.mp3", None)


def put(directory: Path, name: str, content: Any) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def laid_out(directory: Path, version: str, *, entries: int, finished: bool) -> Ledger:
    """Write a ledger as a version left it after so many entries."""
    form = frozen(version, "ledger")
    put(directory, "ledger.json", form["marker"])
    for each in form["chain"][:entries]:
        put(directory, each["name"], each["entry"])
    for each in form["done"] if finished else ():
        put(directory, each["name"], each["body"])
    for name in () if finished else form["open"]:
        put(directory, name, {})
    for each in form["adopted"]:
        put(directory, each["name"], each["body"])
    return Ledger.open(resolve(f"{directory}/"))


@pytest.mark.parametrize("version", VERSIONS)
class TestAnOldLedger:
    def test_what_was_finished_is_kept(self, version: str, tmp_path: Path) -> None:
        ledger = laid_out(tmp_path, version, entries=99, finished=True)
        known = ledger.index().find(PLACE, REQUEST, TARGET)
        assert known.status == "kept"
        record = ledger.record_of(known.hint) if known.hint else None
        assert record is not None
        assert (record.state, record.generation_id, record.started) == ("done", "gen-2", 2)
        assert record.files_of(TARGET)[0].path == "s3://restored/talk.mp3"
        assert record.sources == (PLACE,)
        assert record.request == REQUEST

    def test_what_was_adopted_is_kept(self, version: str, tmp_path: Path) -> None:
        ledger = laid_out(tmp_path, version, entries=99, finished=True)
        known = ledger.index_of(OLD.uri, REQUEST).find(OLD, REQUEST, OLD_TARGET)
        assert (known.status, known.is_adopted) == ("kept", True)
        ((_, body),) = list_adopted(ledger)
        assert body["source"]["uri"] == OLD.uri

    @pytest.mark.parametrize(("entries", "starts"), [(2, 0), (3, 1), (5, 0), (6, 0), (7, 0)])
    def test_what_was_under_way_goes_on(
        self, version: str, tmp_path: Path, entries: int, starts: int
    ) -> None:
        """After entry 3 of the frozen record, Diffio had reported a failure: the second one may start."""
        ledger = laid_out(tmp_path, version, entries=entries, finished=False)
        assert ledger.index().find(PLACE, REQUEST, TARGET).content == REQUEST.content_key(CONTENT)
        seller = Seller()
        record = ledger.start(
            CONTENT,
            1000,
            REQUEST,
            project=project(9),
            place=PLACE,
            send=seller.send,
            existing=seller.existing,
        )
        assert isinstance(record, Record)
        assert len(seller.started) == starts
        keys = [key for each in frozen(version, "ledger")["chain"] for key in each["entry"].get("keys", ())]
        assert {key for _, key in seller.started} <= set(keys)
        assert record.project == project(1)


def test_what_this_version_writes_is_frozen() -> None:
    form = frozen(NEWEST, "ledger")
    assert form["marker"]["schema"] == LEDGER_SCHEMA
    for each in form["chain"]:
        record = Record.from_bytes(json.dumps(each["entry"]).encode())
        written = json.loads(record.to_bytes())
        assert written == each["entry"]
        assert shape(written) == shape(each["entry"])
        assert record.chain.entry(record.number) == each["name"]
        assert written["schema"] == SCHEMA
    (opened,), (done,), (adopted,) = form["open"], form["done"], form["adopted"]
    place, version, size, content, request, revision = opened.partition("/")[2][3:].split("-")
    assert place == PLACE.key(REQUEST)
    assert (version, int(size)) == (PLACE.version_key, PLACE.size_bytes)
    assert (content, request, revision) == (
        REQUEST.content_key(CONTENT),
        REQUEST.key,
        REQUEST.revision_key,
    )
    assert done["name"] == f"done{opened.removeprefix('open')}-{TARGET.key}"
    assert adopted["name"].endswith(f"-{'0' * 32}-{REQUEST.key}-{REQUEST.revision_key}-{OLD_TARGET.key}")
