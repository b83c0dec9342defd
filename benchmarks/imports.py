"""What it costs a DAG processor to import a module, over what it has imported already."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.environment import REPOSITORY

PEERS = {
    "databricks": "airflow.providers.databricks.operators.databricks",
    "dbt Cloud": "airflow.providers.dbt.cloud.operators.dbt",
    "airbyte": "airflow.providers.airbyte.operators.airbyte",
}
#: Folders whose modules a DAG file may import.
DAG_FACING = ("operators", "sensors", "triggers", "links.py", "notifications", "assets.py", "decorators")

_SCRIPT = """
import importlib, json, sys, time
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator
import airflow.triggers.base
if BaseOperator is None: raise SystemExit
before = set(sys.modules)
began = time.perf_counter()
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
seconds = time.perf_counter() - began
new = set(sys.modules) - before
ours = ("airflow", "airflow_provider_diffio")
foreign = {n.partition(".")[0] for n in new} - set(sys.stdlib_module_names) - set(ours)
known = {n.partition(".")[0] for n in before}
print(json.dumps({"ms": 1000 * seconds, "modules": len(new), "third_party": sorted(foreign - known)}))
"""


def dag_facing_modules() -> list[str]:
    """Return every module of this project that a DAG file may import."""
    package = REPOSITORY / "airflow_provider_diffio"
    found: list[Path] = []
    for name in DAG_FACING:
        place = package / name
        found += [place] if place.is_file() else sorted(place.glob("*.py"))
    parts = [path.relative_to(REPOSITORY).with_suffix("").parts for path in found]
    return [".".join(part for part in names if part != "__init__") for names in parts]


def measure(python: Path, home: Path, repeats: int) -> dict[str, Any]:
    """Import each module in processes of its own, in turn, and return the medians."""
    mine = dag_facing_modules()
    subjects = {name: [name] for name in mine} | {"all of ours": mine}
    subjects |= {name: [module] for name, module in PEERS.items()}
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in subjects}
    for modules in subjects.values():
        _import(python, home, modules)  # compiles what an installation has compiled
    for _ in range(repeats):
        for name, modules in subjects.items():
            times[name].append(_import(python, home, modules))
    return {
        name: {**found[0], "ms": statistics.median(run["ms"] for run in found)}
        for name, found in times.items()
    }


def _import(python: Path, home: Path, modules: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(python), "-W", "ignore", "-c", _SCRIPT, *modules]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
