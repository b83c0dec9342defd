"""Reading arguments that people and DAGs give: what may be text, a path, seconds, a mapping or a flag."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence, Set
from datetime import timedelta
from typing import Any

from airflow_provider_diffio.api.errors import DiffioInputError

_MAX_SECONDS = 1e10
_ADVICE_NONE = "See whether the task that it comes from was skipped, or returned nothing."
_ADVICE_NUMBER = (
    "Where a DAG sets render_template_as_native_obj, a template that gives digits alone becomes a number:"
    " put quotes into the text, as in '\"{{ ds_nodash }}\"'."
)


def read_text(value: Any, name: str) -> str:
    """
    Return a text as a plain string.

    :param value: what was given.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is no text, or the word that a template makes of None.
    """
    if not isinstance(value, str):
        raise _refuse(name, "text", value)
    if value.strip() == "None":
        raise DiffioInputError(
            f"{name} is the text 'None': its template found no value.", advice=_ADVICE_NONE
        )
    # A subclass may show itself in another way, and no stored form knows it.
    return str.__str__(value)


def is_path(value: Any) -> bool:
    """Return whether a value is text or a path object; on Airflow 3, ``ObjectStoragePath`` is no PathLike."""
    return isinstance(value, (str, os.PathLike)) or hasattr(value, "protocol")


def read_path(value: Any, name: str) -> str:
    """
    Return a path as plain text.

    :param value: text, a ``pathlib.Path``, or an ``ObjectStoragePath``, whose text holds its connection id.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is none of them.
    """
    if not isinstance(value, str) and is_path(value):
        value = str(value) if hasattr(value, "protocol") else os.fspath(value)
    if not isinstance(value, str):
        raise _refuse(name, "a path (text, pathlib.Path or ObjectStoragePath)", value)
    return read_text(value, name)


def read_seconds(value: Any, name: str) -> float:
    """
    Return a length of time in seconds.

    :param value: a number of seconds, or a ``timedelta``.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is neither, or negative.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < _MAX_SECONDS:
        raise _refuse(name, "a number of seconds or a timedelta, 0 or more", value)
    return seconds


def read_count(value: Any, name: str) -> int:
    """
    Return a whole number.

    :param value: a whole number of at least 1.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refuse(name, "a whole number of at least 1", value)
    return value


def read_flag(value: Any, name: str) -> bool:
    """
    Return a flag.

    :param value: True or False; the text "False" would count as true.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is something else.
    """
    if not isinstance(value, bool):
        raise _refuse(name, "True or False", value)
    return value


def read_mapping(value: Any, name: str) -> dict[str, Any]:
    """
    Return a mapping that can be sent as a JSON object.

    :param value: the mapping.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is none, or holds something that JSON does not have.
    """
    if not isinstance(value, Mapping):
        raise _refuse(name, "a mapping", value)
    if not all(isinstance(key, str) for key in value):
        raise DiffioInputError(f"{name} must have text for its keys.")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DiffioInputError(f"{name} cannot be sent as JSON: {error}.") from None
    return dict(value)


def read_texts(value: Any, name: str) -> list[str]:
    """
    Return a list of texts.

    :param value: a list, tuple or set of texts; a single text is refused, since its letters are texts, too.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is something else.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, Set)):
        raise _refuse(name, "a list of texts", value)
    return [read_text(each, name) for each in value]


def read_choice(value: Any, name: str, choices: Sequence[str]) -> Any:
    """
    Return one of the words that an argument takes.

    :param value: what was given.
    :param name: the argument.
    :param choices: the words; two at least.
    :raises DiffioInputError: for any other value.
    """
    if value not in choices:
        said = ", ".join(repr(choice) for choice in choices[:-1])
        raise DiffioInputError(f"{name} must be {said} or {choices[-1]!r}, not {value!r:.40}.")
    return value


def _refuse(name: str, wanted: str, value: Any) -> DiffioInputError:
    if value is None:
        return DiffioInputError(f"{name} must be {wanted}, not None.", advice=_ADVICE_NONE)
    if isinstance(value, (bool, int, float, str, timedelta)):
        advice = (
            _ADVICE_NUMBER if isinstance(value, (int, float)) and wanted.startswith(("text", "a p")) else ""
        )
        return DiffioInputError(f"{name} must be {wanted}, not {value!r:.80}.", advice=advice)
    # The value is not shown, since it may hold a secret.
    return DiffioInputError(f"{name} must be {wanted}, not {type(value).__name__}.")
