"""The package, built as for a release, and environments that have nothing else but Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import start_sandbox_process
from tests.e2e.processes import inherited_environment

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECORDING = ROOT / "example_dags" / "recordings" / "noisy_speech.wav"
VERSIONS = ("3.3.2", "2.11.2")
COMMANDS = ("list", "get airflow-provider-diffio --full", "hooks", "triggers", "links")


def run(*command: str | Path, **options: Any) -> str:
    """Run a command that has to succeed; return its output."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, **options)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


@dataclass
class Built:
    """What goes to the package index."""

    sdist: Path
    wheel: Path


@dataclass
class Bare:
    """An environment with an Airflow and the wheel, without extras."""

    airflow: str
    path: Path
    uv: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def constraints(self) -> Path:
        return ROOT / ".ci" / f"constraints-{self.airflow}.txt"

    def installed(self) -> set[str]:
        """Return the names of all distributions."""
        listed = run(self.uv, "pip", "list", "--python", self.python, "--format", "json")
        return {row["name"] for row in json.loads(listed)}

    def resolved(self, requirements: list[str]) -> set[str]:
        """Return the names of what these requirements bring, with all that they require in turn."""
        compile_command = (self.uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate")
        options = ("--python", self.python, "--constraint", self.constraints)
        lines = run(*compile_command, *options, "-", input="\n".join(requirements))
        return {line.split("==")[0].split("[")[0] for line in lines.splitlines() if "==" in line}

    @cached_property
    def said(self) -> dict[str, str]:
        """What ``airflow providers`` answers, by its subcommands."""

        def ask(command: str) -> str:
            airflow = (self.python, "-m", "airflow", "providers")
            return run(*airflow, *command.split(), "-o", "json", env=self.env)

        ask(COMMANDS[0])  # makes the home
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(COMMANDS, pool.map(ask, COMMANDS), strict=True))

    @cached_property
    def found(self) -> dict[str, Any]:
        """What :mod:`tests.packaging.bare` finds there, with a sandbox that another environment runs."""
        results = self.path / "results"
        results.mkdir()
        with start_sandbox_process(processing_seconds=0.2, engine="passthrough") as sandbox:
            connection = {**sandbox.connection, "extra": {"webhook_secret": sandbox.webhook_secret}}
            env = {**self.env, "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection)}
            # -P: the package that is installed, not the one in the working directory
            run(self.python, "-P", Path(__file__).with_name("bare.py"), RECORDING, results, env=env)
        return dict(json.loads((results / "found.json").read_text()))


@pytest.fixture(scope="session")
def uv() -> str:
    return run("bash", "-c", 'source .ci/lib.sh && find_uv "$0"', sys.executable).strip()


@pytest.fixture(scope="session")
def built(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel that is made from the sdist."""
    target = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--quiet", "--out-dir", target, ROOT)
    ((sdist,), (wheel,)) = (list(target.glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    return Built(sdist, wheel)


@pytest.fixture(scope="session", params=VERSIONS)
def bare(
    request: pytest.FixtureRequest, uv: str, built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Bare:
    path = tmp_path_factory.mktemp(f"bare-{request.param}")
    env = {
        **inherited_environment(("AIRFLOW", "PYTHON")),
        "AIRFLOW_HOME": str(path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PATH": os.pathsep.join([str(path / "bin"), os.environ["PATH"]]),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    environment = Bare(request.param, path, uv, env)
    run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, path)
    install = (uv, "pip", "install", "--quiet", "--python", environment.python)
    run(*install, "--constraint", environment.constraints, f"apache-airflow=={request.param}", built.wheel)
    return environment
