"""Power cuts: every state of the disk that POSIX permits is judged, and promises that are taken back show."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.powercut.check import SCENARIOS, check, retry


def strace_works() -> bool:
    """Whether processes may be traced here: containers often forbid it."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not strace_works(), reason="no strace: install Debian's package strace")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_file_is_the_old_one_or_the_whole_new_one(name: str) -> None:
    result = check(SCENARIOS[name])
    assert result.failures == []
    assert result.cuts >= 6
    assert result.states >= 15


def test_a_retry_after_a_power_cut_writes_the_file_and_leaves_nothing() -> None:
    scenario = SCENARIOS["a new file in new directories"]
    trees = check(scenario).trees
    assert len(trees) > 30
    assert [problem for tree in trees if (problem := retry(tree, scenario))] == []


@pytest.mark.parametrize(
    ("fault", "name", "problem"),
    [
        ("only the leaf directory is synced", "a new file in new directories", "succeeded.*is gone"),
        ("only the leaf directory is synced", "a retry after a kill", "succeeded.*is gone"),
        ("no directory is synced", "a new file", "succeeded.*is gone"),
        ("no directory is synced", "a file that is replaced", "succeeded.*is the old one"),
        ("the file is not synced", "a file that is replaced", r"of 81923 bytes, or wrong"),
        ("in place", "a file that is replaced", r"of 81923 bytes, or wrong"),
    ],
)
def test_a_promise_that_is_taken_back_is_found(fault: str, name: str, problem: str) -> None:
    failures = check(SCENARIOS[name], fault).failures
    assert failures
    assert any(re.search(problem, failure) for failure in failures)
