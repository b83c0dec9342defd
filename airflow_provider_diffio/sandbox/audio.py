"""Reading any recording, writing MP3 and MP4. Works in blocks, however long the recording is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

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
#: No voice is left below this sample rate, and raising it to a rate an MP3 has would take for ever.
_LOWEST_RATE: Final = 1000
#: Samples are between -1 and 1, or between the limits of 32 bits where a program forgot to scale them.
_ABSURD: Final = float(1 << 31)


class UnreadableError(Exception):
    """A file that holds no sound that can be decoded. Its text says why."""


@dataclass(frozen=True)
class Recording:
    """A decoded recording: a float file on disk, mono or stereo, at a rate an MP3 can have."""

    path: Path
    rate: int
    channels: int
    frames: int
    #: The largest sample. Floats may be above 1, which an MP3 cannot hold.
    peak: float = 1.0

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
    for attempt in (_decode_sound, _decode_anything):
        with contextlib.suppress(soundfile.LibsndfileError):
            recording = attempt(source, target)
            if recording is not None:
                return recording
    return _decode_many_channels(source, target)


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
        # LAME ends the whole process where a sample is no number.
        self._file.write(np.clip(np.nan_to_num(block), -1.0, 1.0).T)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def replace_sound(video: Path, sound: Path, target: Path) -> None:
    """An MP4 with the pictures of one file and the sound of another.

    The pictures are copied, or encoded again where an MP4 cannot hold them as they are.

    :raises UnreadableError: when there are no pictures that can be decoded.
    """
    for pictures in (_copied, _encoded):
        with contextlib.suppress(av.FFmpegError, ValueError):
            _write_video(video, sound, target, pictures)
            return
    target.unlink(missing_ok=True)
    raise UnreadableError("The pictures are damaged, or in a format that cannot be decoded.")


def _write_video(
    video: Path, sound: Path, target: Path, pictures: Callable[[Any, Any, Fraction], Callable[[Any], None]]
) -> None:
    with av.open(str(video)) as seen, av.open(str(sound)) as voice, av.open(str(target), "w") as out:
        source = next(stream for stream in seen.streams.video if _moves(stream))
        heard = voice.streams.audio[0]
        # Pictures and sound need not begin at 0, nor together.
        begin, pictures_begin = _begin(_sound_stream(seen)), _begin(source)
        write_pictures = pictures(out, source, min(begin, pictures_begin))
        spoken = out.add_stream("aac", rate=heard.rate)
        spoken.layout = heard.layout
        write_pictures(seen)
        position = max(0, round((begin - pictures_begin) * heard.rate))
        for frame in voice.decode(heard):
            frame.pts, frame.time_base = position, Fraction(1, heard.rate)
            position += frame.samples
            out.mux(spoken.encode(frame))
        out.mux(spoken.encode(None))


def _decode_sound(source: Path, target: Path) -> Recording | None:
    """By libsndfile, unless the sound needs another rate or fewer channels, or a recorder was cut short."""
    with soundfile.SoundFile(source) as file:
        if file.samplerate not in _RATES or file.channels > 2:
            return None
        if file.frames == 0 and _is_unfinished(source):
            return None
        with _WorkingFile(target, file.samplerate, file.channels) as out:
            out.take(file)
    return out.recording()


def _decode_anything(source: Path, target: Path) -> Recording | None:
    """By FFmpeg; None where it has no way to get from so many channels to two."""
    try:
        with av.open(str(source)) as container:
            stream = _sound_stream(container)
            rate = _nearest_rate(stream.rate or 48000)
            channels = min(2, stream.channels or 1)
            with _WorkingFile(target, rate, channels) as out:
                for frame in _resampled(_frames(container, stream), rate, channels):
                    out.write(frame.to_ndarray().reshape(-1, channels))
    except av.ArgumentError:
        return None
    except av.InvalidDataError as error:
        raise UnreadableError(
            "The file is no audio or video file, or it is damaged, or its end or its beginning is missing."
        ) from error
    except av.FFmpegError as error:
        # Its text ends with the path, which stays inside the sandbox.
        raise UnreadableError(f"{error.strerror}.") from error
    return out.recording()


def _decode_many_channels(source: Path, target: Path) -> Recording:
    """The mean of channels whose places in a room nothing is known about."""
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels = file.samplerate, file.channels
            if rate not in _RATES:
                raise UnreadableError(f"A recording of {channels} channels at {rate} Hz cannot be converted.")
            with _WorkingFile(target, rate, 1) as out:
                out.take(file)
    except soundfile.LibsndfileError as error:
        raise UnreadableError("Its sample rate or its channels make no sense.") from error
    return out.recording()


def _sound_stream(container: Any) -> Any:
    """The first audio stream that can be decoded."""
    # A stream in an unknown format has no decoder, and PyAV gives it no attributes either.
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if known:
        _check_rate(known[0].rate)
        return known[0]
    if container.streams.audio:
        raise UnreadableError("The sound is in a format that cannot be decoded.")
    raise UnreadableError("The file has no audio stream.")


def _is_unfinished(source: Path) -> bool:
    """Whether this is a WAV whose sizes were never filled in, as when the recorder lost its power."""
    with source.open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 < source.stat().st_size


def _check_rate(rate: int | None) -> None:
    if rate is not None and 0 < rate < _LOWEST_RATE:
        raise UnreadableError(f"The sample rate of {rate} Hz is too low for speech.")


def _nearest_rate(rate: int) -> int:
    return min(_RATES, key=lambda known: (abs(known - rate), -known))


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Everything that can be decoded: damaged packets are left out, and a cut file ends where it was cut."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            break
        with contextlib.suppress(av.FFmpegError):
            yield from packet.decode()
    with contextlib.suppress(av.FFmpegError):
        yield from stream.decode(None)


def _resampled(frames: Iterable[Any], rate: int, channels: int) -> Iterator[Any]:
    """The frames at one rate, whatever changes on the way, as it does in a damaged file."""
    layout = "stereo" if channels == 2 else "mono"
    resampler: Any = None
    shape = None
    for frame in frames:
        if shape != (frame.format.name, frame.layout.name, frame.sample_rate):
            if resampler is not None:
                yield from resampler.resample(None)
            shape = (frame.format.name, frame.layout.name, frame.sample_rate)
            resampler = av.AudioResampler("flt", layout, rate)
        frame.pts = None
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


class _WorkingFile:
    """Takes decoded blocks, and keeps what is no sound out of them. W64, because a WAV ends at 4 GiB."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        _check_rate(rate)
        self._path, self._rate, self._channels = path, rate, channels
        self._frames = self._bad = 0
        self._peak = 0.0
        self._file = soundfile.SoundFile(
            path, "w", samplerate=rate, channels=channels, format="W64", subtype="FLOAT"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, file: soundfile.SoundFile) -> None:
        """Read a file to its end. Not with ``blocks()``, which wants to seek, and GSM cannot."""
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            self.write(block)

    def write(self, block: Samples) -> None:
        """Append (frames, channels); further channels than wanted become their mean."""
        good = np.isfinite(block) & (np.abs(block) <= _ABSURD)
        if not good.all():
            self._bad += int(good.size - good.sum())
            block = np.where(good, block, np.float32(0.0))
        if block.shape[1] > self._channels:
            block = block.mean(axis=1, keepdims=True)
        if len(block):
            self._peak = max(self._peak, float(np.abs(block).max()))
        self._file.write(block)
        self._frames += len(block)

    def recording(self) -> Recording:
        """What was written."""
        if self._frames == 0:
            raise UnreadableError("The recording is empty.")
        if self._bad and self._peak == 0.0:
            raise UnreadableError("The recording holds no sound: its samples are not numbers.")
        return Recording(self._path, self._rate, self._channels, self._frames, self._peak)


