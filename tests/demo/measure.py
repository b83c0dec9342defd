"""How much better a restored recording is than the noisy one, against the clean speech beneath both.

Two figures, because either alone can be cheated: the signal-to-noise ratio against the clean speech says that
the words survived, the noise floor in the pauses between sentences says that the noise went. Both are taken
after alignment in time (an mp3 encoder delays) and at equal speech level (a restoration may turn the volume
up), so that neither delay nor loudness counts for or against.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, log10
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float64]

FRAME_SECONDS = 0.02
MARGIN_SECONDS = 0.1
"""Left out at both ends of a pause: echoes and codec smear of the neighbouring words are not noise."""

PAUSE_BELOW_SPEECH_DB = 50.0
SHORTEST_PAUSES_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 1.0
SILENCE_DB = -120.0


class MeasurementError(ValueError):
    """The recordings can not be compared."""


@dataclass(frozen=True)
class Sound:
    """One channel of audio."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Figures:
    """What was measured, in dB. Noise floors are relative to full scale at the clean speech's level."""

    noisy_snr_db: float
    restored_snr_db: float
    noisy_floor_db: float
    restored_floor_db: float

    @property
    def snr_gain_db(self) -> float:
        """By how much the signal-to-noise ratio rose."""
        return self.restored_snr_db - self.noisy_snr_db

    @property
    def floor_drop_db(self) -> float:
        """By how much the noise in the pauses fell."""
        return self.noisy_floor_db - self.restored_floor_db


@dataclass(frozen=True)
class Comparison:
    """Three recordings on one time axis and at one speech level, with what was measured on them."""

    clean: Sound
    noisy: Sound
    restored: Sound
    figures: Figures


def load(path: Path) -> Sound:
    """Read a recording (wav, flac, mp3, ...) as one channel."""
    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if not len(samples):
        raise MeasurementError(f"{path} holds no audio")
    return Sound(samples.mean(axis=1), rate)


def compare(noisy: Sound, clean: Sound, restored: Sound) -> Comparison:
    """Bring the noisy and the restored recording into line with the clean one and measure both."""
    pauses = find_pauses(clean)
    fitted_noisy = fit(noisy, clean)
    fitted_restored = fit(restored, clean)
    figures = Figures(
        noisy_snr_db=snr_db(fitted_noisy.samples, clean.samples),
        restored_snr_db=snr_db(fitted_restored.samples, clean.samples),
        noisy_floor_db=level_db(fitted_noisy.samples[pauses]),
        restored_floor_db=level_db(fitted_restored.samples[pauses]),
    )
    return Comparison(clean=clean, noisy=fitted_noisy, restored=fitted_restored, figures=figures)


def fit(sound: Sound, clean: Sound) -> Sound:
    """The recording at the clean one's rate, length, position in time and speech level."""
    aligned = align(resample(sound, clean.rate), clean)
    scale = speech_gain(aligned.samples, clean.samples)
    if scale <= 0:
        raise MeasurementError("the recording holds nothing of the clean speech")
    return Sound(aligned.samples / scale, clean.rate)


def resample(sound: Sound, rate: int) -> Sound:
    """The same sound at another sample rate."""
    if sound.rate == rate:
        return sound
    common = gcd(sound.rate, rate)
    return Sound(np.asarray(signal.resample_poly(sound.samples, rate // common, sound.rate // common)), rate)


def align(sound: Sound, clean: Sound) -> Sound:
    """Undo the delay against the clean recording, to a fraction of a sample, and cut to its length."""
    padding = round(LONGEST_DELAY_SECONDS * clean.rate)
    length = max(len(sound.samples), len(clean.samples)) + 2 * padding
    spectrum = np.fft.rfft(sound.samples, length)
    delay = _delay(np.fft.irfft(spectrum * np.fft.rfft(clean.samples, length).conj(), length), padding)
    shifted = np.fft.irfft(spectrum * np.exp(2j * np.pi * np.fft.rfftfreq(length) * delay), length)
    return Sound(shifted[: len(clean.samples)], clean.rate)


def _delay(correlation: Samples, longest: int) -> float:
    """Where a circular cross-correlation peaks, within the longest delay to either side."""
    near = np.concatenate([correlation[-longest:], correlation[: longest + 1]])
    peak = int(near[1:-1].argmax()) + 1
    before, top, after = near[peak - 1 : peak + 2]
    # The peak of the parabola through the three highest points: half a sample off already costs several dB.
    curvature = before - 2 * top + after
    return peak - longest + (0.5 * (before - after) / curvature if curvature else 0.0)


def speech_gain(samples: Samples, clean: Samples) -> float:
    """The factor by which the clean speech is contained in the samples (least squares)."""
    return float(samples @ clean / (clean @ clean))


def snr_db(samples: Samples, clean: Samples) -> float:
    """Scale-invariant signal-to-noise ratio: speech is what points the clean way, noise is all the rest."""
    speech = speech_gain(samples, clean) * clean
    return level_db(speech) - level_db(samples - speech)


def level_db(samples: Samples) -> float:
    """Root mean square relative to full scale; digital silence counts as ``SILENCE_DB``."""
    power = float(np.mean(samples**2))
    return max(10 * log10(power), SILENCE_DB) if power > 0 else SILENCE_DB


def find_pauses(clean: Sound) -> NDArray[np.bool_]:
    """Which samples lie well inside the silence between the sentences of the clean recording."""
    frame = round(FRAME_SECONDS * clean.rate)
    power = np.convolve(clean.samples**2, np.ones(frame) / frame, mode="same")
    silent = power < power.max() * 10 ** (-PAUSE_BELOW_SPEECH_DB / 10)
    margin = round(MARGIN_SECONDS * clean.rate)
    loud_nearby = np.convolve(~silent, np.ones(2 * margin + 1), mode="same") > 0.5
    pauses = ~loud_nearby
    if pauses.sum() < SHORTEST_PAUSES_SECONDS * clean.rate:
        raise MeasurementError("the clean recording has no pauses to measure the noise floor in")
    return pauses
