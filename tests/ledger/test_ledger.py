"""The ledger's core: who may start what, how often, and what is never taken for "nothing was recorded"."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import (
    DiffioBillingError,
    DiffioConnectionError,
    DiffioError,
    DiffioGenerationLimitError,
    DiffioInputError,
    DiffioNotFoundError,
    DiffioPermissionError,
)
from airflow_provider_diffio.steps.ledger import (
    DiffioLedgerChangedError,
    DiffioLedgerError,
    DiffioLedgerFaultError,
    Held,
    Ledger,
    LedgerRequest,
    Place,
    Record,
    StartBounds,
    Target,
)
from airflow_provider_diffio.storage import resolve
from tests.ledger.conftest import (
    CONTENT,
    REQUEST,
    OpenLedger,
    Seller,
    identity,
    project,
    restored_file,
    start,
)


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("records/*/*.json"))


class Killed(BaseException):
    """The process is dead."""


def killed_while_starting(
    open_ledger: OpenLedger, seller: Seller, monkeypatch: pytest.MonkeyPatch, *, before: bool, **options: Any
) -> None:
    """Let a process die right before or after the request, without a word in the ledger."""

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(seller, "before" if before else "after", die)
        ledger = open_ledger(**options)
        patch.setattr(ledger._starter._chains, "append", _once(ledger._starter._chains.append))
        with pytest.raises(Killed):
            start(ledger, seller)


def _once(append: Any) -> Any:
    calls: list[int] = []

    def appending(*args: Any, **kwargs: Any) -> Any:
        if calls:
            raise Killed
        calls.append(1)
        return append(*args, **kwargs)

    return appending


class TestStarting:
    def test_a_recording_is_started_once_however_often_it_is_asked_for(
        self, open_ledger: OpenLedger, seller: Seller
    ) -> None:
        records = [start(open_ledger(), seller, project=project(number)) for number in (1, 2, 3)]
        assert [record.generation_id for record in records if isinstance(record, Record)] == ["gen-1"] * 3
        assert len(seller.started) == 1

    @pytest.mark.parametrize("writers", [2, 8])
    def test_of_many_at_once_one_starts(self, open_ledger: OpenLedger, seller: Seller, writers: int) -> None:
        found: list[Record] = []
        barrier = threading.Barrier(writers)

        def work(number: int) -> None:
            ledger = open_ledger()
            barrier.wait()
            while isinstance(outcome := start(ledger, seller, project=project(number)), Held):
                time.sleep(0.01)
            found.append(outcome)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {record.generation_id for record in found} == {"gen-1"}
        assert len(found) == writers
        assert len(seller.started) == 1

    def test_the_intent_is_written_before_the_request(
        self, ledger: Ledger, seller: Seller, directory: Path
    ) -> None:
        seen = []
        seller.before = lambda: seen.append(json.loads(entries(directory)[-1].read_bytes()))
        start(ledger, seller)
        (claim,) = seen
        assert claim["state"] == "claimed"
        assert claim["restoration"]["starts"] == [
            {"counter": 0, "request": claim["restoration"]["starts"][0]["request"]}
        ]
        assert claim["keys"] == [key for _, key in seller.started]

    def test_a_claim_that_cannot_be_written_starts_nothing(
        self, ledger: Ledger, seller: Seller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(type(ledger.objects), "_create", full)
        with pytest.raises(DiffioLedgerError, match="No space left"):
            start(ledger, seller)
        assert seller.started == {}

    def test_a_result_that_cannot_be_written_is_found_again(
        self,
        open_ledger: OpenLedger,
        seller: Seller,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ledger = open_ledger(task=identity())
        append = ledger._starter._chains.append

        def appending(record: Record, after: int) -> Record:
            if record.state == "started":
                raise DiffioLedgerError("The disk is full.")
            return append(record, after)

        monkeypatch.setattr(ledger._starter._chains, "append", appending)
        first = start(ledger, seller)
        assert isinstance(first, Record)
        assert "Generation gen-1 was started in project project-1" in caplog.text
        again = start(open_ledger(task=identity(try_number=2)), seller, project=project(2))
        assert isinstance(again, Record)
        assert again.generation_id == first.generation_id
        assert len(seller.started) == 1


class TestTakingOver:
    @pytest.mark.parametrize("before", [True, False])
    def test_a_dead_owners_claim_waits_for_one_lease(
        self, open_ledger: OpenLedger, seller: Seller, monkeypatch: pytest.MonkeyPatch, before: bool
    ) -> None:
        killed_while_starting(open_ledger, seller, monkeypatch, before=before)
        # Another process, whose wall clock is an hour off: it goes by its own monotonic clock alone.
        monkeypatch.setattr(time, "time", lambda: 1.0)
        ledger = open_ledger(lease=0.3)
        assert isinstance(start(ledger, seller), Held)
        assert isinstance(start(ledger, seller), Held)
        time.sleep(0.35)
        record = start(ledger, seller, project=project(2))
        assert isinstance(record, Record)
        assert record.project == project(1)
        assert seller.asked == ["project-1"]
        assert len(seller.started) == 1

    @pytest.mark.parametrize("before", [True, False])
    def test_an_earlier_try_of_the_same_task_is_over(
        self, open_ledger: OpenLedger, seller: Seller, monkeypatch: pytest.MonkeyPatch, before: bool
    ) -> None:
        killed_while_starting(open_ledger, seller, monkeypatch, before=before, task=identity(3, try_number=1))
        assert isinstance(start(open_ledger(task=identity(4, try_number=2)), seller), Held)
        assert isinstance(start(open_ledger(task=identity(3, try_number=1)), seller), Held)
        record = start(open_ledger(task=identity(3, try_number=2)), seller)
        assert isinstance(record, Record)
        assert len(seller.started) == 1

    def test_an_owner_that_lives_is_not_robbed(
        self, open_ledger: OpenLedger, seller: Seller, directory: Path
    ) -> None:
        arrived, leave = threading.Event(), threading.Event()

        def linger() -> None:
            arrived.set()
            leave.wait(10)

        seller.before = linger
        slow = open_ledger(lease=0.4)
        working = threading.Thread(target=lambda: start(slow, seller))
        working.start()
        arrived.wait(10)
        other = open_ledger(lease=0.4)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert isinstance(start(other, seller), Held)
            time.sleep(0.05)
        leave.set()
        working.join()
        assert isinstance(start(other, seller), Record)
        assert len(seller.started) == 1

    def test_a_late_word_of_the_dead_meets_a_taken_number(
        self, open_ledger: OpenLedger, seller: Seller
    ) -> None:
        """An owner that slept for longer than its lease wakes up in the middle of its request."""
        sleeper = open_ledger(task=identity(0))
        taken: list[Record | Held] = []

        def overtake() -> None:
            seller.before = lambda: None
            taken.append(start(open_ledger(task=identity(0, try_number=2)), seller))

        seller.before = overtake
        record = start(sleeper, seller)
        assert isinstance(record, Record)
        assert isinstance(taken[0], Record)
        assert record.generation_id == taken[0].generation_id
        assert len(seller.started) == 1

    def test_the_key_alone_serves_where_it_may_not_list(
        self, open_ledger: OpenLedger, seller: Seller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed_while_starting(open_ledger, seller, monkeypatch, before=False, task=identity())

        def refuse(_: str) -> list[Any]:
            raise DiffioPermissionError("The key may not list generations.")

        record = start(open_ledger(task=identity(try_number=2)), seller, existing=refuse)
        assert isinstance(record, Record)
        assert len(seller.started) == 1


class TestRefusals:
    def test_a_lost_response_leaves_a_claim_that_anybody_goes_on_with(
        self, open_ledger: OpenLedger, seller: Seller
    ) -> None:
        def lose() -> None:
            raise DiffioConnectionError("No response.", may_be_billed=True)

        seller.after = lose
        with pytest.raises(DiffioConnectionError):
            start(open_ledger(), seller)
        seller.after = lambda: None
        record = start(open_ledger(), seller, project=project(2))
        assert isinstance(record, Record)
        assert (record.generation_id, record.started) == ("gen-1", 1)
        assert len(seller.started) == 1

    def test_what_diffio_refused_does_not_count(self, open_ledger: OpenLedger, seller: Seller) -> None:
        def refuse() -> None:
            raise DiffioBillingError("No credit.")

        seller.before = refuse
        bounds = StartBounds(per_recording=1)
        for _ in range(3):
            with pytest.raises(DiffioBillingError):
                start(open_ledger(), seller, bounds=bounds)
        assert open_ledger().find(REQUEST.content_key(CONTENT), _other(), "fail") is None
        seller.before = lambda: None
        record = start(open_ledger(), seller, bounds=bounds, project=project(2))
        assert isinstance(record, Record)
        assert record.project == project(2)

    def test_a_refusal_is_no_evidence_of_what_a_dead_owner_started(
        self, open_ledger: OpenLedger, seller: Seller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed_while_starting(open_ledger, seller, monkeypatch, before=False, task=identity())

        def gone(_: str) -> list[Any]:
            raise DiffioNotFoundError("There is no such project.")

        ledger = open_ledger(task=identity(try_number=2))
        for _ in range(2):
            with pytest.raises(DiffioNotFoundError):
                start(ledger, seller, project=project(2), existing=gone)
        assert len(seller.started) == 1


class TestBounds:
    def fail(self, ledger: Ledger, record: Record | Held) -> Record:
        assert isinstance(record, Record)
        assert record.generation_id
        return ledger.failed(record, record.generation_id, "No speech was found.")

    @pytest.mark.parametrize("most", [1, 2, 3])
    def test_failures_count_over_all_runs(
        self, open_ledger: OpenLedger, seller: Seller, caplog: pytest.LogCaptureFixture, most: int
    ) -> None:
        bounds = StartBounds(per_recording=most)
        for _ in range(most):
            ledger = open_ledger()
            record = self.fail(ledger, start(ledger, seller, bounds=bounds))
            assert record.state == "failed"
        for _ in range(2):
            with pytest.raises(DiffioGenerationLimitError) as raised:
                start(open_ledger(), seller, bounds=bounds)
        assert f"max_generations_per_recording is {most}" in str(raised.value)
        assert "No speech was found." in str(raised.value)
        assert len(seller.started) == most
        assert len({key for _, key in seller.started}) == most
        warnings = [each for each in caplog.messages if "Another one is started" in each]
        assert len(warnings) == most - 1

    def test_a_task_has_a_bound_of_its_own(self, open_ledger: OpenLedger, seller: Seller) -> None:
        bounds = StartBounds(per_recording=5, per_task=1)
        ledger = open_ledger(task=identity(0))
        self.fail(ledger, start(ledger, seller, bounds=bounds))
        with pytest.raises(DiffioGenerationLimitError, match="max_generations is 1"):
            start(open_ledger(task=identity(0, try_number=2)), seller, bounds=bounds)
        assert isinstance(start(open_ledger(task=identity(1)), seller, bounds=bounds), Record)

    def test_an_own_key_stands_for_one_generation(self, open_ledger: OpenLedger, seller: Seller) -> None:
        bounds = StartBounds(own_key="mine")
        ledger = open_ledger()
        self.fail(ledger, start(ledger, seller, bounds=bounds))
        assert [key for _, key in seller.started] == ["mine"]
        with pytest.raises(DiffioGenerationLimitError, match="idempotency_key is 1"):
            start(ledger, seller, bounds=bounds)

    def test_a_failure_is_recorded_once(self, open_ledger: OpenLedger, seller: Seller) -> None:
        first, second = open_ledger(), open_ledger()
        record = start(first, seller)
        assert isinstance(record, Record)
        self.fail(first, record)
        again = start(first, seller)
        assert isinstance(again, Record)
        late = second.failed(record, "gen-1", "No speech was found.")  # who was told later of the first one
        assert late.state == "started"
        assert late.generation_id == "gen-2"


def _other(**changes: Any) -> LedgerRequest:
    return LedgerRequest(**{"base_url": REQUEST.base_url, "model": "diffio-4.6-pro", **changes})


class TestChanges:
    def test_a_changed_request_fails_and_names_what_changed(self, ledger: Ledger, seller: Seller) -> None:
        start(ledger, seller)
        key = REQUEST.content_key(CONTENT)
        with pytest.raises(DiffioLedgerChangedError, match=r"generation gen-1.*: model changed\.") as raised:
            ledger.find(key, _other())
        assert raised.value.final
        assert raised.value.may_be_billed
        kept = ledger.find(key, _other(), "keep")
        assert kept is not None
        assert kept.generation_id == "gen-1"

    def test_starting_anew_is_warned_of(
        self, ledger: Ledger, seller: Seller, caplog: pytest.LogCaptureFixture
    ) -> None:
        start(ledger, seller)
        assert ledger.find(REQUEST.content_key(CONTENT), _other(), "start") is None
        assert "model changed. Another generation is started, and billed too." in caplog.text
        start(ledger, seller, request=_other())
        assert len(seller.started) == 2

    def test_a_revision_starts_anew_on_purpose(
        self, ledger: Ledger, seller: Seller, caplog: pytest.LogCaptureFixture
    ) -> None:
        start(ledger, seller)
        second = _other(model=REQUEST.model, revision="2")
        assert ledger.find(REQUEST.content_key(CONTENT), second, "fail") is None
        assert "for revision '2', and billed too" in caplog.text
        start(ledger, seller, request=second)
        assert len(seller.started) == 2
        assert ledger.find(REQUEST.content_key(CONTENT), REQUEST, "fail") is not None

    def test_another_api_knows_nothing_of_it(self, ledger: Ledger, seller: Seller) -> None:
        start(ledger, seller)
        other = LedgerRequest(base_url="http://127.0.0.1:8788/v1", model=REQUEST.model)
        assert ledger.find(other.content_key(CONTENT), other) is None


class TestFinishing:
    def test_what_is_finished_is_told_by_a_listing(
        self, ledger: Ledger, seller: Seller, place: Place, target: Target, directory: Path
    ) -> None:
        ledger.note_content(place, CONTENT, REQUEST)
        assert ledger.index().find(place, REQUEST, target).content == REQUEST.content_key(CONTENT)
        record = start(ledger, seller, place)
        assert isinstance(record, Record)
        ledger.finish(record, place, target, [restored_file(target, record)])
        for path in directory.rglob("records/*/*"):
            path.unlink()  # none of them is needed
        for index in (ledger.index(), ledger.index_of(place.uri, REQUEST)):
            assert index.find(place, REQUEST, target).status == "kept"
            assert index.open == ()
            assert index.find(place, REQUEST, Target.of("/elsewhere", None)).status == "known"
            assert index.find(place, _other(), target).status == "changed"
            assert index.find(place._replace(version="later"), REQUEST, target).status == "touched"
            assert (
                index.find(place._replace(version="later", size_bytes=5), REQUEST, target).status
                == "replaced"
            )
            assert index.find(place._replace(uri="/other.wav"), REQUEST, target).status == "new"
            assert index.find_gone(place.uri, REQUEST, target).status == "kept"

    def test_two_places_and_two_files_are_one_record(
        self, open_ledger: OpenLedger, seller: Seller, place: Place, target: Target
    ) -> None:
        record = start(open_ledger(), seller, place)
        assert isinstance(record, Record)
        other, elsewhere = place._replace(uri="/copy.wav"), Target.of("/copy.mp3", "audio")
        threads = [
            threading.Thread(
                target=open_ledger().finish, args=(record, where, to, [restored_file(to, record)])
            )
            for where, to in ((place, target), (other, elsewhere))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger = open_ledger()
        (found,) = [ledger.record(record.chain)]
        assert found is not None
        assert {source.uri for source in found.sources} == {place.uri, "/copy.wav"}
        assert found.files_of(target)
        assert found.files_of(elsewhere)
        assert ledger.index().find(other, REQUEST, elsewhere).status == "kept"

    def test_a_finished_record_is_written_once(
        self, ledger: Ledger, seller: Seller, place: Place, target: Target
    ) -> None:
        record = start(ledger, seller, place)
        assert isinstance(record, Record)
        done = ledger.finish(record, place, target, [restored_file(target, record)])
        again = ledger.finish(done, place, target, [restored_file(target, record)])
        assert again.number == done.number


class TestWhatCannotBeRead:
    def newest(self, directory: Path) -> Path:
        return entries(directory)[-1]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"schema": 2}, "newer version"),
            ({"state": "resold"}, "not known"),
            ({"content": "d" * 64}, "another restoration"),
            ({"number": 7}, "another restoration"),
            ({"restoration": {"schema": 9}}, "newer version"),
        ],
    )
    def test_an_unknown_entry_starts_nothing_and_stays(
        self, open_ledger: OpenLedger, seller: Seller, directory: Path, change: dict[str, Any], said: str
    ) -> None:
        start(open_ledger(), seller)
        path = self.newest(directory)
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        before = {each: each.read_bytes() for each in entries(directory)}
        with pytest.raises(DiffioLedgerError, match=said):
            start(open_ledger(), seller)
        assert {each: each.read_bytes() for each in entries(directory)} == before
        assert len(seller.started) == 1

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"text"', b"\xff"])
    def test_a_damaged_entry_starts_nothing(
        self, open_ledger: OpenLedger, seller: Seller, directory: Path, data: bytes
    ) -> None:
        start(open_ledger(), seller)
        self.newest(directory).write_bytes(data)
        with pytest.raises(DiffioLedgerError, match="could not be read"):
            start(open_ledger(), seller)
        assert len(seller.started) == 1

    def test_an_entry_under_an_unknown_name_starts_nothing(
        self, ledger: Ledger, seller: Seller, directory: Path
    ) -> None:
        path = directory / "records" / REQUEST.content_key(CONTENT) / "v2-of-this"
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(DiffioLedgerError, match="does not know"):
            start(ledger, seller)
        assert seller.started == {}

    def test_a_newer_ledger_is_refused_as_a_whole(self, open_ledger: OpenLedger, directory: Path) -> None:
        open_ledger()
        marker = directory / "ledger.json"
        marker.write_text(json.dumps({"schema": 2, "id": "x"}))
        with pytest.raises(DiffioLedgerFaultError, match="newer version"):
            open_ledger()
        assert json.loads(marker.read_text())["schema"] == 2

    def test_a_mount_that_is_gone_starts_nothing(
        self, ledger: Ledger, seller: Seller, directory: Path
    ) -> None:
        directory.rename(directory.with_name("elsewhere"))
        with pytest.raises(DiffioLedgerError, match="is gone"):
            start(ledger, seller)
        directory.mkdir()
        with pytest.raises(DiffioLedgerError, match="is gone"):
            start(ledger, seller)
        assert seller.started == {}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
    def test_a_read_only_directory_is_final(self, open_ledger: OpenLedger, directory: Path) -> None:
        directory.mkdir(mode=0o500)
        with pytest.raises(DiffioLedgerFaultError) as raised:
            open_ledger()
        assert raised.value.final

    def test_fields_of_a_later_version_are_kept(
        self, open_ledger: OpenLedger, seller: Seller, place: Place, target: Target, directory: Path
    ) -> None:
        record = start(open_ledger(), seller)
        assert isinstance(record, Record)
        path = self.newest(directory)
        path.write_text(json.dumps({**json.loads(path.read_text()), "reviewed": {"by": "ana"}}))
        open_ledger().finish(record, place, target, [restored_file(target, record)])
        assert json.loads(self.newest(directory).read_text())["reviewed"] == {"by": "ana"}


class TestOpening:
    def test_a_store_that_does_not_hold_a_name_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_provider_diffio.storage.objects import LocalObjects

        monkeypatch.setattr(LocalObjects, "_create", lambda self, name, data: self._write(name, data) or True)
        with pytest.raises(DiffioError, match="lets a second writer replace"):
            Ledger.open(resolve(f"{tmp_path}/ledger/"))

    def test_an_unknown_store_is_refused(self) -> None:
        from dataclasses import replace

        import fsspec

        from airflow_provider_diffio.storage.filesystems import FixedStore
        from airflow_provider_diffio.storage.remote import RemoteLocation

        location = RemoteLocation("memory://x/", True, "/x", FixedStore(fsspec.filesystem("memory")))
        with pytest.raises(DiffioInputError, match="not known to create a name for one process"):
            Ledger.open(replace(location))

    def test_a_new_ledger_is_told_of(
        self, open_ledger: OpenLedger, caplog: pytest.LogCaptureFixture, directory: Path
    ) -> None:
        with caplog.at_level(logging.WARNING):
            open_ledger()
            open_ledger()
        assert caplog.text.count("A new ledger begins at") == 1

    def test_it_is_not_for_event_loops(self, directory: Path) -> None:
        async def opening() -> None:
            Ledger.open(resolve(f"{directory}/"))

        with pytest.raises(DiffioInputError, match="event loop"):
            asyncio.run(opening())
