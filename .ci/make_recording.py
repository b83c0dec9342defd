"""Make the example recording: synthetic speech, and the same speech under hiss, mains hum and a fan.

Only needed to change the recording; both files are committed. Needs the ``espeak-ng`` program.
The noise is seeded, so that the same espeak-ng gives the same files.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float64]

RECORDINGS = Path(__file__).parents[1] / "example_dags" / "recordings"
RATE = 16_000
SEED = 20_261_121
SNR_DB = 8.0
PAUSE_SECONDS = 0.75
SPEECH_LEVEL_DBFS = -24.0
SENTENCES = (
    "The harbour was quiet before sunrise.",
    "We recorded this interview beside an old refrigerator.",
    "Its motor hums, the fan turns, and the tape hisses.",
    "Every word should still be easy to follow.",
)


def speak(sentence: str) -> Samples:
    """Read one sentence aloud and cut the silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "sentence.wav"
        command = ["espeak-ng", "-v", "en-us", "-s", "155", "-p", "42", "-w", str(spoken), sentence]
        subprocess.run(command, check=True)  # noqa: S603
        samples, rate = soundfile.read(spoken, dtype="float64")
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    return np.asarray(signal.resample_poly(samples[loud[0] : loud[-1] + 1], RATE, rate))


def speech() -> Samples:
    """All sentences, each after a pause, at a steady level."""
    pause = np.zeros(round(PAUSE_SECONDS * RATE))
    parts = [part for sentence in SENTENCES for part in (pause, speak(sentence))]
    samples = np.concatenate([*parts, pause])
    return np.asarray(samples * 10 ** (SPEECH_LEVEL_DBFS / 20) / rms(samples))


def rms(samples: Samples) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(samples**2)))


def normalised(samples: Samples) -> Samples:
    """The same sound at a level of one, so that a mix can be written as plain weights."""
    return np.asarray(samples / rms(samples))


def hiss(length: int, random: np.random.Generator) -> Samples:
    """Tape hiss: white noise with less bass."""
    return normalised(
        signal.sosfilt(signal.butter(1, 600, "highpass", fs=RATE, output="sos"), white(length, random))
    )


def hum(length: int) -> Samples:
    """Mains hum: 50 Hz and its harmonics."""
    time = np.arange(length) / RATE
    harmonics = {50: 1.0, 100: 0.8, 150: 0.5, 200: 0.25, 250: 0.3, 350: 0.15}
    return normalised(
        sum(
            (level * np.sin(2 * np.pi * pitch * time + pitch) for pitch, level in harmonics.items()), 0 * time
        )
    )


def fan(length: int, random: np.random.Generator) -> Samples:
    """A fan: low rushing air that swells a little with every blade, and the whine of its motor."""
    time = np.arange(length) / RATE
    air = normalised(
        signal.sosfilt(signal.butter(2, [120, 900], "bandpass", fs=RATE, output="sos"), white(length, random))
    )
    return normalised(
        air * (1 + 0.2 * np.sin(2 * np.pi * 23 * time)) + 0.25 * np.sin(2 * np.pi * 1_180 * time)
    )


def white(length: int, random: np.random.Generator) -> Samples:
    """White noise."""
    return random.standard_normal(length)


def noise(length: int) -> Samples:
    """What the refrigerator, the room and the tape add, at a level of one."""
    random = np.random.default_rng(SEED)
    return normalised(0.8 * hiss(length, random) + 0.8 * hum(length) + 0.4 * fan(length, random))


def main() -> None:
    """Write ``clean_speech.flac`` and ``noisy_speech.wav``."""
    clean = speech()
    noisy = clean + noise(len(clean)) * rms(clean) * 10 ** (-SNR_DB / 20)
    RECORDINGS.mkdir(parents=True, exist_ok=True)
    for name, samples in {"clean_speech.flac": clean, "noisy_speech.wav": noisy}.items():
        soundfile.write(RECORDINGS / name, samples, RATE, subtype="PCM_16")
        size = (RECORDINGS / name).stat().st_size
        print(f"{name}: {len(samples) / RATE:.1f} s, {size // 1024} KiB, peak {np.abs(samples).max():.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
