"""Every extra, alone in a clean environment, is enough for what it is for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import PROJECT, RECORDING, ROOT, VERSIONS, Built, run

if "DIFFIO_PACKAGE" not in os.environ:
    pytest.skip("needs the network and some minutes: run `make package`", allow_module_level=True)

STORES = {
    "amazon": ("s3",),
    "google": ("google",),
    "microsoft-azure": ("azure",),
    "sftp": ("openssh", "plain_sftp"),
}
OTHERS: dict[str, tuple[tuple[str, ...], Callable[[str], bool]]] = {
    "audio": ((str(RECORDING),), lambda said: float(said) > 1),
    "sandbox": ((str(RECORDING),), lambda said: int(said) > 1000),
    "webhooks": ((), lambda said: said == "400"),
    "openlineage": ((), lambda said: said.endswith("lineage.openlineage")),
}
#: The servers' own environment; without it only those run whose libraries are here.
SERVING = ROOT / ".venv-stores" / "bin" / "python"


def test_every_extra_for_users_is_tried() -> None:
    assert set(PROJECT["optional-dependencies"]) - {"docs", "dev"} == set(STORES) | set(OTHERS)


def installed(extra: str, uv: str, built: Built, path: Path) -> tuple[Path, dict[str, str]]:
    """Make an environment; give its Python, and the variables for it."""
    newest = VERSIONS[0]
    run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, path / "venv")
    python = path / "venv" / "bin" / "python"
    # Google's provider pins libraries that Airflow's own constraints do not go with.
    limits = () if extra == "google" else ("--constraint", ROOT / ".ci" / f"constraints-{newest}.txt")
    wanted = (f"apache-airflow=={newest}", f"airflow-provider-diffio[{extra}] @ file://{built.wheel}")
    run(uv, "pip", "install", "--quiet", "--python", python, *limits, *wanted)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    return python, {**kept, "AIRFLOW_HOME": str(path / "home"), "NO_PROXY": "127.0.0.1,localhost"}


def use(python: Path, env: dict[str, str], *arguments: str) -> str:
    """Run extra.py; return its result."""
    said = run(python, Path(__file__).with_name("extra.py"), *arguments, env=env)
    (result,) = re.findall(r"^result: (.*)$", said, re.MULTILINE)
    return str(result)


@contextmanager
def serving(kind: str) -> Iterator[dict[str, Any]]:
    """A store in a process of its own."""
    python = SERVING if SERVING.exists() else sys.executable
    command = [str(python), "-m", "tests.stores.serve", kind]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            pytest.skip(f"no server: {process.stderr.read().splitlines()[-1]}")
        yield json.loads(line)


@pytest.mark.parametrize("extra", STORES)
def test_an_extra_opens_its_store(extra: str, uv: str, built: Built, tmp_path: Path) -> None:
    python, env = installed(extra, uv, built, tmp_path)
    for kind in STORES[extra]:
        with serving(kind) as place:
            given = {**env, **place["env"], "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
            assert use(python, given, "stores", place["uri"], place["conn_id"]) == "22"


@pytest.mark.parametrize("extra", OTHERS)
def test_an_extra_does_what_it_is_for(extra: str, uv: str, built: Built, tmp_path: Path) -> None:
    python, env = installed(extra, uv, built, tmp_path)
    arguments, is_right = OTHERS[extra]
    said = use(python, env, extra, *arguments)
    assert is_right(said), said
