"""Environments with nothing but one version of the official SDK."""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def sdk_python(version: str) -> Path:
    """The interpreter of the environment of that version; made when it is not there yet."""
    folder = REPOSITORY / f".venv-sdk-{version}"
    python, finished = folder / "bin" / "python", folder / ".finished"
    folder.mkdir(exist_ok=True)
    # Two test runs must not build the same environment at once. (``.lock`` is a file uv itself waits for.)
    with (folder / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            _make(folder, python, f"diffio=={version}")
            finished.touch()
    return python


def _make(folder: Path, python: Path, requirement: str) -> None:
    uv = _uv()
    if uv is None:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", requirement)
    else:
        _run(*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _run(*uv, "pip", "install", "--quiet", "--python", str(python), requirement)


def _uv() -> list[str] | None:
    """How to call uv, if it is installed in one way or the other."""
    found = shutil.which("uv")
    if found is not None:
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") is not None else None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=600)
