"""Looking up a connection's webhook secret for callers who have not proved anything yet."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from airflow_provider_diffio.assets import receives_webhooks

#: Seconds for which a connection's secrets are used without another look-up, and for which an id without
#: secrets is not looked up again.
KNOWN_SECONDS = 15.0
UNKNOWN_SECONDS = 15.0
MAX_KNOWN = 256
MAX_UNKNOWN = 4096
#: Look-ups of ids that never had secrets: so many at once, and so many per second from then on.
UNSEEN_BURST = 20
UNSEEN_PER_SECOND = 2.0


class WebhookSecrets:
    """
    The secrets of Diffio connections, kept for some seconds.

    Each look-up may be a request to a secrets backend, which strangers must not be able to cause at will. Ids
    that never had secrets share a small budget. Ids that had some are looked up without it, so that made-up
    ids neither delay nor displace real ones.

    :param look_up: returns a connection's secrets as they stand in the connection, or None.
    :param now: a monotonic clock in seconds.
    """

    def __init__(
        self, look_up: Callable[[str], str | None], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._now = now
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._budget = _Budget(UNSEEN_BURST, UNSEEN_PER_SECOND, now())
        self._lock = threading.Lock()

    def is_known(self, diffio_conn_id: str) -> bool:
        """Return whether this process has seen secrets of a connection. Does not block."""
        with self._lock:
            return diffio_conn_id in self._known

    def get(self, diffio_conn_id: str) -> str | None:
        """
        Return the secret or secrets of a Diffio connection, or None. Blocks while it looks them up.

        :param diffio_conn_id: an id that a stranger sent.
        :return: the secrets; None when the connection has none, or may not be looked up now.
        """
        if not receives_webhooks(diffio_conn_id):
            return None
        now = self._now()
        with self._lock:
            known = self._known.get(diffio_conn_id)
            if known is not None and known[0] > now:
                return known[1]
            if self._unknown.get(diffio_conn_id, 0.0) > now:
                return None
            if known is None and not self._budget.take(now):
                return None
        secrets = self._look_up(diffio_conn_id)
        with self._lock:
            self._known.pop(diffio_conn_id, None)
            self._unknown.pop(diffio_conn_id, None)
            if secrets is None:
                self._unknown[diffio_conn_id] = now + UNKNOWN_SECONDS
                _shorten(self._unknown, MAX_UNKNOWN)
            else:
                self._known[diffio_conn_id] = (now + KNOWN_SECONDS, secrets)
                _shorten(self._known, MAX_KNOWN)
        return secrets


class _Budget:
    """A number of look-ups that grows back with time."""

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst = self._left = burst
        self._per_second = per_second
        self._at = now

    def take(self, now: float) -> bool:
        """Return whether one more is allowed, and count it."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def connection_secrets(conn_id: str) -> str | None:
    """
    Read a connection as the API server does, and return its ``webhook_secret``.

    :param conn_id: the connection's id.
    :return: the secret or secrets; None when the connection does not exist, has another type or no secret.
        The connection of a team (``[core] multi_team``) does not exist here.
    :raises DiffioConfigurationError: when it is a Diffio connection that cannot work.
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


def _shorten(cache: OrderedDict[str, Any], size: int) -> None:
    while len(cache) > size:
        cache.popitem(last=False)