def _begin(stream: Any) -> Fraction:
    """The time of a stream's first frame."""
    return Fraction((stream.start_time or 0) * stream.time_base)


def _copied(out: Any, source: Any, begin: Fraction) -> Callable[[Any], None]:
    """Write the pictures as they are, but for the time at which they begin."""
    shift = round(begin / source.time_base)
    copy = out.add_stream_from_template(source)

    def write(pictures: Any) -> None:
        for packet in _with_decode_times(packet for packet in pictures.demux(source) if packet.size):
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = copy
            out.mux(packet)

    return write


def _with_decode_times(packets: Iterable[Any]) -> Iterator[Any]:
    """Give the first packets the decode times that Matroska leaves out; an MP4 needs them."""
    untimed: list[Any] = []
    for packet in packets:
        if packet.dts is None:
            untimed.append(packet)
            continue
        for back, early in enumerate(reversed(untimed), start=1):
            early.dts = packet.dts - back * (packet.duration or 1)
        yield from untimed
        untimed.clear()
        yield packet
    if untimed:
        raise ValueError("the pictures have no times")


def _encoded(out: Any, source: Any, begin: Fraction) -> Callable[[Any], None]:
    """Encode the pictures again, at a size that the encoder can do: whole pairs of pixels."""
    shift = round(begin / source.time_base)
    encoder = out.add_stream("libx264", rate=source.average_rate or 25)
    encoder.width, encoder.height = (max(2, length & ~1) for length in (source.width, source.height))
    encoder.pix_fmt = "yuv420p"

    def write(pictures: Any) -> None:
        count = 0
        for frame in _frames(pictures, source):
            if frame.pts is not None:
                frame.pts -= shift
            out.mux(encoder.encode(frame.reformat(encoder.width, encoder.height, format="yuv420p")))
            count += 1
        if count == 0:
            raise ValueError("there are no pictures")
        out.mux(encoder.encode(None))

    return write


def _moves(stream: Any) -> bool:
    return not stream.disposition & av.stream.Disposition.attached_pic
