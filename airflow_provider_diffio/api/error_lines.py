"""An error as short lines, so that a log shows all of it without scrolling sideways."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from airflow_provider_diffio.api.errors import DiffioError

#: Characters of a line at most, but for a word that is longer. Airflow 3's log shows some 94 at 1,280 pixels.
LINE_WIDTH = 88
_INDENT = "    "


def error_lines(error: DiffioError, *, conn_id: str | None = None, money: str = "") -> Iterator[str]:
    """
    Give what happened, where, what to do, and what became of the money, each as one text of short lines.

    :param error: the error.
    :param conn_id: the Diffio connection it happened with, as far as known.
    :param money: what is said of the money when the error itself does not know.
    """
    yield _wrapped("", f"{type(error).__name__}: {error.message}")
    facts = [f"connection {conn_id!r}"] if conn_id else []
    if where := ", ".join([*facts, *error.facts()]):
        yield _wrapped("Where: ", where)
    advice = [error.advice] if error.advice else []
    if error.final:
        advice = advice or ["Change what is named above."]
        advice.append("There is no retry: it would end the same way.")
    if advice:
        yield _wrapped("What to do: ", " ".join(advice))
    if not error.money and error.may_be_billed:
        money = "A generation exists, or may exist, and is billed."
    if error.money or money:
        yield _wrapped("Money: ", error.money or money)


def _wrapped(label: str, text: str) -> str:
    lines: list[str] = []
    for paragraph in f"{label}{text}".splitlines():
        lines += textwrap.wrap(
            paragraph,
            LINE_WIDTH,
            initial_indent=_INDENT if lines else "",
            subsequent_indent=_INDENT,
            # An id or a path is copied from here, and must stay in one piece.
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
