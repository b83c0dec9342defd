"""Looking up a connection's webhook secret for callers who have not proved anything yet."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

#: What may be looked up. Some secrets backends make a path or a query of the id, so nothing that could
#: lead elsewhere in one is let through.
CONN_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]|\.(?!\.)){0,199}\Z")

KNOWN_SECONDS = 15.0
UNKNOWN_SECONDS = 15.0
MAX_KNOWN = 256
MAX_UNKNOWN = 4096


class WebhookSecrets:
    """
    The secrets of Diffio connections, remembered for seconds.

    Every lookup may be a request to a secrets backend, which strangers must not be able to cause at will.
    The two memories are separate, so that made-up ids can not push real ones out.

    :param look_up: returns a connection's secrets as they stand there, or None.
    """

    def __init__(
        self, look_up: Callable[[str], str | None], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._now = now
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, conn_id: str) -> str | None:
        """Return the secret or secrets of a Diffio connection, or None. Blocks while it looks."""
        if not CONN_ID.match(conn_id):
            return None
        now = self._now()
        with self._lock:
            known = self._known.get(conn_id)
            if known is not None and known[0] > now:
                return known[1]
            if self._unknown.get(conn_id, 0.0) > now:
                return None
        secrets = self._look_up(conn_id)
        with self._lock:
            self._known.pop(conn_id, None)
            self._unknown.pop(conn_id, None)
            if secrets is None:
                self._unknown[conn_id] = now + UNKNOWN_SECONDS
                _shorten(self._unknown, MAX_UNKNOWN)
            else:
                self._known[conn_id] = (now + KNOWN_SECONDS, secrets)
                _shorten(self._known, MAX_KNOWN)
        return secrets


def connection_secrets(conn_id: str) -> str | None:
    """
    Read a connection as the API server does, and return its ``webhook_secret``.

    :return: the secret or secrets; None when there is no such connection, it is of another type, or it has
        no secret.
    :raises DiffioConfigurationError: when it is a Diffio connection that can not work.
    """
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models.connection import Connection

    from airflow_provider_diffio.hooks.connection import DiffioConnection

    try:
        connection = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return None
    if connection.conn_type != "diffio":
        return None
    return DiffioConnection.read(connection).webhook_secret


def _shorten(memory: OrderedDict[str, Any], size: int) -> None:
    while len(memory) > size:
        memory.popitem(last=False)
