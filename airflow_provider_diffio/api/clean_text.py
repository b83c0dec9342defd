"""
Text and values from outside, made safe to store, show and log.

Diffio's texts, names of files and lists may hold what a database or a log refuses: half of a surrogate pair
(no UTF-8 has it), NUL (PostgreSQL refuses it), control characters (a terminal obeys them), NaN (no JSON has
it) or a megabyte. Whatever enters Airflow goes through here.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: Characters of a text that are kept.
TEXT_LIMIT = 2000
#: Levels of a value that are kept.
DEPTH_LIMIT = 20

#: Control characters besides tab and newline, separators that split a log's line, marks that reverse text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """
    Return a text that every database stores and every log shows.

    The two halves of a surrogate pair become the character they stand for. What cannot be kept becomes
    U+FFFD, the replacement character. A longer text is cut and ends with ``...``.

    :param text: any text.
    :param limit: number of characters that are kept; 2,000 by default.
    """
    kept = text[:limit].replace("\r\n", "\n")
    if _SURROGATE.search(kept):
        kept = kept.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    kept = _UNSAFE.sub("\ufffd", kept)
    return kept if len(text) <= limit else f"{kept}..."


def clean_value(value: Any, limit: int = TEXT_LIMIT) -> Any:
    """
    Return a value that every database stores as JSON, with each text and key cleaned.

    Tuples become lists. Numbers that JSON or a database lacks (NaN, infinity, more than 64 bits) become None,
    and so does what lies deeper than 20 levels. Whatever is no JSON becomes its text.

    :param value: dicts, lists and plain values.
    :param limit: number of characters of each text that are kept; 2,000 by default.
    """
    return _clean(value, limit, DEPTH_LIMIT)


@contextmanager
def clean_exceptions() -> Iterator[None]:
    """
    Replace an exception whose text cannot be logged, or that of one of its causes, by one with a clean text.

    An exception that leaves a trigger is written to the triggerer's log and to the database, and half of a
    surrogate pair in it ends the triggerer. Every other exception is left as it is.

    :raises RuntimeError: with the name and the cleaned text of the exception that was replaced.
    """
    try:
        yield
    except Exception as error:
        if _can_be_logged("".join(traceback.format_exception(error))):
            raise
        raise RuntimeError(f"{type(error).__name__}: {clean_text(str(error))}") from None


def _can_be_logged(text: str) -> bool:
    return "\x00" not in text and not _SURROGATE.search(text)


def _clean(value: Any, limit: int, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(str(value), limit)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if -(2**63) <= value < 2**63 else None
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        return {clean_text(str(key), limit): _clean(item, limit, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item, limit, depth - 1) for item in value]
    return clean_text(str(value), limit)
