"""What a user sees and does, whichever Airflow draws the pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A window that shows a whole form, and one of usual size.
FORM = {"width": 1280, "height": 1500}
PAGE = {"width": 1280, "height": 760}


@dataclass(frozen=True)
class Field:
    """One field of a form."""

    kind: str
    """``text``, ``password``, ``number``, ``textarea``."""
    value: str
    placeholder: str
    help: str
    """The text below it, and a value that is shown as text."""


class User:
    """Somebody in front of a browser."""

    def __init__(self, page: Any, url: str, pictures: Path) -> None:
        self.page = page
        self.url = url
        self._pictures = pictures

    def link(self, name: str) -> str:
        """Return where a link on this page leads."""
        return str(self.page.get_by_role("link", name=name, exact=True).get_attribute("href"))

    def photograph_page(self, name: str) -> None:
        """Write a picture of all that is in a window of usual size."""
        self.page.set_viewport_size(PAGE)
        self.page.screenshot(path=self._pictures / f"{name}.png", animations="disabled")
        self.page.set_viewport_size(FORM)
