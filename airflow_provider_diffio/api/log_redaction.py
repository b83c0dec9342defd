"""
Keeping signed URLs out of the HTTP library's log.

At debug level urllib3 logs the path of every request, and at warning level the whole URL of a response whose
headers are malformed; the URL of a signed link is a credential. Airflow's own masking does not fit: it
compiles all secrets that it was ever told into one expression, so that each file of a long process would cost
more than the last one; and what a task logs also reaches the scheduler's own output, where nothing is masked.
So the last few hundred links are kept here, and replaced in what urllib3 logs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

import requests
import urllib3.exceptions
import urllib3.util

from airflow_provider_diffio.api import models

#: Every logger of urllib3 that may be given a URL, or what a server wrote. A filter of a logger does not hold
#: for the loggers below it, so they are named one by one.
LOGGERS = (
    "urllib3",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.http2",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
    "requests",
)
#: Old links are forgotten; a process has few of them in use at a time.
_KEPT = 256


class _HideLinks(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        #: Each link, and the forms in which a log may show it. Those are made when something is logged first,
        #: which in most processes is never.
        self._links: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def add(self, link: str) -> None:
        if link not in self._links:
            self._links[link] = ()
        self._links.move_to_end(link)
        while len(self._links) > _KEPT:
            self._links.popitem(last=False)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._hidden(value) for value in record.args)
        if record.exc_info and self._holds_link(str(record.exc_info[1])):
            record.exc_info = None
        return True

    def _hidden(self, value: object) -> object:
        if isinstance(value, (int, float)) or value is None:
            return value
        return "***" if self._holds_link(str(value)) else value

    def _holds_link(self, text: str) -> bool:
        for link, forms in tuple(self._links.items()):
            if not forms:
                forms = self._links[link] = _forms(link)
            if any(form in text for form in forms):
                return True
        return False


def _forms(link: str) -> tuple[str, ...]:
    """Return a link as it was given and as the HTTP library writes it: whole, and in a request line."""
    found = models.secrets_of_url(link)
    try:
        shown = urllib3.util.parse_url(requests.Request("GET", link).prepare().url or "")
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError):
        return tuple(found)
    # A bare "/" is no secret, and hiding it would leave no log readable.
    return tuple(dict.fromkeys([*found, shown.url, *([shown.request_uri] * (len(shown.request_uri) > 1))]))


_hide = _HideLinks()


def keep_out_of_logs(link: str) -> None:
    """
    Hide a signed link in what the HTTP library logs from now on.

    :param link: the URL.
    """
    _hide.add(link)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        # Added each time: a logging configuration that is loaded later may have dropped it.
        if _hide not in logger.filters:
            logger.addFilter(_hide)
