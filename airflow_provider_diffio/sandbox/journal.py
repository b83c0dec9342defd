"""Every request the sandbox saw, without the secrets it carried."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from aiohttp import web

from airflow_provider_diffio.sandbox.keys import KeyRing
from airflow_provider_diffio.sandbox.state import State, iso

#: Enough for any test; a sandbox that is left running for days must not grow without end.
_KEEP: Final = 100_000


@dataclass
class Entry:
    """One request. ``status`` stays None when no response was sent."""

    number: int
    at: float
    origin: str
    method: str
    path: str
    headers: tuple[str, ...]
    authorization: str
    api_key_seen: bool
    status: int | None = None
    fault: str | None = None
    milliseconds: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0

    def body(self) -> dict[str, Any]:
        """The entry as the control route shows it."""
        return {
            "number": self.number,
            "at": iso(self.at),
            "origin": self.origin,
            "method": self.method,
            "path": self.path,
            "headers": list(self.headers),
            "authorization": self.authorization,
            "apiKeySeen": self.api_key_seen,
            "status": self.status,
            "fault": self.fault,
            "milliseconds": self.milliseconds,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
        }


class Journal:
    """The requests seen since the start or the last reset."""

    def __init__(self, state: State, keys: KeyRing) -> None:
        self._state = state
        self._keys = keys
        self._entries: deque[Entry] = deque(maxlen=_KEEP)
        self._count = 0

    def open(self, request: web.BaseRequest, origin: str) -> Entry:
        """Begin the entry of a request that just came in."""
        self._count += 1
        authorization = self._label(request.headers.get("Authorization"))
        entry = Entry(
            number=self._count,
            at=time.time(),
            origin=origin,
            method=request.method,
            path=self._without_secrets(request.path),
            headers=tuple(request.headers),
            authorization=authorization,
            api_key_seen=authorization == "api-key" or self._key_in(request),
        )
        self._entries.append(entry)
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        return [entry.body() for entry in self._entries]

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, newest first."""
        return [entry.body() for entry in islice(reversed(self._entries), count)]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._count = 0

    def _label(self, value: str | None) -> str:
        """Whose credential an Authorization header carries."""
        if not value:
            return "none"
        token = value.removeprefix("Bearer ").strip()
        if self._keys.knows(token):
            return "api-key"
        return "upload-token" if self._state.project_of_token(token) is not None else "unknown"

    def _key_in(self, request: web.BaseRequest) -> bool:
        """Whether an API key travels anywhere else: a leak, if this is not the API."""
        return self._keys.appears_in(f"{request.raw_path}\n{request.headers.values()}")

    def _without_secrets(self, path: str) -> str:
        """A path without the token of a media link, and without an API key that has no business there."""
        if self._keys.appears_in(path):
            return "*"
        return _without_token(path)


def _without_token(path: str) -> str:
    if not path.startswith("/m/"):
        return path
    _, _, relative = path.removeprefix("/m/").partition("/")
    return f"/m/*/{relative}"
