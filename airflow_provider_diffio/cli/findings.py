"""What doctor found, and how it is shown: never with a secret."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

#: ``problem``: something will fail. ``note``: something may surprise. ``ok``: it was checked.
#: ``unknown``: it could not be checked from here.
Level = Literal["ok", "note", "unknown", "problem"]

_WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """
    One thing that was looked at.

    :ivar area: what it is about, such as ``key``.
    :ivar level: how bad it is.
    :ivar cause: what is, in a sentence.
    :ivar fix: what to do about it; empty where nothing is to be done.
    """

    area: str
    level: Level
    cause: str
    fix: str = ""


def without_secrets(findings: Iterable[Finding], secrets: Iterable[str]) -> list[Finding]:
    """Return findings in which no secret stands, wherever a message may have got it from."""
    hidden = sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return [
        Finding(finding.area, finding.level, clean(finding.cause), clean(finding.fix)) for finding in findings
    ]


def as_json(conn_id: str, findings: Sequence[Finding]) -> str:
    """Return findings for a program."""
    content = {"diffio_conn_id": conn_id, "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=2)


def as_text(conn_id: str, findings: Sequence[Finding]) -> str:
    """Return findings for a person: one paragraph each, problems with what to do."""
    area_width = max((len(finding.area) for finding in findings), default=0)
    lines = [f"Diffio connection {conn_id!r}"]
    for finding in findings:
        head = f"  {finding.level:<8} {finding.area:<{area_width}}  "
        lines += _wrapped(head, finding.cause)
        if finding.fix:
            lines += _wrapped(" " * (len(head) - 5) + "fix: ", finding.fix)
    problems = sum(finding.level == "problem" for finding in findings)
    lines.append("No problem found." if not problems else f"Problems found: {problems}.")
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
