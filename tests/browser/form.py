"""What a connection form shows, whichever Airflow draws it."""

from __future__ import annotations

from dataclasses import dataclass

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
