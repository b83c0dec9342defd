"""
Keeping signed URLs out of the HTTP library's log.

At debug level urllib3 logs the path of every request, and the path of a signed URL is a credential. Telling
Airflow to mask it is not enough: what a task logs also reaches the scheduler's own output, where nothing is
masked.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

_LOGGER = "urllib3.connectionpool"
#: Old signed URLs are forgotten; a process has few of them in use at a time.
_KEPT = 2000


class _HideSecrets(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._secrets: OrderedDict[str, None] = OrderedDict()

    def add(self, secret: str) -> None:
        self._secrets[secret] = None
        self._secrets.move_to_end(secret)
        if len(self._secrets) > _KEPT:
            self._secrets.popitem(last=False)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._hidden(value) for value in record.args)
        return True

    def _hidden(self, value: object) -> object:
        if isinstance(value, (int, float)) or value is None:
            return value
        text = str(value)
        return "***" if any(secret in text for secret in tuple(self._secrets)) else value


_hide = _HideSecrets()


def keep_out_of_logs(secret: str) -> None:
    """
    Hide a secret in what urllib3 logs from now on.

    :param secret: a signed URL, or a part of one that a request line shows.
    """
    _hide.add(secret)
    logger = logging.getLogger(_LOGGER)
    # Added each time: a logging configuration that is loaded later may have dropped it.
    if _hide not in logger.filters:
        logger.addFilter(_hide)
