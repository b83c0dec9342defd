"""Reading one response of Diffio: tolerant where it may be, strict where the next step depends on it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from airflow_provider_diffio.api.errors import DiffioResponseError

T = TypeVar("T")

_MESSAGE_LENGTH = 500


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
        return value

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

    def text(self, field: str) -> str | None:
        value = self.body.get(field)
        return value if isinstance(value, str) and value else None

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
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)

    def object(self, field: str) -> JSONFields | None:
        value = self.body.get(field)
        if not isinstance(value, dict):
            return None
        return JSONFields(value, self.endpoint, self._inside(field))

    def plain(self, field: str) -> dict[str, Any]:
        value = self.body.get(field)
        return dict(value) if isinstance(value, dict) else {}

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.body.get(field)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def _inside(self, field: str) -> str:
        return f"{self.within}.{field}" if self.within else field

    def refuse(self, field: str, kind: str) -> DiffioResponseError:
        """Make the error for a field that is missing or is not what it must be."""
        return DiffioResponseError(
            f"The response of {self.endpoint} has no usable '{self._inside(field)}' (expected {kind}).",
            endpoint=self.endpoint,
        )
