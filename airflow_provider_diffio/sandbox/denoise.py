"""The clean-up: spectral gating by noisereduce with a noise profile taken from the recording's own quiet
moments, no rumble, and a soft gate in the pauses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import noisereduce
import numpy as np
from scipy import signal

from airflow_provider_diffio.sandbox.audio import Recording, Samples
from airflow_provider_diffio.sandbox.speech import FRAME_SECONDS, Activity, moving_average, quiet_samples

#: Seconds worked on at a time, and of context on either side so that no join is heard.
_BLOCK_SECONDS: Final = 15
_CONTEXT_SECONDS: Final = 1
_PROFILE_SECONDS: Final = 6.0

#: A bin must stand this many standard deviations above the noise to be kept ...
_THRESHOLD: Final = 1.4
#: ... and of the others this much is taken away: all of it would sound like water.
_REDUCTION: Final = 0.95
_SMOOTH_HZ: Final = 70
_SMOOTH_MS: Final = 36

#: No voice goes down here, but traffic, wind and handling do.
_RUMBLE_HZ: Final = 60

_PAUSE_GAIN: Final = 10 ** (-18 / 20)
_FADE_SECONDS: Final = 0.05


def clean(recording: Recording, activity: Activity) -> Iterator[Samples]:
    """The restored recording, block by block."""
    noise = quiet_samples(recording, activity, _PROFILE_SECONDS)
    gains = _pause_gains(activity)
    window = _window(recording.rate)
    # Whole hops, so that every block is cut into the same analysis frames as its neighbours.
    hop = window // 4
    size = _BLOCK_SECONDS * recording.rate // hop * hop
    context = _CONTEXT_SECONDS * recording.rate // hop * hop
    position = 0
    for block, begin in recording.blocks(size, context):
        cleaned = block if noise is None else _gate(block, noise, recording.rate, window)
        proper = cleaned[:, begin : begin + min(size, recording.frames - position)]
        yield proper * _gain_at(gains, recording.rate, position, proper.shape[1])
        position += proper.shape[1]


def _gate(block: Samples, noise: Samples, rate: int, window: int) -> Samples:
    # A tail shorter than the window cannot be analysed; padded, it can.
    padding = max(0, window - block.shape[1])
    padded = np.pad(block, ((0, 0), (0, padding)))
    cleaned = noisereduce.reduce_noise(
        y=padded,
        sr=rate,
        y_noise=noise,
        stationary=True,
        n_std_thresh_stationary=_THRESHOLD,
        prop_decrease=_REDUCTION,
        freq_mask_smooth_hz=_SMOOTH_HZ,
        time_mask_smooth_ms=_SMOOTH_MS,
        n_fft=window,
        chunk_size=padded.shape[1],
    )
    # Both ways, so that nothing is shifted in time.
    rumble = signal.butter(2, _RUMBLE_HZ, "highpass", fs=rate, output="sos")
    steady = signal.sosfiltfilt(rumble, np.asarray(cleaned).reshape(padded.shape), axis=1)
    result: Samples = steady[:, : block.shape[1]].astype(np.float32)
    return result


def _window(rate: int) -> int:
    """About 45 to 64 ms, long enough to tell the harmonics of a voice apart."""
    return 1 << int(np.ceil(np.log2(rate * 0.045)))


def _pause_gains(activity: Activity) -> Samples:
    """One gain per energy frame: 1 in speech, less in pauses, with fades in between."""
    speech = activity.in_speech(len(activity.energy))
    gains = np.where(speech, 1.0, _PAUSE_GAIN)
    return moving_average(gains, round(_FADE_SECONDS / FRAME_SECONDS)).astype(np.float32)


def _gain_at(gains: Samples, rate: int, first: int, count: int) -> Samples:
    frame = np.arange(first, first + count) / round(rate * FRAME_SECONDS) - 0.5
    return np.interp(frame, np.arange(len(gains)), gains).astype(np.float32)
