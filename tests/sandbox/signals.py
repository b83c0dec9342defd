"""Recordings to restore, made here: something with a voice's harmonics, syllables and pauses, and noise."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Centre, width and strength of the formants of something like a vowel.
_FORMANTS = ((500.0, 250.0, 1.0), (1500.0, 300.0, 0.5), (2500.0, 400.0, 0.3))
_PITCH = 120.0


def voice(rate: int, seconds: float = 12.0, seed: int = 0) -> tuple[Samples, Mask]:
    """A voice, and where it speaks."""
    random = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    pitch = _PITCH + 20 * np.sin(np.pi * time) + 8 * np.sin(6 * np.pi * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros_like(time)
    for harmonic in range(1, min(40, int(rate * 0.45 / (_PITCH * 1.3)))):
        strength = 0.02 + sum(
            height * np.exp(-(((_PITCH * harmonic - centre) / width) ** 2))
            for centre, width, height in _FORMANTS
        )
        sound += strength * np.sin(harmonic * phase + random.uniform(0, 6))
    envelope = _syllables(len(time), rate, random)
    sound *= envelope
    return 0.5 * sound / np.abs(sound).max(), envelope > 0


def noise(count: int, kind: str, rate: int, seed: int = 1) -> Samples:
    """Stationary noise: white, pink, or pink with mains hum."""
    white = np.random.default_rng(seed).standard_normal(count)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    pink: Samples = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count)
    pink = np.divide(pink, pink.std())
    if kind == "pink":
        return pink
    time = np.arange(count) / rate
    overtones = np.arange(1, 8)[:, None]
    hum: Samples = np.sum(np.sin(100 * np.pi * overtones * time) / overtones, axis=0)
    return pink + hum


def mixed(clean: Samples, speaking: Mask, disturbance: Samples, decibels: float) -> Samples:
    """Voice and noise, the voice so many decibels louder while it speaks."""
    loudness = np.mean(clean[speaking] ** 2) / np.mean(disturbance**2)
    mix: Samples = clean + disturbance * np.sqrt(loudness / 10 ** (decibels / 10))
    return mix


def signal_to_noise(clean: Samples, heard: Samples) -> float:
    """How much of what is heard is the clean voice, in dB."""
    likeness = np.dot(clean, heard) / np.dot(clean, clean)
    rest = heard - likeness * clean
    return float(10 * np.log10(np.sum((likeness * clean) ** 2) / np.sum(rest**2)))


def floor(heard: Samples, speaking: Mask, rate: int) -> float:
    """Level of the pauses, in dB, away from the syllables around them."""
    width = int(0.05 * rate)
    spoken = np.cumsum(np.pad(speaking.astype(int), (width + 1, width)))
    near = spoken[2 * width + 1 :] > spoken[: -2 * width - 1]
    return float(10 * np.log10(np.mean(heard[~near] ** 2)))


def wav(samples: Samples, rate: int, **options: Any) -> bytes:
    """A sound file's bytes; another ``format`` on request."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


def read(content: bytes) -> tuple[Samples, int]:
    """A sound file's samples and rate."""
    samples, rate = soundfile.read(io.BytesIO(content))
    return samples, rate


def _syllables(count: int, rate: int, random: np.random.Generator) -> Samples:
    envelope = np.zeros(count)
    at = 0.4
    while at < count / rate - 1:
        length = random.uniform(0.12, 0.3)
        first, last = int(at * rate), int((at + length) * rate)
        envelope[first:last] = np.maximum(
            envelope[first:last], np.hanning(last - first) * random.uniform(0.5, 1)
        )
        at += length * 0.9
        if random.random() < 0.18:
            at += random.uniform(0.4, 0.9)
    return envelope
