"""Before and after, as spectrograms on one colour scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy import signal

from tests.demo.measure import Comparison, Sound

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

QUIETEST_DB = -85
LOUDEST_DB = -25
WIDTH_INCHES = 14
HEIGHT_INCHES = 8
DOTS_PER_INCH = 100
WINDOW_SECONDS = 0.032


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture as a PNG."""
    figures = comparison.figures
    rows = (
        ("Before", comparison.noisy, figures.noisy_snr_db, figures.noisy_floor_db),
        ("After", comparison.restored, figures.restored_snr_db, figures.restored_floor_db),
    )
    # A Figure of its own, without pyplot: no window system, no state left behind.
    picture = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, layout="constrained")
    axes = picture.subplots(len(rows), 1, sharex=True, sharey=True)
    for axis, (name, sound, snr, floor) in zip(axes, rows, strict=True):
        mesh = _spectrogram(axis, sound)
        title = f"{name}: speech {snr:.1f} dB above the noise; noise floor in the pauses {floor:.1f} dBFS"
        axis.set_title(title, loc="left", fontsize=13)
        axis.set_ylabel("kHz", fontsize=12)
    axes[-1].set_xlabel("seconds", fontsize=12)
    picture.colorbar(mesh, ax=axes, label="dBFS", pad=0.01, aspect=40)
    picture.suptitle(_heading(comparison), fontsize=17, fontweight="bold", x=0.012, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, facecolor="white")


def _heading(comparison: Comparison) -> str:
    """What changed, in one line."""
    figures = comparison.figures
    return (
        f"Noise floor {figures.floor_drop_db:.1f} dB lower, "
        f"speech {figures.snr_gain_db:.1f} dB further above the noise"
    )


def _spectrogram(axis: Axes, sound: Sound) -> QuadMesh:
    """One recording's spectrogram, in dB of full scale."""
    window = round(WINDOW_SECONDS * sound.rate)
    pitches, times, power = signal.spectrogram(
        sound.samples, sound.rate, window="hann", nperseg=window, noverlap=window * 3 // 4, scaling="spectrum"
    )
    axis.set_xlim(times[0], times[-1])
    return axis.pcolormesh(
        times,
        pitches / 1000,
        10 * np.log10(power + 1e-12),
        vmin=QUIETEST_DB,
        vmax=LOUDEST_DB,
        cmap="magma",
        shading="gouraud",
        rasterized=True,
    )
