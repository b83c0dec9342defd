"""The scripts around the code: pinned versions are complete and portable, and no process outlives a check."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONSTRAINTS = sorted((ROOT / ".ci").glob("constraints-*.txt"))
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==[0-9][\w.!+-]*( ; [^/@:]+)?")

FAMILY = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True, env={})]
print(*(child.pid for child in children), flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(3)
"""


def test_each_airflow_that_make_knows_has_pinned_versions() -> None:
    versions = re.search(r"^VERSIONS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert versions is not None
    known = [*versions[1].split(), "lowest"]
    assert {path.name for path in CONSTRAINTS} == {f"constraints-{each}.txt" for each in known}


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_pinned_versions_name_no_index_and_no_machine(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_pinned_versions_cover_what_the_project_asks_for(path: Path) -> None:
    pinned = {match["name"] for line in path.read_text().splitlines() if (match := PIN.fullmatch(line))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in ("dev", "sandbox", "amazon", "webhooks"):
        wanted += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in wanted} - {project["name"]}
    assert names - pinned == set(), "run make constraints"


def test_the_lowest_versions_are_those_that_the_project_asks_for() -> None:
    pinned = (ROOT / ".ci" / "constraints-lowest.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # What others bring in a newer version anyway would hide a wrong bound, and so is pinned.
    bounds = [requirement.replace(">=", "==") for requirement in project["dependencies"]]
    assert len(bounds) > 3
    assert [bound for bound in bounds if bound not in pinned] == [], "run make constraints"


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert set(urls) == {"Documentation", "Changelog", "Source", "Issues"}
    assert [url for url in urls.values() if not url.startswith(urls["Source"])] == []
    folders = ("airflow_provider_diffio", "docs", "example_dags", ".github")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*.*") if path.is_file()]
    texts += [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]
    assert [path for path in texts if urls["Source"].encode() in path.read_bytes()] == []


def test_the_hooks_before_a_commit_run_targets_of_make_and_fetch_nothing() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        make, target = hook["entry"].split()
        assert (make, hook["language"]) == ("make", "system")
        assert re.search(rf"^{target}: ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def run_with_timeout(seconds: float, busy: float) -> tuple[subprocess.Popen[str], list[int]]:
    """A command under it that starts two processes, one of them in a session of its own; their ids."""
    script = [sys.executable, str(ROOT / ".ci" / "run_with_timeout.py"), str(seconds)]
    command = [*script, sys.executable, "-c", FAMILY, str(busy)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert started.stdout is not None
    return started, [int(pid) for pid in started.stdout.readline().split()]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


@pytest.mark.skipif(sys.platform != "linux", reason="adopting orphans is a service of Linux")
class TestRunWithTimeout:
    def test_what_a_command_leaves_behind_is_ended(self) -> None:
        started, children = run_with_timeout(seconds=60, busy=0.2)
        assert started.wait(30) == 3
        assert alive(children) == []

    def test_a_command_that_takes_too_long_is_ended(self) -> None:
        started, children = run_with_timeout(seconds=1.5, busy=300)
        assert started.wait(30) == 124
        assert alive(children) == []

    def test_an_interruption_ends_everything(self) -> None:
        started, children = run_with_timeout(seconds=60, busy=300)
        assert len(alive(children)) == 2
        time.sleep(0.2)
        os.kill(started.pid, signal.SIGTERM)
        assert started.wait(30) == 128 + signal.SIGTERM
        assert alive(children) == []
