"""Decoding a sound or video file to its end: how long it is, and whether anything is heard. Needs PyAV."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from airflow_provider_diffio.api.errors import DiffioConfigurationError

#: A length is right within the larger of these: seconds, and a share of the source's length.
TOLERANCE_SECONDS = 0.5
TOLERANCE_SHARE = 0.02

#: The loudest sample of what counts as silence, of 32,767: -66 dB, which no loudspeaker makes heard.
_SILENT_PEAK = 16
#: Enough to notice speech.
_HEARING_RATE = 8000
#: Formats that state no length; what the library says of one is an estimate.
_ESTIMATED = frozenset({"aac", "ac3", "eac3", "adts", "mp1", "mp2", "amr"})
_MP3_INDEX = (b"Xing", b"Info", b"VBRI")


class UndecodableError(Exception):
    """What a file lacks, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Sound:
    """
    What a file turned out to be.

    :ivar seconds: the length of what was decoded.
    :ivar silent: whether nothing can be heard in it.
    """

    seconds: float
    silent: bool


def require_audio() -> None:
    """
    Make sure that files can be decoded, before anything is sent.

    :raises DiffioConfigurationError: when the extra ``audio`` is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise DiffioConfigurationError(
            "verify='audio' decodes the restored file, and PyAV, which does that, is not installed.",
            advice='Install it where the task runs: pip install "airflow-provider-diffio[audio]".',
        ) from error


def decode(file: Path | IO[bytes]) -> Sound:
    """
    Decode every sound and picture of a file, to its end.

    :param file: a local path, or a seekable stream.
    :raises UndecodableError: when it has no sound, cannot be decoded, or ends before it says that it does.
    """
    import av

    try:
        with _open(file) as container:
            if container.format.name == "wav" and _is_cut_riff(file):
                raise UndecodableError("ends before its header says that it does")
            return _decode(container, _stated_seconds(container, file))
    except av.error.FFmpegError as error:
        raise UndecodableError(f"cannot be decoded to its end ({error.strerror or error})") from None
    except (ValueError, IndexError, EOFError) as error:
        raise UndecodableError(f"cannot be decoded ({error})") from None


def stated_seconds(file: IO[bytes]) -> float | None:
    """
    Return the length that a file states, without decoding it; None where it states none.

    :param file: a seekable stream.
    """
    import av

    try:
        with _open(file) as container:
            return _stated_seconds(container, file)
    except (av.error.FFmpegError, ValueError, IndexError, EOFError):
        return None


def is_as_long(seconds: float, source_seconds: float) -> bool:
    """
    Tell whether a restored file is as long as its source: within 0.5 s or 2 %, whichever is larger.

    :param seconds: the length of the restored file.
    :param source_seconds: the length of its source.
    """
    return abs(seconds - source_seconds) <= max(TOLERANCE_SECONDS, TOLERANCE_SHARE * source_seconds)


def _open(file: Path | IO[bytes]) -> Any:
    import av

    return av.open(str(file) if isinstance(file, Path) else _Stream(file), "r", metadata_errors="ignore")


class _Stream:
    """Shows the library what it reads by, and no name, which it would take for a text."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell


def _decode(container: Any, stated: float | None) -> Sound:
    streams = [stream for stream in container.streams if stream.type in ("audio", "video")]
    sound = next((stream for stream in streams if stream.type == "audio"), None)
    if sound is None:
        raise UndecodableError("has no sound in it")
    ear = _Ear()
    seconds = 0.0
    for frame in container.decode([stream for stream in streams if _is_moving(stream)]):
        # Pictures are decoded to find what is broken; the sound tells the length.
        if getattr(frame, "samples", None) and frame.sample_rate:
            seconds += frame.samples / frame.sample_rate
            ear.hear(frame)
    if not seconds:
        raise UndecodableError("has no sound in it")
    if stated is not None and seconds < stated and not is_as_long(seconds, stated):
        raise UndecodableError(f"ends after {seconds:.1f} s, and says of itself that it has {stated:.1f} s")
    return Sound(seconds, ear.heard_nothing)


def _is_moving(stream: Any) -> bool:
    """Leave the cover picture of a song alone."""
    return stream.type == "audio" or not int(stream.disposition) & _attached_picture()


def _attached_picture() -> int:
    from av.stream import Disposition

    return int(Disposition.attached_pic)


def _stated_seconds(container: Any, file: Path | IO[bytes]) -> float | None:
    name = container.format.name
    if name in _ESTIMATED or (name == "mp3" and not _has_index(file)):
        return None
    sounds = [stream for stream in container.streams if stream.type == "audio"]
    if sounds and sounds[0].duration is not None and sounds[0].time_base is not None:
        return float(sounds[0].duration * sounds[0].time_base)
    return None if container.duration is None else container.duration / 1e6


def _has_index(file: Path | IO[bytes]) -> bool:
    beginning, _ = _beginning(file)
    return any(word in beginning for word in _MP3_INDEX)


def _is_cut_riff(file: Path | IO[bytes]) -> bool:
    """Tell whether a WAV file is shorter than its header says, which the library does not mind."""
    beginning, size_bytes = _beginning(file)
    stated = int.from_bytes(beginning[4:8], "little")
    # What is written as a stream has no length to state, and says 0 or the largest number.
    return beginning[:4] == b"RIFF" and stated < 0xFFFFFF00 and stated + 8 > size_bytes + 1


def _beginning(file: Path | IO[bytes]) -> tuple[bytes, int]:
    """Return a file's first bytes and its length, and leave it where it stands."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return _beginning(stream)
    at = file.tell()
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    beginning = file.read(64 * 1024)
    file.seek(at)
    return beginning, size_bytes


class _Ear:
    """Listens until it has heard something; from then on a frame costs it nothing."""

    def __init__(self) -> None:
        self.heard_nothing = True
        self._resampler: Any = None

    def hear(self, frame: Any) -> None:
        if not self.heard_nothing:
            return
        if self._resampler is None:
            from av.audio.resampler import AudioResampler

            self._resampler = AudioResampler(format="s16", layout="mono", rate=_HEARING_RATE)
        frame.pts = None
        for piece in self._resampler.resample(frame):
            samples = array("h", bytes(piece.planes[0])[: 2 * piece.samples])
            if samples and max(max(samples), -min(samples)) > _SILENT_PEAK:
                self.heard_nothing = False
