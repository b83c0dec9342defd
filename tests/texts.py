"""Texts that no database, log or page should get as they are: every kind, and mixtures of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

MEBIBYTE = 1024 * 1024

#: One of each kind of trouble. The surrogates are what JSON's ``\\ud83d`` becomes in Python.
KINDS: dict[str, str] = {
    "high surrogate": "\ud83d",
    "low surrogate": "\udc00",
    "surrogates the wrong way round": "\ude42\ud83d",
    "both surrogates": "\ud83d\ude42",
    "NUL": "\x00",
    "C0 controls": "".join(map(chr, range(1, 32))),
    "DEL and C1 controls": "".join(map(chr, range(127, 160))),
    "line and paragraph separators": "\u2028\u2029",
    "colours of a terminal": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "the end of the line": "\r\nINFO - forged\r",
    "marks that reverse text": "\u202egpj.exe\u202c\u2066\u2069",
    "no characters": "\ufffe\uffff\U0010ffff\ufdd0",
    "byte order mark": "\ufeff",
    "bytes that Python smuggles": "\udc80\udcff",
    "combining marks": "Z\u0351\u036b\u0343\u036a\u0302",
    "joined emoji": "👨\u200d👩\u200d👧",
    "other planes": "𝔇𝔦𝔣𝔣\U000e0041",
    "templates": "{{ ti }} {% raw %} %s %(x)s {0} ${HOME} \\u0000 \\x00",
    "quotes": "'\"`\\</script><b>&amp;",
    "escaped NUL": '"\\u0000"',
    "plain": "Could not restore the recording; größer als erlaubt.",
    "empty": "",
}


def texts(count: int, *, seed: int = 0, longest: int = MEBIBYTE) -> Iterator[str]:
    """
    Yield texts, the same for the same seed: first each kind alone, then mixtures of them, some of them long.

    :param count: how many.
    :param seed: another number gives other mixtures.
    :param longest: characters of a text at most; one in a hundred has about that many.
    """
    randomly = random.Random(seed)  # noqa: S311 - no secret
    kinds = list(KINDS.values())
    for number in range(count):
        if number < len(kinds):
            yield kinds[number][:longest]
            continue
        text = "".join(_piece(randomly, kinds) for _ in range(randomly.randint(1, 8)))
        if number % 100 == 99:
            text = (text * (longest // max(1, len(text)) + 1))[: randomly.randint(longest // 2, longest)]
        yield text[:longest]


def _piece(randomly: random.Random, kinds: list[str]) -> str:
    match randomly.randrange(4):
        case 0:
            # Any code point at all, surrogates included.
            return "".join(chr(randomly.randrange(0x110000)) for _ in range(randomly.randint(1, 20)))
        case 1:
            # A text that was cut where it should not be.
            kind = randomly.choice(kinds)
            return kind[: randomly.randint(0, len(kind))]
        case _:
            return randomly.choice(kinds)


def unsafe(text: str) -> set[str]:
    """Return what of a text must not reach a database or a log: no UTF-8, NUL, controls, reversing marks."""
    allowed = "\t\n"
    return {
        character
        for character in text
        if (ord(character) < 32 and character not in allowed)
        or 127 <= ord(character) < 160
        or 0xD800 <= ord(character) < 0xE000
        or character in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    }
