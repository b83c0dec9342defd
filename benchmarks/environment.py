"""The environment that holds the peers' packages next to this project, and the scratch folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / ".bench"
PEERS = (
    "apache-airflow-providers-databricks==7.23.0",
    "apache-airflow-providers-dbt-cloud==4.11.1",
    "apache-airflow-providers-airbyte==6.2.0",
)
CONSTRAINTS = ".ci/constraints-3.3.2.txt"


def bench_python() -> Path:
    """Return the interpreter of the environment with the peers; made when it is not there yet."""
    folder = REPOSITORY / ".venv-bench"
    python, finished = folder / "bin" / "python", folder / ".finished"
    wanted = "\n".join(PEERS)
    if not finished.exists() or finished.read_text() != wanted:
        print("making .venv-bench with the peers' packages", file=sys.stderr)
        finished.unlink(missing_ok=True)
        _make(folder, python)
        finished.write_text(wanted)
    return python


def _make(folder: Path, python: Path) -> None:
    packages = ["apache-airflow==3.3.2", *PEERS, "trustme>=1.2", "--editable", str(REPOSITORY)]
    arguments = ["--quiet", "--constraint", str(REPOSITORY / CONSTRAINTS), *packages]
    uv = shutil.which("uv") or _own_uv()
    if uv is None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", *arguments], check=True)
        return
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    subprocess.run([uv, "pip", "install", "--python", str(python), *arguments], check=True)


def _own_uv() -> str | None:
    own = REPOSITORY / ".tools" / "uv" / "bin" / "uv"
    return str(own) if own.exists() else None
