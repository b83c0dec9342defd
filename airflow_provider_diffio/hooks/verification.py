"""``verify="audio"``: a restored file appears when it decodes to its end and is as long as its source."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError, DiffioVerificationError
from airflow_provider_diffio.storage import audio
from airflow_provider_diffio.storage.errors import store_failures
from airflow_provider_diffio.storage.writer import WRITE_BLOCK_BYTES

if TYPE_CHECKING:
    import logging

    from airflow_provider_diffio.api.uploads import Source
    from airflow_provider_diffio.storage import Location

Verify = Literal["audio"]

#: What a file is called that failed, beside the place where it would have been.
SET_ASIDE = ".failed-verification"


def check_verify(verify: str | None) -> None:
    """
    Refuse what cannot be verified, before anything is sent.

    :param verify: None, or ``audio``.
    :raises DiffioInputError: when it is something else.
    :raises DiffioConfigurationError: when the extra ``audio`` is not installed.
    """
    if verify is None:
        return
    if verify != "audio":
        raise DiffioInputError(f"verify must be 'audio' or None, not {verify!r:.40}.")
    audio.require_audio()


def _temporary_file() -> IO[bytes]:
    # Removed when it is closed, and by the system when this process is killed.
    return cast("IO[bytes]", tempfile.TemporaryFile(prefix="diffio-verify-"))


@dataclass
class Verification:
    """
    Checks one restored file before it is published; takes a copy of its bytes on their way.

    :ivar log: told of silence, and of what could not be compared.
    :ivar source: the recording it was made from; None where it is not at hand, and then no lengths are
        compared.
    """

    log: logging.Logger
    source: Source | None = None
    _copy: IO[bytes] = field(default_factory=_temporary_file)

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *_: object) -> None:
        self._copy.close()

    def write(self, block: bytes | bytearray) -> None:
        """
        Take some bytes of the file.

        :raises DiffioError: when there is no room for them.
        """
        with store_failures("write", tempfile.gettempdir()):
            self._copy.write(block)

    def beside(self, write: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Return what writes some bytes and takes them, too."""

        def both(block: bytes) -> None:
            self.write(block)
            write(block)

        return both

    def check(self, name: str) -> None:
        """
        Decode what has come.

        :param name: of the file, for messages.
        :raises DiffioVerificationError: when it is not what it should be.
        """
        self._copy.seek(0)
        try:
            sound = audio.decode(self._copy)
        except audio.UndecodableError as error:
            raise DiffioVerificationError(f"The restored file {name} {error}.") from None
        self._compare(name, sound.seconds)
        if sound.silent:
            self.log.warning("The restored file %s is silent: nothing can be heard in it.", name)

    def keep(self, error: DiffioVerificationError, target: Location) -> None:
        """
        Keep what failed beside the place where it would have been, and say so in the error.

        :param error: what is wrong with it.
        :param target: where the file would have been.
        """
        place = target.parent().child(f"{target.name}{SET_ASIDE}")
        self._copy.seek(0)
        try:
            with place.writer() as writer:
                while block := self._copy.read(WRITE_BLOCK_BYTES):
                    writer.write(block)
        except DiffioError as failed:
            error.message += f" It was not published, and could not be kept either: {failed.message}"
            return
        error.message += f" It was not published at {target.uri}, and is kept as {place.uri}."
        error.kept_at = place.uri

    def _compare(self, name: str, seconds: float) -> None:
        source_seconds = self._source_seconds(seconds)
        if source_seconds is None or audio.is_as_long(seconds, source_seconds):
            return
        raise DiffioVerificationError(
            f"The restored file {name} has {seconds:.1f} s, and its source {source_seconds:.1f} s."
        )

    def _source_seconds(self, seconds: float) -> float | None:
        """Return how long the source is. It is decoded only where what it states does not fit."""
        if self.source is None:
            return None
        try:
            with self.source.open() as stream:
                stated = audio.stated_seconds(stream)
                if stated is not None and audio.is_as_long(seconds, stated):
                    return stated
            with self.source.open() as stream:
                return audio.decode(stream).seconds
        except (audio.UndecodableError, DiffioError, OSError) as error:
            self.log.warning(
                "The length of the restored file cannot be compared with its source %s: %s.",
                self.source.name,
                str(error).rstrip("."),
            )
            return None
