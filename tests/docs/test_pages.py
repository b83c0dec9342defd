"""Everything that README and documentation show in a block works as shown, on this version of Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, pages
from tests.docs.workshop import Workshop


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_works(page: Path, workshop: Workshop) -> None:
    for block in blocks(page):
        try:
            workshop.run(block)
        except (Exception, SystemExit) as error:
            error.add_note(f"in the block at {block.place}")
            raise
