"""The judge of the distributed run, its picture, and how it finds what it runs on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.distributed import picture, services
from tests.distributed.__main__ import main
from tests.distributed.names import MEMBER, hostname
from tests.distributed.observer import Sample, spans
from tests.distributed.verdict import Kill, Outcome
from tests.postgresql import MissingServiceError, find_program, unprivileged
from tests.test_tooling import PIN, ROOT

NAMES = ("a.wav", "b.wav", "c.wav")
SAMPLES = (
    Sample(0.0, {"none": 3}),
    Sample(1.0, {"queued": 1, "running": 2}, {"worker-1": 1, "worker-2": 1}),
    Sample(3.0, {"deferred": 2, "running": 1}, {"worker-2": 1}, {"triggerer-1": 2}),
    Sample(6.0, {"scheduled": 1, "success": 2}),
    Sample(7.0, {"success": 3}),
)
GOOD = Outcome(
    names=NAMES,
    run_state="success",
    states=["success"] * 3,
    tries=[2, 1, 1],
    deferrals=4,
    bought=dict.fromkeys(NAMES, 1),
    whole=NAMES,
    found=NAMES,
    unfinished=["a.wav"],
    open_uploads=["a.wav"],
    worker=Kill("worker-1", 1.5, [0], [31.0]),
    triggerer=Kill("triggerer-1", 3.5, [1, 2], [7.0, 9.0]),
    samples=SAMPLES,
    wall_seconds=7.0,
    slots=8,
)


def test_a_good_run_has_no_problems() -> None:
    # What the killed worker left of its own task is nobody's fault.
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the run", {"run_state": "failed"}),
        ("states of the tasks", {"states": ["success", "failed", "success"]}),
        ("states of the tasks", {"states": ["success"] * 2}),
        ("billed generations", {"bought": {**GOOD.bought, "b.wav": 2}}),
        ("not billed exactly once", {"bought": {"a.wav": 1, "b.wav": 2}}),
        ("billed, but no recording of ours", {"bought": {**GOOD.bought, "other.wav": 1}}),
        ("not whole", {"whole": ["a.wav", "c.wav"]}),
        ("files beside them", {"found": [*NAMES, ".a.wav.part"]}),
        ("unfinished uploads to the bucket", {"unfinished": ["b.wav"]}),
        ("unfinished uploads to Diffio", {"open_uploads": ["b.wav"]}),
        ("all deferred", {"deferrals": 2}),
        ("the worker was at work", {"worker": Kill("worker-1", 1.5, [], [])}),
        ("cut off and not tried again", {"tries": [1, 1, 1]}),
        ("the triggerer was at work", {"triggerer": Kill("triggerer-1", 3.5, [], [])}),
    ],
)
def test_each_thing_that_does_not_hold_is_a_problem(what: str, change: dict[str, Any]) -> None:
    assert what in [problem.partition(":")[0] for problem in replace(GOOD, **change).problems()]


def test_the_summary_counts_what_was_seen() -> None:
    rows = [value for _name, value in GOOD.rows()]
    assert "3, of them 3 whole at the destination" in rows
    assert "4: one for each task, and 1 again" in rows
    assert "worker-1 after 2 s: 1 tasks ran on it, tried again after 31 to 31 s" in rows
    assert "triggerer-1 after 4 s: 2 tasks waited on it, on the other after 7 to 9 s" in rows
    assert "2 waiting (2 on triggerer-1); 1 of 8 slots in use" in rows
    assert "6 task seconds waited without a slot, 7 seconds ran in one" in rows


def test_a_sample_lasts_until_the_next() -> None:
    assert [seconds for seconds, _sample in spans(SAMPLES)] == [1.0, 2.0, 3.0, 1.0]


def test_every_task_is_in_the_picture_at_every_time() -> None:
    counts = picture.series(SAMPLES)
    assert [sum(at) for at in zip(*counts.values(), strict=True)] == [3] * len(SAMPLES)
    assert counts["queued"] == [0, 1, 0, 1, 0]
    assert counts["none"] == [3, 0, 0, 0, 0]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    target = tmp_path / "new" / "timeline.png"
    picture.draw(SAMPLES, [GOOD.worker, GOOD.triggerer], 4, target)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_member_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMBER, "worker-2")
    assert hostname() == "worker-2"


def test_the_environment_adds_pinned_versions_to_the_newest_and_changes_none() -> None:
    newest, added = ({match["name"] for match in pins(name)} for name in ("constraints-3.3.2", "distributed"))
    assert {"celery", "apache-airflow-providers-celery"} <= added
    assert newest & added == set()


def pins(name: str) -> list[re.Match[str]]:
    """The lines of a file of pinned versions."""
    lines = [line for line in (ROOT / ".ci" / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    found = [match for line in lines if (match := PIN.fullmatch(line))]
    assert len(found) == len(lines)
    return found


class TestPrograms:
    @pytest.fixture(autouse=True)
    def nothing_on_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    def test_the_newest_postgresql_is_taken(self, tmp_path: Path) -> None:
        for version in ("9", "15", "common"):
            (tmp_path / version / "bin").mkdir(parents=True)
            (tmp_path / version / "bin" / "initdb").touch()
        (tmp_path / "17" / "bin").mkdir(parents=True)
        assert find_program("initdb", tmp_path) == str(tmp_path / "15" / "bin" / "initdb")

    def test_it_says_what_to_install(self, tmp_path: Path) -> None:
        with pytest.raises(MissingServiceError, match="apt-get install postgresql redis-server"):
            find_program("redis-server", tmp_path)


def test_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        return find_program(f"no-such-{name}", tmp_path)

    monkeypatch.setattr("tests.distributed.__main__.FOLDER", tmp_path / "folder")
    monkeypatch.setattr("tests.distributed.__main__.end_like_ctrl_c", lambda: None)
    monkeypatch.setattr(services, "find_program", missing)
    assert main([]) == 2
    assert "apt-get install postgresql redis-server" in capsys.readouterr().err


@pytest.mark.parametrize(("root", "head"), [(True, ["setpriv", "--reuid=4711"]), (False, ["postgres", "-D"])])
def test_servers_run_without_privileges(monkeypatch: pytest.MonkeyPatch, root: bool, head: list[str]) -> None:
    class Postgres:
        pw_uid = pw_gid = 4711

    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr("pwd.getpwnam", lambda _name: Postgres)
    assert unprivileged(["postgres", "-D", "data"])[:2] == head
