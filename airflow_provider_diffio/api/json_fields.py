"""Reading one response of Diffio: tolerant where it may be, strict where the next step depends on it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from airflow_provider_diffio.api.errors import DiffioResponseError

T = TypeVar("T")

_MESSAGE_LENGTH = 500
#: What a single text of a response may have, in characters. Links and tokens have hundreds.
_TEXT_LENGTH = 16 * 1024
#: What is kept of a text that is written for people, such as the reason of a failure.
_PROSE_LENGTH = 2000
#: Halves of characters outside of the BMP, which are left where a text was cut and which no database takes.
_HALF = re.compile("[\ud800-\udfff]")
#: Control characters but for white space, and marks that reverse the text after them.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SPACE = re.compile("[\t-\r\u2028\u2029]")


def clean(text: str) -> str:
    """
    Return a text from outside as one line that any log, database and terminal takes.

    :param text: what a server wrote.
    """
    # By far most texts are clean, and reading progress is what a triggerer does all day.
    if text.isprintable():
        return text
    return _HALF.sub("\ufffd", _CONTROL.sub("\ufffd", _SPACE.sub(" ", text)))


def clean_value(value: Any) -> Any:
    """
    Return a decoded JSON value with every text in it cleaned, keys included.

    :param value: dicts, lists and plain values.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): clean_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_value(item) for item in value]
    return value


def presentable(text: str, secrets: Collection[str] = ()) -> str:
    """
    Return a server's text as one line of bearable length that may stand in a log or a message.

    :param text: what the server wrote.
    :param secrets: what must not show up, should the server echo it.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MESSAGE_LENGTH]).split())
    return line if len(line) <= _MESSAGE_LENGTH else f"{line[:_MESSAGE_LENGTH]}..."


class JSONFields:
    """
    A JSON object of an endpoint's response, and the endpoint's name for messages.

    ``need_*`` raise when the field is missing or has another type; the others return None (or an empty
    value) then, so that a field Diffio adds, drops or leaves null never breaks a user who does not need it.

    :param body: what was decoded: dicts, lists and plain values.
    :param endpoint: name of the endpoint.
    :param within: where in the whole response this object is.
    """

    # Thousands are made while triggers wait; a plain class costs the least.
    __slots__ = ("body", "endpoint", "within")

    def __init__(self, body: Mapping[str, Any], endpoint: str, within: str = "") -> None:
        self.body = body
        self.endpoint = endpoint
        self.within = within

    def need_text(self, field: str) -> str:
        value = self.body.get(field)
        if not isinstance(value, str) or not value:
            raise self.refuse(field, "a non-empty string")
        if len(value) > _TEXT_LENGTH:
            raise self.refuse(field, f"at most {_TEXT_LENGTH} characters")
        return clean(value)

    def need_count(self, field: str) -> int:
        value = self.number(field)
        if value is None or value <= 0 or value != int(value):
            raise self.refuse(field, "a positive whole number")
        return int(value)

    def need_object(self, field: str) -> JSONFields:
        value = self.object(field)
        if value is None:
            raise self.refuse(field, "an object")
        return value

    def need_objects(self, field: str, read: Callable[[JSONFields], T]) -> tuple[T, ...]:
        value = self.body.get(field)
        if not isinstance(value, list):
            raise self.refuse(field, "a list")
        return tuple(
            read(JSONFields(item, self.endpoint, self._inside(f"{field}[{i}]")))
            for i, item in enumerate(value)
            if isinstance(item, dict)
        )

    def need_same(self, field: str, value: str | None, wanted: str) -> None:
        """
        Refuse a response about another object than the call was about.

        :param field: the field that names the object.
        :param value: what it says; None, when it is not there, is no contradiction.
        :param wanted: what it must say.
        """
        if value is not None and value != wanted:
            raise DiffioResponseError(
                f"The response of {self.endpoint} is about another object: its '{self._inside(field)}' is"
                f" {presentable(value)!r:.100} and not {wanted!r:.100}.",
                endpoint=self.endpoint,
            )

    def text(self, field: str) -> str | None:
        value = self.body.get(field)
        return clean(value[:_TEXT_LENGTH]) if isinstance(value, str) and value else None

    def prose(self, field: str) -> str | None:
        """Return a text that is written for people, cut to a bearable length."""
        value = self.text(field)
        if value is None or len(value) <= _PROSE_LENGTH:
            return value
        return f"{value[:_PROSE_LENGTH]}..."

    def number(self, field: str) -> float | None:
        value = self.body.get(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        # JSON from Python may hold NaN and Infinity, and 1e999 reads as infinity.
        return value if abs(value) < 1e18 else None

    def whole(self, field: str) -> int | None:
        value = self.number(field)
        return None if value is None else int(value)

    def flag(self, field: str) -> bool | None:
        value = self.body.get(field)
        return value if isinstance(value, bool) else None

    def time(self, field: str) -> dt.datetime | None:
        value = self.text(field)
        if value is None:
            return None
        try:
            moment = dt.datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            # In the first and the last year a time may lie outside of what can be computed with.
            moment.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            return None
        return moment

    def object(self, field: str) -> JSONFields | None:
        value = self.body.get(field)
        if not isinstance(value, dict):
            return None
        return JSONFields(value, self.endpoint, self._inside(field))

    def plain(self, field: str) -> dict[str, Any]:
        value = self.body.get(field)
        return clean_value(value) if isinstance(value, dict) else {}

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.body.get(field)
        return (
            tuple(clean(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()
        )

    def _inside(self, field: str) -> str:
        return f"{self.within}.{field}" if self.within else field

    def refuse(self, field: str, kind: str) -> DiffioResponseError:
        """Make the error for a field that is missing or is not what it must be."""
        return DiffioResponseError(
            f"The response of {self.endpoint} has no usable '{self._inside(field)}' (expected {kind}).",
            endpoint=self.endpoint,
        )
