"""
The media type that a file name's ending stands for, by a table of our own.

Python's ``mimetypes`` asks the machine: without ``/etc/mime.types`` it does not know flac or m4a, with it
``.ts`` is a translation and not a film, and ``talk.wav.gz`` is ``audio/x-wav`` everywhere.
"""

from __future__ import annotations

import codecs
import re
from pathlib import PurePosixPath

#: By the ending in lower case, without its dot.
MEDIA_TYPES = {
    # sound
    "3ga": "audio/3gpp",
    "aac": "audio/aac",
    "ac3": "audio/ac3",
    "adts": "audio/aac",
    "aif": "audio/aiff",
    "aifc": "audio/aiff",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "ape": "audio/x-ape",
    "au": "audio/basic",
    "awb": "audio/amr-wb",
    "caf": "audio/x-caf",
    "dts": "audio/vnd.dts",
    "eac3": "audio/eac3",
    "flac": "audio/flac",
    "gsm": "audio/gsm",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "m4r": "audio/mp4",
    "mka": "audio/x-matroska",
    "mp1": "audio/mpeg",
    "mp2": "audio/mpeg",
    "mp3": "audio/mpeg",
    "mpga": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "ra": "audio/vnd.rn-realaudio",
    "rf64": "audio/x-wav",
    "snd": "audio/basic",
    "spx": "audio/ogg",
    "tta": "audio/x-tta",
    "voc": "audio/x-voc",
    "w64": "audio/x-w64",
    "wav": "audio/x-wav",
    "wave": "audio/x-wav",
    "weba": "audio/webm",
    "wma": "audio/x-ms-wma",
    "wv": "audio/x-wavpack",
    # pictures with sound
    "3g2": "video/3gpp2",
    "3gp": "video/3gpp",
    "3gpp": "video/3gpp",
    "asf": "video/x-ms-asf",
    "avi": "video/x-msvideo",
    "dv": "video/x-dv",
    "f4v": "video/mp4",
    "flv": "video/x-flv",
    "m1v": "video/mpeg",
    "m2ts": "video/mp2t",
    "m2v": "video/mpeg",
    "m4v": "video/mp4",
    "mk3d": "video/x-matroska",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "mpe": "video/mpeg",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mts": "video/mp2t",
    "mxf": "application/mxf",
    "ogv": "video/ogg",
    "qt": "video/quicktime",
    "ts": "video/mp2t",
    "vob": "video/mpeg",
    "webm": "video/webm",
    "wmv": "video/x-ms-wmv",
}

#: What is sent as the media type of a file whose ending says nothing.
DEFAULT_CONTENT_TYPE = "application/octet-stream"

#: Media types that name neither sound nor pictures, and yet may hold both.
_CONTAINERS = frozenset({"application/mp4", "application/mxf", "application/ogg", "application/x-matroska"})


def media_type_of(file_name: str) -> str | None:
    """
    Return the media type that a file name's ending stands for; None when it is no recording's.

    Only the last ending counts: ``talk.wav.gz`` is an archive.

    :param file_name: a name or path.
    """
    return MEDIA_TYPES.get(PurePosixPath(file_name).suffix[1:].lower())


def is_recording(media_type: str) -> bool:
    """
    Return whether a media type is one of sound, of video, or of a container for them.

    :param media_type: such as ``audio/wav; rate=8000``, in any case.
    """
    kind = media_type.partition(";")[0].strip().lower()
    return kind.partition("/")[0] in ("audio", "video") or kind in _CONTAINERS


#: How much of a file is enough to tell what it is, in bytes.
BEGINNING_BYTES = 8192

#: An ending that can say what a file is; that of ``2026-03-01T00:00:00.123+00:00`` cannot.
_ENDING = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{1,10}")


def is_foreign_name(file_name: str) -> bool:
    """
    Return whether a file name's ending says that it is no recording. No ending says nothing.

    :param file_name: a name or path.
    """
    ending = PurePosixPath(file_name).suffix[1:]
    return bool(_ENDING.fullmatch(ending)) and media_type_of(file_name) is None


def media_type_of_content(beginning: bytes) -> str | None:
    """
    Return the media type that the first bytes of a file show; None when they show none.

    Sound without a header looks like nothing at all, and so do many rare formats.

    :param beginning: the first bytes, up to :data:`BEGINNING_BYTES`.
    """
    import filetype

    found = filetype.guess(beginning)
    if found is not None:
        return str(found.mime)
    return "text/plain" if _is_text(beginning) else None


def _is_text(beginning: bytes) -> bool:
    encoding = "utf-16" if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder(encoding)().decode(beginning)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\v" for character in text)
