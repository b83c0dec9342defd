"""A line per request, once its response is sent: what happened, without the secrets that came along."""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from airflow_provider_diffio.sandbox.journal import Entry
from airflow_provider_diffio.sandbox.state import iso

log = logging.getLogger(__name__)

#: Where a request keeps its entry in the journal.
ENTRY: Final[Any] = web.RequestKey("entry", Entry) if hasattr(web, "RequestKey") else "diffio_sandbox_entry"


class AccessLogger(AbstractAccessLogger):
    """Completes a request's entry in the journal, and logs it."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Called by aiohttp after each request. Control routes have no entry, and make no line."""
        entry = request.get(ENTRY)
        if not isinstance(entry, Entry):
            return
        entry.milliseconds = round(time * 1000)
        entry.bytes_in = request.content_length or 0
        entry.bytes_out = 0 if entry.status is None else response.body_length
        if self.logger.isEnabledFor(logging.INFO):
            self.logger.info("%s", line(entry))


def line(entry: Entry) -> str:
    """Time, method, path, status, milliseconds, bytes; and the fault that struck, if one did."""
    # A path may hold anything, and a line must stay one line.
    path = "".join(character if character.isprintable() else "?" for character in entry.path)
    status = "no response" if entry.status is None else entry.status
    received = f", {entry.bytes_in} bytes in" if entry.bytes_in else ""
    fault = f", fault {entry.fault}" if entry.fault else ""
    return (
        f"{iso(entry.at)} {entry.method} {path} {status} "
        f"{entry.milliseconds} ms{received}, {entry.bytes_out} bytes out{fault}"
    )
