"""Cut the power at each point of a write, and judge every state of the disk that may result."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_diffio.storage import resolve
from tests.powercut import writing
from tests.powercut.disk import Disk, Tree
from tests.powercut.trace import record

OLD = b"what was there before"
NEW = bytes(range(256)) * 320 + b"end"  # 80 KiB and a bit: three writes
TARGET = "a.wav"


@dataclass(frozen=True)
class Scenario:
    """
    What is written where.

    :ivar path: the file, below a directory that is there.
    :ivar mode: of ``writing.py``.
    :ivar old: whether the file exists.
    :ivar abandoned: whether a killed process left a hidden file and unsynced directories.
    """

    path: str
    mode: str
    old: bool = False
    abandoned: bool = False


SCENARIOS = {
    "a new file": Scenario("a.wav", "replace"),
    "a file that is replaced": Scenario("a.wav", "replace", old=True),
    "a new file in new directories": Scenario("run/1/a.wav", "replace"),
    "a new file that must not replace one": Scenario("a.wav", "error"),
    "the same in new directories": Scenario("run/1/a.wav", "error"),
    "a retry after a kill": Scenario("run/1/a.wav", "replace", abandoned=True),
    "an entry of a ledger": Scenario("ledger/records/000001", "record"),
    "the check before money is spent": Scenario("a.wav", "check", old=True),
}


@dataclass
class Result:
    """
    What came of one scenario.

    :ivar cuts: points at which the power was cut.
    :ivar states: different states of the disk, at each of them.
    :ivar failures: states that must not be.
    :ivar trees: all different states.
    """

    cuts: int = 0
    states: int = 0
    failures: list[str] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)


def check(scenario: Scenario, *faults: str) -> Result:
    """Trace the writing, and judge what a power cut may leave of it."""
    with tempfile.TemporaryDirectory(prefix="diffio-powercut-") as made:
        home = Path(made).resolve()
        root = home / "disk"
        target = root / scenario.path
        unsynced = prepare(scenario, root)
        disk = Disk(root, writing.PUBLISHED, unsynced)
        command = [sys.executable, writing.__file__, str(target), scenario.mode, *faults]
        disk.follow(record(command, home / "trace", NEW))
        held = {str(path.relative_to(root)): contents_of(path) for path in root.rglob("*")}
    assert disk.succeeded_at < float("inf")
    result = Result()
    found: set[tuple[tuple[str, bytes | None], ...]] = set()
    for cut in points(disk):
        here = {tuple(sorted(tree.items(), key=str)): tree for tree in disk.states_after(cut)}
        result.cuts += 1
        result.states += len(here)
        for tree in here.values():
            if problem := judge(tree, scenario, is_done=cut >= disk.succeeded_at):
                result.failures.append(f"cut after call {cut} of {disk.calls}: {problem}")
        result.trees += [tree for key, tree in here.items() if key not in found]
        found |= set(here)
    assert disk.uncut() == held, "the calls do not explain what is on the disk"
    return result


def contents_of(path: Path) -> bytes | None:
    """The bytes of a file, None for a directory."""
    return None if path.is_dir() else path.read_bytes()


def retry(tree: Tree, scenario: Scenario) -> str | None:
    """Write again on a disk in some state; say what is wrong then, None if nothing is."""
    if scenario.mode == "record":
        return None  # it is not written again: who finds it there goes on from it
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None  # there a sync costs nothing
    with tempfile.TemporaryDirectory(prefix="diffio-powercut-", dir=fast) as root:
        for name, content in sorted(tree.items()):
            if content is None:
                Path(root, name).mkdir()
            else:
                Path(root, name).write_bytes(content)
        target = Path(root, scenario.path)
        with resolve(str(target)).writer() as writer:
            writer.write(NEW)
        left = sorted(each.name for each in target.parent.iterdir() if each.is_file())
        if target.read_bytes() != NEW or left != [TARGET]:
            return f"a retry leaves {left}"
    return None


def prepare(scenario: Scenario, root: Path) -> list[Path]:
    """Make what is there before."""
    root.mkdir()
    if scenario.old:
        (root / scenario.path).write_bytes(OLD)
    if not scenario.abandoned:
        return []
    parent = (root / scenario.path).parent
    parent.mkdir(parents=True)
    (parent / f".{TARGET}.{'0' * 32}.part").write_bytes(NEW[:100])
    return [parent, parent.parent]


def points(disk: Disk) -> Iterator[int]:
    """After each call that changed anything, and when it was over."""
    ended = {event.ended for event in disk.events}
    synced = {event.durable_at for event in disk.events}
    yield from sorted(int(each) for each in {0, *ended, *synced, disk.succeeded_at} if each < float("inf"))


def judge(tree: Tree, scenario: Scenario, *, is_done: bool) -> str | None:
    """Say what is wrong with a state, None if nothing is."""
    held = tree.get(scenario.path)
    if scenario.mode == "check":
        return None if held == OLD else f"the old file {say(held)}"
    if held == NEW:
        return None
    if is_done:
        return f"the task had succeeded, and the file {say(held)}"
    if scenario.old:
        return None if held == OLD else f"the old file was there, and now the file {say(held)}"
    return None if held is None else f"the file {say(held)}"


def say(held: bytes | None) -> str:
    """Describe what is at the destination."""
    if held is None:
        return "is gone"
    return "is the old one" if held == OLD else f"has {len(held)} of {len(NEW)} bytes, or wrong ones"


def main() -> int:
    """Check all, and print it."""
    failed = 0
    total = 0
    for name, scenario in SCENARIOS.items():
        result = check(scenario)
        total += result.states
        result.failures += [problem for tree in result.trees if (problem := retry(tree, scenario))]
        failed += len(result.failures)
        print(f"{name:40} {result.cuts:4} cuts {result.states:6} states {len(result.failures):4} failures")
        for failure in result.failures[:5]:
            print(f"    {failure}")
    print(f"{total} states of the disk, {failed} failures")
    return 1 if failed else 0
