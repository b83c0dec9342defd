"""Every class of error is on the page that says what to do, and in the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from airflow_provider_diffio.api.errors import DiffioError
from tests.docs.blocks import ROOT

#: Classes that only group others: no error is directly one of them.
GROUPS = {"DiffioApiError", "DiffioConflictError", "DiffioGenerationError"}


def error_classes() -> Iterator[type[DiffioError]]:
    """Find each in the source. Those of another name are a module's own affair, and never reach a user."""
    for path in sorted((ROOT / "airflow_provider_diffio").rglob("*.py")):
        names = re.findall(r"^class (Diffio\w*Error)\b", path.read_text(), re.MULTILINE)
        for name in names:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield getattr(import_module(module), name)


CLASSES: set[type[DiffioError]] = {*error_classes()} - {DiffioError}


def place(cls: type[DiffioError]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def test_the_table_says_what_to_do_about_each() -> None:
    rows = re.findall(r"^\| (`Diffio.*?) \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(Diffio\w+)`", row)]
    assert sorted(named) == sorted({cls.__name__ for cls in CLASSES} - GROUPS)


def test_the_reference_has_each() -> None:
    shown = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(map(place, CLASSES | {DiffioError}))
