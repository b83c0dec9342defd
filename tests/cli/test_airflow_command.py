"""``airflow`` itself: it works with what this provider adds to it, and starts as fast as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.features import INSTALLED
from tests.subprocess_code import lines_printed_by

HAS_COMMANDS = INSTALLED >= (3, 2)


def airflow(*words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "airflow")
    return subprocess.run(
        [program, *words], env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False
    )


def test_airflow_help_works_and_names_diffio_where_it_can() -> None:
    run = airflow("--help")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert ("diffio" in run.stdout) == HAS_COMMANDS


@pytest.mark.skipif(not HAS_COMMANDS, reason="Airflow before 3.2 has no commands of providers")
def test_airflow_diffio_doctor_ends_with_its_exit_code() -> None:
    run = airflow("diffio", "doctor", "no_such_connection", "--json")
    assert run.returncode == 1, run.stderr
    found = json.loads(run.stdout[run.stdout.index("{") :])["findings"]
    assert "There is no connection 'no_such_connection'" in found[0]["cause"]


@pytest.mark.skipif(not HAS_COMMANDS, reason="Airflow before 3.2 has no commands of providers")
def test_the_definition_costs_no_command_more_than_some_milliseconds() -> None:
    code = """
import sys, time
import airflow.cli.cli_config
before = set(sys.modules)
began = time.perf_counter()
from airflow_provider_diffio.cli.definition import get_commands
get_commands()
print(time.perf_counter() - began)
print(sorted(name for name in set(sys.modules) - before if not name.startswith("airflow_provider_diffio")))
print(sorted(name for name in set(sys.modules) - before if name.startswith("airflow_provider_diffio")))
"""
    *_, seconds, others, ours = lines_printed_by(code)
    assert others == "[]"
    names = (".cli", ".cli.commands", ".cli.definition")
    assert ours == str([f"airflow_provider_diffio{name}" for name in names])
    assert float(seconds) < 0.05


def test_the_description_costs_no_command_more_than_some_milliseconds() -> None:
    """Every command of Airflow 3.2 and later asks for it, since it may name commands."""
    code = """
import sys
before = {*sys.modules, *sys.stdlib_module_names}
from airflow_provider_diffio.get_provider_info import get_provider_info
get_provider_info()
new = {name for name in set(sys.modules) - before if name.partition(".")[0] not in before}
print(sorted(name for name in new if not name.startswith("airflow_provider_diffio")))
print(sorted(name for name in new if name.startswith("airflow_provider_diffio")))
"""
    *_, others, ours = lines_printed_by(code)
    assert others == "[]"
    names = ("", ".api", ".api.defaults", ".get_provider_info", ".hooks", ".hooks.connection_fields")
    assert ours == str([f"airflow_provider_diffio{name}" for name in names])
