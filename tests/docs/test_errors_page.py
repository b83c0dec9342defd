"""Every class of error is on the page that says what to do, and in the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.steps.task_state import DiffioTaskStateError
from tests.docs.blocks import ROOT

#: Classes that only group others: no error is directly one of them.
GROUPS = {"DiffioApiError", "DiffioConflictError", "DiffioGenerationError"}


def subclasses(cls: type[DiffioError]) -> Iterator[type[DiffioError]]:
    for sub in cls.__subclasses__():
        # Others are a module's own affair, and never reach a user.
        if sub.__module__ == DiffioError.__module__:
            yield sub
            yield from subclasses(sub)


CLASSES: set[type[DiffioError]] = {DiffioTaskStateError, *subclasses(DiffioError)}


def test_the_table_says_what_to_do_about_each() -> None:
    rows = re.findall(r"^\| (`Diffio.*?) \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(Diffio\w+)`", row)]
    assert sorted(named) == sorted({cls.__name__ for cls in CLASSES} - GROUPS)


def test_the_reference_has_each() -> None:
    shown = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "errors.md").read_text(), re.MULTILINE)
    public = {f"{cls.__module__}.{cls.__qualname__}" for cls in CLASSES | {DiffioError}}
    assert sorted(shown) == sorted(public)
