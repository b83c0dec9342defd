"""
The rooms of the package and the arrows between them, as ``docs/architecture.md`` draws them.

Imports are read from the source: those inside of functions and those for type checkers count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import airflow_provider_diffio
from tests.features import INSTALLED

PACKAGE = "airflow_provider_diffio"
ROOT = Path(airflow_provider_diffio.__file__).parent

#: Each room with the rooms that it may import, highest first. A module at the package's root is a room of its
#: own. An arrow leads from a room to one that stands below it in this table.
ROOMS: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"assets", "hooks", "ledger", "storage", "api", "config", "_compat", "__init__"},
    "get_provider_info": {"hooks", "__init__"},
    "plugins": {"assets", "hooks", "api", "config", "_compat"},
    "decorators": {"operators", "steps", "api"},
    "operators": {"assets", "steps", "lineage", "links", "hooks", "api"},
    "sensors": {"steps", "lineage", "api", "_compat"},
    "assets": {"triggers", "api", "_compat"},
    "steps": {
        "triggers",
        "links",
        "manifest",
        "retry_policy",
        "hooks",
        "ledger",
        "storage",
        "api",
        "config",
        "_compat",
    },
    "triggers": {"hooks", "api", "_compat"},
    "lineage": {"hooks", "storage", "api"},
    "links": {"hooks", "storage"},
    "manifest": {"storage", "api"},
    "retry_policy": {"api", "_compat"},
    "hooks": {"ledger", "storage", "api"},
    "ledger": {"storage", "api"},
    "storage": {"api", "_compat"},
    "api": {"__init__"},
    "config": {"_compat"},
    "_compat": set(),
    "testing": {"sandbox"},
    "sandbox": set(),
    "__init__": set(),
}
MAX_ROOT_MODULES = 8
MAX_LINES = 400
MAY_BE_LONGER = {"api.endpoints", "api.models", "hooks.diffio"}
MAX_FUNCTION_LINES = 84
#: What the field has other words for.
RETIRED_WORDS = {
    "announcing", "answers", "aside", "bench", "buy", "fresh", "lab", "lanes", "leash", "leftovers", "look",
    "lookout", "memory", "order", "outcomes", "pace", "placement", "purchase", "quiet", "saving", "sighting",
    "task", "uploading", "values", "waiting", "watching",
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.partition(".")[0]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported_by(module: str) -> Iterator[str]:
    """Return the modules of ours that a module imports, wherever in it."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            base = node.module or ""
            names = [
                f"{base}.{alias.name}" if _ours(f"{base}.{alias.name}") else base for alias in node.names
            ]
        else:
            continue
        for name in names:
            if found := _ours(name):
                yield found


def _ours(name: str) -> str | None:
    if name == PACKAGE:
        return "__init__"
    inside = name.removeprefix(f"{PACKAGE}.")
    return inside if inside != name and inside in MODULES else None


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_room_and_its_arrows_are_allowed(module: str) -> None:
    room = room_of(module)
    assert room in ROOMS, f"place {room} in the table of rooms"
    forbidden = {name for name in imported_by(module) if room_of(name) not in ROOMS[room] | {room}}
    assert forbidden == set()


def test_every_arrow_leads_downwards_and_is_used() -> None:
    order = list(ROOMS)
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in MODULES:
        used[room_of(module)] |= {room_of(name) for name in imported_by(module)} - {room_of(module)}
    assert used == ROOMS
    assert [
        (room, other)
        for room, others in ROOMS.items()
        for other in others
        if order.index(other) < order.index(room)
    ] == []


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: set(imported_by(module)) - {module} for module in MODULES}
    while leaves := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in leaves}
    assert graph == {}


def test_few_modules_stand_at_the_root() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= MAX_ROOT_MODULES


@pytest.mark.parametrize(
    "module", [name for name in MODULES if room_of(name) not in ("_compat", "plugins", "sandbox")]
)
def test_only_one_module_asks_which_airflow_this_is(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(("airflow.sdk", "airflow.io", "airflow.version"))
            assert not (node.module == "airflow" and any(alias.name == "__version__" for alias in node.names))
        if isinstance(node, ast.Try) and any("ImportError" in ast.dump(handler) for handler in node.handlers):
            tried = [each for statement in node.body for each in ast.walk(statement)]
            assert not any(
                isinstance(each, ast.ImportFrom) and (each.module or "").startswith("airflow.")
                for each in tried
            )


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) != "sandbox"])
def test_modules_and_functions_stay_short(module: str) -> None:
    if module not in MAY_BE_LONGER:
        assert len(MODULES[module].read_text().splitlines()) <= MAX_LINES
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


def test_no_module_has_a_retired_name() -> None:
    names = {
        part.strip("_") for module in MODULES for part in module.split(".") if room_of(module) != "sandbox"
    }
    assert names & RETIRED_WORDS == set()


def test_the_api_layer_needs_no_airflow() -> None:
    modules = [f"{PACKAGE}.{module}" for module in MODULES if room_of(module) == "api"]
    assert f"{PACKAGE}.api.client" in modules
    program = (
        f"import sys, {', '.join(modules)};print(*(m for m in sys.modules if m.split('.')[0] == 'airflow'))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr.strip()) == (0, "", "")


IMPORT_EACH_ALONE = """
import importlib, os, sys
import aiohttp, requests, tenacity
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator
import airflow.triggers.base
assert BaseHook and BaseOperator and BaseSensorOperator
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_each_module_imports_alone() -> None:
    needs_more = set() if INSTALLED >= (3, 3) else {"retry_policy"}
    modules = [name for name in MODULES if room_of(name) != "sandbox" and name not in needs_more]
    names = [f"{PACKAGE}.{module}" for module in modules]
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_EACH_ALONE, *names]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line for line in run.stdout.splitlines() if line.startswith(PACKAGE)] == []
