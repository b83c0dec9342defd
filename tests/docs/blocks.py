"""The code blocks of a page: what stands between fences, and what a comment before it says about it."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>.*)")
#: How the site's builder is told to show a file. A form that is not Python, or the formatter would format it.
_INCLUDE = re.compile(r"^(?P<indent> *)--8<--\n *(?P<path>\S+)\n *--8<--$", re.MULTILINE)
_REMARK = re.compile(r"<!-- *(?P<text>.*?) *-->")


@dataclass(frozen=True)
class Block:
    """
    One fenced block.

    :ivar kind: the first word after the fence.
    :ivar title: the file name that the page shows above it, or ``""``.
    :ivar needs: the Airflow that it needs, as in ``<!-- Airflow 3.3 -->`` before it; ``""`` for any.
    """

    page: str
    line: int
    kind: str
    text: str
    title: str = ""
    needs: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page that has blocks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if any(True for _ in blocks(page))]


def blocks(page: Path) -> Iterator[Block]:
    """Give a page's blocks in their order."""
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    yield from blocks_of(page.read_text(), name)


def blocks_of(text: str, name: str) -> Iterator[Block]:
    """
    Give the blocks of a Markdown text.

    :raises ValueError: for a block that is never closed, or a remark that means nothing.
    """
    lines = iter(enumerate(text.splitlines(), 1))
    needs = ""
    for number, line in lines:
        if remark := _REMARK.fullmatch(line.strip()):
            needs = _needs(remark["text"], f"{name}:{number}")
            continue
        opening = _FENCE.fullmatch(line)
        if not opening:
            needs = needs if not line.strip() else ""
            continue
        inside = []
        for _, inner in lines:
            closing = _FENCE.fullmatch(inner)
            if closing and closing["marks"] == opening["marks"] and not closing["info"].strip():
                break
            inside.append(inner)
        else:
            raise ValueError(f"{name}:{number}: the block is never closed")
        kind, *options = shlex.split(opening["info"]) or [""]
        titles = [option.removeprefix("title=") for option in options if option.startswith("title=")]
        yield Block(
            name, number, kind, textwrap.dedent(_included("\n".join(inside))) + "\n", "".join(titles), needs
        )
        needs = ""


def _included(text: str) -> str:
    """Return a block with the file that it shows in its place."""

    def content(include: re.Match[str]) -> str:
        return textwrap.indent((ROOT / include["path"]).read_text().rstrip(), include["indent"])

    return _INCLUDE.sub(content, text)


def _needs(remark: str, place: str) -> str:
    version = re.fullmatch(r"Airflow (\d+(?:\.\d+)?)", remark)
    if remark.startswith("Airflow") and not version:
        raise ValueError(f"{place}: {remark!r} is no version, as in 'Airflow 3.3'")
    return version[1] if version else ""
