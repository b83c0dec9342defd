"""No process of a tree escapes its end, whichever way it tries to."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import ProcessDiedError, ProcessTree, end_all, inherited_environment

CHILDREN = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
subprocess.Popen(sleep)                                # an ordinary child
subprocess.Popen(sleep, start_new_session=True)        # one that leads a session of its own
subprocess.Popen(sleep, env={})                        # one without the mark in its environment
print("started", flush=True)
time.sleep(300)
"""


def tree(code: str, folder: Path) -> ProcessTree:
    return ProcessTree("python", [sys.executable, "-c", code], inherited_environment(()), folder / "log")


def wait_for_output(started: ProcessTree) -> None:
    deadline = time.monotonic() + 20
    while "started" not in started.tail():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_descendant_is_ended(tmp_path: Path) -> None:
    family = tree(CHILDREN, tmp_path)
    family.start()
    wait_for_output(family)
    pids = [member.pid for member in family.members()]
    assert len(pids) == 4

    end_all([family])

    assert family.members() == []
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_orphans_are_ended_too(tmp_path: Path) -> None:
    family = tree(CHILDREN, tmp_path)
    family.start()
    wait_for_output(family)
    family.kill(signal.SIGKILL)
    assert family.wait(5)
    assert len(family.members()) == 3

    family.end()

    assert family.members() == []


def test_two_trees_are_told_apart(tmp_path: Path) -> None:
    first, second = tree(CHILDREN, tmp_path / "first"), tree(CHILDREN, tmp_path / "second")
    try:
        for each in (first, second):
            each.start()
            wait_for_output(each)
        first.end()
        assert len(second.members()) == 4
    finally:
        end_all([first, second])


def test_an_unexpected_death_is_told_with_the_last_output(tmp_path: Path) -> None:
    family = tree("print('out of coffee'); raise SystemExit(3)", tmp_path)
    family.start()
    family.wait(20)
    with pytest.raises(ProcessDiedError, match=r"(?s)exit code 3.*out of coffee"):
        family.check()


def test_a_death_that_was_asked_for_is_no_problem(tmp_path: Path) -> None:
    family = tree("import time; time.sleep(300)", tmp_path)
    family.start()
    family.kill(signal.SIGKILL)
    family.wait(5)
    family.check()


def test_a_tree_that_was_never_started_has_nothing_to_end(tmp_path: Path) -> None:
    end_all([tree("", tmp_path)])
