"""What the hook's results have in common: a task may return them, and secrets keep out of XComs."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar, NoReturn

from airflow_provider_diffio.api.errors import DiffioInputError


class Value(dict[str, Any]):
    """
    Base of the dataclasses that a task may return: each is a dictionary of its fields, too.

    Airflow stores dictionaries as they are, while it refuses to load other classes that its configuration
    does not list. So the next task gets a plain dictionary with the names of the fields as keys. Times are
    texts in ISO 8601 there, tuples are lists. It is read-only, as the dataclass is.
    """

    def __post_init__(self) -> None:
        dict.update(self, self.to_value())

    def to_value(self) -> dict[str, Any]:
        """Return the value that flows through a DAG: plain JSON, no secrets."""
        return {name: _plain(value) for name, value in vars(self).items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), dict(vars(self)))

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, _: Any) -> Value:
        return self

    def _refuse_change(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is read-only; copy it: dict(value).")

    __setitem__ = __delitem__ = __ior__ = _refuse_change
    update = pop = popitem = setdefault = clear = _refuse_change


class Secret:
    """Base of the dataclasses that hold a credential: they refuse to be stored, and name what to return."""

    #: What a task should return in its place.
    instead: ClassVar[str] = ""

    def serialize(self) -> NoReturn:
        """Refuse to become an XCom or an argument of a trigger; Airflow asks this method."""
        refuse_to_store(self, self.instead)


def refuse_to_store(result: object, instead: str) -> NoReturn:
    """
    Refuse to let a result leave this process.

    :param result: holds a credential.
    :param instead: what to return from a task in its place.
    :raises DiffioInputError: always.
    """
    raise DiffioInputError(
        f"{type(result).__name__} holds a secret, which everybody who may see the DAG can read in an XCom.",
        advice=f"Return {instead} from the task instead.",
    )


def _make(cls: type[Value], fields: dict[str, Any]) -> Value:
    return cls(**fields)


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
