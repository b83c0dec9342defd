"""Real sound and video files of any length, made when a test needs them."""

from __future__ import annotations

import io
import math
import wave
from array import array
from pathlib import Path
from typing import Any

_RATE = 16_000


def samples(seconds: float, volume: float = 0.3) -> array[int]:
    """Return a tone, or silence where the volume is 0."""
    step = 2 * math.pi * 220 / _RATE
    return array("h", [int(32767 * volume * math.sin(step * n)) for n in range(int(seconds * _RATE))])


def wav(seconds: float, volume: float = 0.3) -> bytes:
    """Return a WAV file."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples(seconds, volume).tobytes())
    return target.getvalue()


def encoded(path: Path, seconds: float, *, codec: str, picture: bool = False, volume: float = 0.3) -> Path:
    """Write a file of the format that the path's suffix names."""
    import av

    with av.open(str(path), "w") as container:
        film: Any = container.add_stream("mpeg4", rate=10) if picture else None
        sound: Any = container.add_stream(codec, rate=_RATE)
        sound.layout = "mono"
        if film is not None:
            film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
            for _ in range(int(10 * seconds)):
                container.mux(film.encode(av.VideoFrame(32, 32, "yuv420p")))
            container.mux(film.encode(None))
        data = samples(seconds, volume)
        resampler = av.AudioResampler(format=sound.format, layout="mono", rate=_RATE)
        for start in range(0, len(data), 1024):
            piece = data[start : start + 1024]
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(piece))
            frame.sample_rate = _RATE
            frame.pts = start
            frame.planes[0].update(piece.tobytes() + bytes(frame.planes[0].buffer_size - 2 * len(piece)))
            for part in resampler.resample(frame):
                container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path
