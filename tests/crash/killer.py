"""
Kills the process of a task at a named point, once; the product knows nothing of it.

A task gets :func:`killer` as its ``pre_execute``. That runs in the task's own process, which was forked for
this one try, so what is replaced here is replaced for nobody else.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Die = Callable[[], None]


def killer(point: str, marker: Path) -> Callable[[Mapping[str, Any]], None]:
    """
    Return a ``pre_execute`` that lets the task kill itself at a point.

    :param point: one of :data:`POINTS`.
    :param marker: a file that is made when it happens; while it is there, nothing happens any more.
    """

    def prepare(context: Mapping[str, Any]) -> None:
        def die() -> None:
            # Several threads can get here at once; whichever is first, this process ends.
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        if not marker.exists():
            POINTS[point](die, context["task"])

    return prepare


def _always(*_: Any, **__: Any) -> bool:
    return True


def _before(owner: Any, name: str, die: Die, when: Callable[..., bool] = _always) -> None:
    original = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            die()
        return original(*args, **kwargs)

    setattr(owner, name, dying)


def _after(owner: Any, name: str, die: Die, when: Callable[..., bool] = _always) -> None:
    original = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if when(*args, **kwargs):
            die()
        return result

    setattr(owner, name, dying)


def _calls(ending: str) -> Callable[..., bool]:
    """Tell whether a client is calling the endpoint whose path ends so."""
    return lambda _, call, *__, **___: str(call.path).endswith(ending)


def _created(die: Die, _: Any) -> None:
    from airflow_provider_diffio.api.client import DiffioClient

    _after(DiffioClient, "call", die, _calls("create_project"))


def _part(die: Die, _: Any) -> None:
    from airflow_provider_diffio.api.uploads import Slice

    def in_the_middle(part: Slice, *_: Any) -> bool:
        return 0 < part.tell() < len(part)

    _before(Slice, "read", die, in_the_middle)


def _unconfirmed(die: Die, _: Any) -> None:
    from airflow_provider_diffio.api.client import DiffioClient

    _before(DiffioClient, "call", die, _calls("complete_project_upload"))


def _unread(die: Die, _: Any) -> None:
    connection = http.client.HTTPConnection
    urls: dict[int, str] = {}

    def noted(self: Any, _method: str, url: str, *_: Any, **__: Any) -> bool:
        urls[id(self)] = url
        return False

    def answered(self: Any, *_: Any) -> bool:
        if not urls.get(id(self), "").endswith("-generation"):
            return False
        # The first bytes of the answer are here, and nobody has read them.
        select.select([self.sock], [], [])
        return True

    _before(connection, "putrequest", die, noted)
    _before(connection, "getresponse", die, answered)


def _unremembered(die: Die, _: Any) -> None:
    from airflow_provider_diffio.api.client import DiffioClient

    _after(DiffioClient, "call", die, _calls("-generation"))


def _resumption(die: Die, task: Any) -> None:
    _before(type(task), "execute_complete", die)


def _download(die: Die, _: Any) -> None:
    from airflow_provider_diffio.storage.local import LocalSink

    blocks: list[int] = []

    def in_the_middle(_: Any, block: bytes) -> bool:
        blocks.append(len(block))
        return len(blocks) == 2

    _before(LocalSink, "write", die, in_the_middle)


def _is_part(path: Path, *_: Any) -> bool:
    return path.suffix == ".part"


def _unnamed(die: Die, _: Any) -> None:
    _before(Path, "replace", die, _is_part)


def _named(die: Die, _: Any) -> None:
    _after(Path, "replace", die, _is_part)


#: How each point is reached. A name that is not there any more fails the task, and so the laboratory.
POINTS: Mapping[str, Callable[[Die, Any], None]] = {
    "created": _created,
    "part": _part,
    "unconfirmed": _unconfirmed,
    "unread": _unread,
    "unremembered": _unremembered,
    "resumption": _resumption,
    "download": _download,
    "unnamed": _unnamed,
    "named": _named,
}
