"""The picture is drawn, whole and wide enough to read."""

from __future__ import annotations

from pathlib import Path

from matplotlib import image

from tests.demo.measure import compare
from tests.demo.picture import draw
from tests.demo.test_measure import voice, with_noise


def test_a_wide_picture_is_written(tmp_path: Path) -> None:
    clean = voice(3.0)
    draw(compare(with_noise(clean, 8), clean, with_noise(clean, 25)), tmp_path / "new" / "before_after.png")
    height, width, _ = image.imread(tmp_path / "new" / "before_after.png").shape
    assert 1200 <= width <= 1600
    assert height >= 600
