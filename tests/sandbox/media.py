"""Recordings in containers, made with PyAV: with moving pictures or without."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from tests.sandbox import signals


def as_media(
    container: str,
    codec: str,
    *,
    picture: str | None = None,
    seconds: float = 4.0,
    size: tuple[int, int] = (64, 48),
    rate: int = 48000,
    pixels: str = "yuv420p",
) -> bytes:
    """A voice in a container, with moving pictures of a codec if one is named."""
    voice, _ = signals.voice(rate, seconds)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        video = out.add_stream(picture, rate=25) if picture else None
        audio = out.add_stream(codec, rate=rate)
        audio.layout = "mono"
        if video is not None:
            video.width, video.height, video.pix_fmt = *size, pixels
            for number in range(int(25 * seconds)):
                image = np.full((size[1], size[0], 3), number % 255, np.uint8)
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(voice[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        length = audio.codec_context.frame_size or 1024
        resampler = av.AudioResampler(audio.format.name, "mono", rate, frame_size=length)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(audio.encode(piece))
        out.mux(audio.encode(None))
    return file.getvalue()


def with_broken_pictures(recording: bytes, container: str) -> bytes:
    """The same recording with noise in the place of every picture."""
    file = io.BytesIO()
    with av.open(io.BytesIO(recording)) as source, av.open(file, "w", format=container) as out:
        streams: dict[Any, Any] = {it: out.add_stream_from_template(it) for it in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "video":
                copy = av.Packet(b"\xa5" * packet.size)
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.stream = streams[packet.stream]
            out.mux(copy)
    return file.getvalue()
