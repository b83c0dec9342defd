"""Where somebody speaks and where nobody does: energy against the recording's own noise floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import signal

from airflow_provider_diffio.sandbox.audio import Recording, Samples

Floats = npt.NDArray[np.float64]

#: Length of one energy reading, in seconds.
FRAME_SECONDS: Final = 0.01
_SPEECH_BAND: Final = (150.0, 3800.0)
_SMOOTHING_FRAMES: Final = 5
_FLOOR_PERCENTILE: Final = 10.0
#: How far above the floor speech begins and ends, in dB.
_ONSET_DB: Final = 6.0
_OFFSET_DB: Final = 4.0
#: A recording whose loud and quiet moments differ less than this has no pauses to find.
_MINIMUM_RANGE_DB: Final = 8.0
_SHORTEST_SPEECH: Final = 0.08
_SHORTEST_PAUSE: Final = 0.25
_LEAD_SECONDS: Final = 0.08
_TAIL_SECONDS: Final = 0.15
_SILENCE: Final = 1e-8


@dataclass(frozen=True)
class Activity:
    """The recording's energy over time, and the spans in which somebody speaks."""

    #: Mean square of every frame, whole band.
    energy: Floats
    #: (start, end) in seconds.
    segments: tuple[tuple[float, float], ...]

    def in_speech(self, frames: int) -> npt.NDArray[np.bool_]:
        """For each of the first ``frames`` energy frames, whether it is speech."""
        mask = np.zeros(frames, dtype=bool)
        for start, end in self.segments:
            mask[int(start / FRAME_SECONDS) : int(np.ceil(end / FRAME_SECONDS))] = True
        return mask


def listen(recording: Recording) -> Activity:
    """Go through a recording once and find its speech."""
    size = round(recording.rate * FRAME_SECONDS)
    high = min(_SPEECH_BAND[1], recording.rate * 0.45)
    band = signal.butter(4, (_SPEECH_BAND[0], high), "bandpass", fs=recording.rate, output="sos")
    memory = np.zeros((band.shape[0], 2))
    energy, voice = [], []
    for block, _ in recording.blocks(size * 3000):
        mono = block.mean(axis=0, dtype=np.float64)
        filtered, memory = signal.sosfilt(band, mono, zi=memory)
        energy.append(_mean_squares(mono, size))
        voice.append(_mean_squares(filtered, size))
    return Activity(np.concatenate(energy), _segments(np.concatenate(voice), recording.seconds))


def quiet_samples(recording: Recording, activity: Activity, seconds: float) -> Samples | None:
    """The quietest moments, mono and joined together: what the noise alone sounds like.

    Digital silence is left out, for it says nothing about the noise. None if nothing is left.
    """
    span = 10
    count = len(activity.energy) // span
    energy = activity.energy[: count * span].reshape(count, span).mean(axis=1)
    audible = np.flatnonzero(energy > _SILENCE)
    if len(audible) == 0:
        return None
    wanted = max(5, min(len(audible) // 8, int(seconds / (span * FRAME_SECONDS))))
    quietest = np.sort(audible[np.argsort(energy[audible])[:wanted]])
    size = round(recording.rate * FRAME_SECONDS) * span
    return np.concatenate(recording.spans([int(index) * size for index in quietest], size))


def transcript(activity: Activity) -> dict[str, Any]:
    """Segments with times. There is no speech recogniser here, so the words are not known."""
    return {
        "segments": [
            {
                "start": round(start, 3),
                "end": round(end, 3),
                "text": "[speech]",
                "words": [{"word": "[speech]", "start": round(start, 3), "end": round(end, 3)}],
            }
            for start, end in activity.segments
        ]
    }


def moving_average(values: Floats, width: int) -> Floats:
    """The mean of ``width`` neighbours; as long as ``values``, however short they are."""
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _mean_squares(samples: Floats, size: int) -> Floats:
    """Mean square per frame; a shorter last frame counts as one."""
    starts = np.arange(0, len(samples), size)
    sums: Floats = np.add.reduceat(samples**2, starts)
    return sums / np.minimum(size, len(samples) - starts)


def _segments(energy: Floats, seconds: float) -> tuple[tuple[float, float], ...]:
    audible = energy > _SILENCE
    if not audible.any():
        return ()
    smooth = moving_average(energy, _SMOOTHING_FRAMES)
    level = 10 * np.log10(np.maximum(smooth, _SILENCE))
    floor, top = np.percentile(level[audible], (_FLOOR_PERCENTILE, 95.0))
    if top - floor < _MINIMUM_RANGE_DB:
        return ((0.0, seconds),)
    runs = _runs(level, floor + _ONSET_DB, floor + _OFFSET_DB)
    spans: list[tuple[float, float]] = []
    for first, last in runs:
        if (last - first) * FRAME_SECONDS < _SHORTEST_SPEECH:
            continue
        start = max(0.0, first * FRAME_SECONDS - _LEAD_SECONDS)
        end = min(seconds, last * FRAME_SECONDS + _TAIL_SECONDS)
        if spans and start - spans[-1][1] < _SHORTEST_PAUSE - _LEAD_SECONDS - _TAIL_SECONDS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)


def _runs(level: Floats, onset: float, offset: float) -> list[tuple[int, int]]:
    """Stretches that rise above ``onset`` and last until they fall below ``offset``."""
    above = np.concatenate(([False], level > offset, [False]))
    edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
    return [(int(first), int(last)) for first, last in edges if level[first:last].max() > onset]
