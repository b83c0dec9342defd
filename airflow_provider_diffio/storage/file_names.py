"""Names from outside: make a safe file name of one, and check relative paths."""

from __future__ import annotations

import re
import unicodedata

from airflow_provider_diffio.api.errors import DiffioInputError

#: Longest name that :func:`safe_file_name` returns, in bytes of UTF-8. It leaves room for a temporary name's
#: prefix and suffix.
MAX_NAME_BYTES = 200
#: A longer "extension", in bytes, counts as part of the name and may be cut.
MAX_EXTENSION_BYTES = 16
#: The longest name that common filesystems accept, in bytes.
_LONGEST_COMPONENT = 255

_FORBIDDEN_ON_WINDOWS = re.compile(r'[<>:"|?*]')
_RESERVED_ON_WINDOWS = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])", re.IGNORECASE)
#: Control characters, lone surrogates, and line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: They reverse how the following text is shown: ``vaw.exe`` can look like ``exe.wav``.
_DIRECTION_CHANGERS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LAST_RESORT = "file"


def safe_file_name(name: str | None, default: str) -> str:
    """
    Reduce an untrusted name to a base name that is safe on any store.

    The result has no separator of either kind, no control character, no leading dot or space, no character or
    device name that Windows refuses, is in Unicode form NFC and has at most :data:`MAX_NAME_BYTES` bytes of
    UTF-8. A long name keeps its extension.

    :param name: the name as it arrived, perhaps with directories; None when it is missing.
    :param default: the name to use when nothing usable is left of ``name``.
    :return: a name that is safe to join to a directory.
    """
    return _reduce(name or "") or _reduce(default) or _LAST_RESORT


def relative_parts(path: str) -> tuple[str, ...]:
    """
    Split a relative path into its names. Refuse everything that could leave the directory it starts from.

    :param path: names separated by ``/``; ``.`` and a final ``/`` are ignored.
    :return: the names; empty for the directory itself.
    :raises DiffioInputError: for ``..``, backslashes, control characters, an absolute path or a home
        directory.
    """
    if path.startswith("/"):
        raise DiffioInputError(f"{path!r} is not a relative path.")
    if path == "~" or path.startswith("~/"):
        raise DiffioInputError(
            f"'~' in {path!r} is not a home directory here.", advice="Write an absolute path."
        )
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    for part in parts:
        check_component(part)
    return parts


def check_component(name: str) -> None:
    """
    Make sure that a text is one plain file or directory name.

    :param name: the text to check.
    :raises DiffioInputError: when it is empty, ``.`` or ``..``, too long, or holds a separator or control
        character.
    """
    if name in ("", ".", ".."):
        raise DiffioInputError(
            f"{name!r} is not a file name.", advice="A relative path cannot leave its root."
        )
    if "/" in name or "\\" in name:
        raise DiffioInputError(
            f"{name!r} holds a path separator.", advice="Write directories with '/', names without."
        )
    check_printable(name)
    if len(name.encode()) > _LONGEST_COMPONENT:
        raise DiffioInputError(f"The name {name[:40]!r}... is longer than {_LONGEST_COMPONENT} bytes.")


def check_printable(text: str) -> None:
    """
    Make sure that a path can be stored, logged and sent: no control characters, no broken Unicode.

    :param text: the path.
    :raises DiffioInputError: when it holds one of these.
    """
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise DiffioInputError(f"{text!r} holds a control character or broken Unicode.")


def _reduce(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    visible = "".join(character for character in base if not _is_unwanted(character))
    portable = _FORBIDDEN_ON_WINDOWS.sub("_", unicodedata.normalize("NFC", visible))
    trimmed = portable.lstrip(". \t").rstrip(". ").strip()
    if _RESERVED_ON_WINDOWS.fullmatch(trimmed.partition(".")[0].strip()):
        return ""
    return _shorten(trimmed)


def _is_unwanted(character: str) -> bool:
    return character in _DIRECTION_CHANGERS or unicodedata.category(character) in _UNPRINTABLE


def _shorten(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > MAX_EXTENSION_BYTES:
        stem, dot, extension = name, "", ""
    room = MAX_NAME_BYTES - len(f"{dot}{extension}".encode())
    cut = stem.encode()[:room].decode(errors="ignore").rstrip(". ")
    return f"{cut}{dot}{extension}"
