"""The browser: Playwright drives whichever Chromium this machine has."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
#: An Airflow that has just started, on a machine with other things to do, takes its time.
PATIENCE_MS = 60_000


def missing() -> str | None:
    """Say what has to be installed before a browser can be started; None when nothing is missing."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: run `make browser`, which installs it and runs these tests"
    if _executable() is None:
        return "there is no Chromium: install the package chromium, or set CHROMIUM=/path/to/it"
    return None


@contextmanager
def browser() -> Iterator[Any]:
    """Start a browser for the length of a ``with`` block."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_executable(), args=ARGUMENTS)
        try:
            yield started
        finally:
            started.close()


def _executable() -> str | None:
    """Return the path of a Chromium: the one that is asked for, or the machine's."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)
