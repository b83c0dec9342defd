"""The map for contributors shows the rooms, the arrows and the modules that there are."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT
from tests.test_architecture import MODULES, ROOMS, room_of

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the tables behind a heading: the cells of each row, by the name in the first one."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in found}


def test_it_shows_the_rooms_and_the_arrows_from_the_top_to_the_bottom() -> None:
    shown = {room: set(re.findall(r"`(\w+)`", cells[-1])) for room, cells in rows("The rooms").items()}
    held = {room: others - {"__init__"} for room, others in ROOMS.items() if room != "__init__"}
    assert shown == held
    assert list(shown) == list(held)


def test_it_has_a_line_for_every_module() -> None:
    shown = {name.removesuffix(".py").replace("/", ".") for name in rows("The modules")}
    assert shown == {
        name for name, path in MODULES.items() if path.name != "__init__.py" and room_of(name) != "sandbox"
    }
