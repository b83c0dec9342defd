"""Reading any recording, writing MP3 and MP4. Works in blocks, however long the recording is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float32]

#: What an MP3 can carry.
_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
#: Of libsndfile's scale from 0 (largest, best) to 1.
_COMPRESSION: Final = 0.1
_BLOCK_FRAMES: Final = 1 << 18


class UnreadableError(Exception):
    """A file that holds no sound anybody could decode."""


@dataclass(frozen=True)
class Recording:
    """A decoded recording: a float file on disk, mono or stereo, at a rate an MP3 can have."""

    path: Path
    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.frames / self.rate

    def blocks(self, size: int, context: int = 0) -> Iterator[tuple[Samples, int]]:
        """Consecutive blocks as (channels, frames), each with up to ``context`` frames around it,
        and where in it the block proper begins.
        """
        with soundfile.SoundFile(self.path) as file:
            for begin in range(0, self.frames, size):
                first = max(0, begin - context)
                last = min(self.frames, begin + size + context)
                file.seek(first)
                yield file.read(last - first, dtype="float32", always_2d=True).T, begin - first

    def spans(self, starts: Iterable[int], size: int) -> list[Samples]:
        """Pieces of ``size`` frames, mono."""
        pieces = []
        with soundfile.SoundFile(self.path) as file:
            for start in starts:
                file.seek(start)
                pieces.append(file.read(size, dtype="float32", always_2d=True).mean(axis=1))
        return pieces


def decode(source: Path, target: Path) -> Recording:
    """Decode ``source`` into the working file ``target``."""
    with contextlib.suppress(soundfile.LibsndfileError):
        recording = _decode_sound(source, target)
        if recording is not None:
            return recording
    try:
        return _decode_anything(source, target)
    except av.FFmpegError as error:
        # Its text ends with the path, which stays inside the sandbox.
        raise UnreadableError(f"{error.strerror}.") from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def has_picture(source: Path) -> bool:
    """Whether there is moving video in the file; the cover of an album does not count."""
    try:
        with av.open(str(source)) as container:
            return any(_moves(stream) for stream in container.streams.video)
    except (av.FFmpegError, ValueError):
        return False


class Mp3Writer:
    """Writes blocks of (channels, frames) to an MP3."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        self._file = soundfile.SoundFile(
            path,
            "w",
            samplerate=rate,
            channels=channels,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=_COMPRESSION,
        )

    def write(self, block: Samples) -> None:
        """Append a block."""
        self._file.write(np.clip(block, -1.0, 1.0).T)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def replace_sound(video: Path, sound: Path, target: Path) -> None:
    """An MP4 with the pictures of one file and the sound of another.

    The pictures are copied, not encoded again, unless an MP4 cannot hold their codec.
    """
    with av.open(str(video)) as pictures, av.open(str(sound)) as voice, av.open(str(target), "w") as out:
        source = next(stream for stream in pictures.streams.video if _moves(stream))
        heard = voice.streams.audio[0]
        write_pictures = _picture_writer(out, source)
        spoken = out.add_stream("aac", rate=heard.rate)
        spoken.layout = heard.layout
        write_pictures(pictures)
        for frame in voice.decode(heard):
            frame.pts = None
            out.mux(spoken.encode(frame))
        out.mux(spoken.encode(None))


def _decode_sound(source: Path, target: Path) -> Recording | None:
    """By libsndfile, unless the sound needs another rate or fewer channels."""
    with soundfile.SoundFile(source) as file:
        rate, channels = file.samplerate, file.channels
        if rate not in _RATES or channels > 2:
            return None
        frames = 0
        with _working_file(target, rate, channels) as out:
            for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
                out.write(block)
                frames += len(block)
    return _checked(Recording(target, rate, channels, frames))


def _decode_anything(source: Path, target: Path) -> Recording:
    with av.open(str(source)) as container:
        if not container.streams.audio:
            raise UnreadableError("The file has no audio stream.")
        stream = container.streams.audio[0]
        rate = min(_RATES, key=lambda known: (abs(known - (stream.rate or 48000)), -known))
        channels = min(2, stream.channels or 1)
        resampler = av.AudioResampler("flt", "stereo" if channels == 2 else "mono", rate)
        frames = 0
        with _working_file(target, rate, channels) as out:
            for frame in _then_none(container.decode(stream)):
                for piece in resampler.resample(frame):
                    block = piece.to_ndarray().reshape(-1, channels)
                    out.write(block)
                    frames += len(block)
    return _checked(Recording(target, rate, channels, frames))


def _then_none(frames: Iterator[Any]) -> Iterator[Any]:
    """The frames, and the None that makes a resampler give up what it holds back."""
    yield from frames
    yield None


def _working_file(path: Path, rate: int, channels: int) -> soundfile.SoundFile:
    """W64, because a WAV ends at 4 GiB."""
    return soundfile.SoundFile(path, "w", samplerate=rate, channels=channels, format="W64", subtype="FLOAT")


def _checked(recording: Recording) -> Recording:
    if recording.frames == 0:
        raise UnreadableError("The recording is empty.")
    return recording


def _picture_writer(out: Any, source: Any) -> Callable[[Any], None]:
    try:
        copied = out.add_stream_from_template(source)
    except ValueError:
        encoded = out.add_stream("libx264", rate=source.average_rate or 25)
        encoded.width, encoded.height, encoded.pix_fmt = source.width, source.height, "yuv420p"

        def encode(pictures: Any) -> None:
            for frame in pictures.decode(source):
                out.mux(encoded.encode(frame.reformat(format="yuv420p")))
            out.mux(encoded.encode(None))

        return encode

    def copy(pictures: Any) -> None:
        for packet in pictures.demux(source):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)

    return copy


def _moves(stream: Any) -> bool:
    return not stream.disposition & av.stream.Disposition.attached_pic
