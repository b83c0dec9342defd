"""Steers a running sandbox over its control routes: the same for one in a thread and one in a process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

#: Environment proxies have no business between a test and its own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RemoteSandbox:
    """Where a sandbox is and how to look inside."""

    def __init__(
        self,
        api_url: str,
        media_url: str,
        api_key: str,
        webhook_secret: str,
        *,
        public_url: str | None = None,
        control_token: str | None = None,
    ) -> None:
        #: The API's origin, without ``/v1``.
        self.api_url = api_url
        #: The origin of uploads and downloads.
        self.media_url = media_url
        self.api_key = api_key
        self.webhook_secret = webhook_secret
        #: The API's address for others, without ``/v1``.
        self.public_url = public_url or api_url
        #: What the control routes ask for, if they ask for anything.
        self.control_token = control_token

    @property
    def connection(self) -> dict[str, str]:
        """An Airflow connection to it, as ``AIRFLOW_CONN_...`` takes it in JSON."""
        return {"conn_type": "diffio", "host": self.public_url, "password": self.api_key}

    def ledger(self) -> dict[str, Any]:
        """What would have been billed: ``generations``, ``projects`` and ``totals``."""
        response: dict[str, Any] = self.control("GET", "ledger")
        return response

    def requests(self) -> list[dict[str, Any]]:
        """Every request seen, oldest first."""
        entries: list[dict[str, Any]] = self.control("GET", "requests")["requests"]
        return entries

    def add_fault(self, kind: str, **fault: Any) -> int:
        """Let something go wrong; the fields are those of ``POST /sandbox/faults``. Returns its id."""
        fault_id: int = self.control("POST", "faults", {"kind": kind, **fault})["faults"][0]
        return fault_id

    def faults(self) -> list[dict[str, Any]]:
        """The faults in force, with how often each was passed (``seen``) and struck."""
        faults: list[dict[str, Any]] = self.control("GET", "faults")["faults"]
        return faults

    def clear_faults(self) -> None:
        """Nothing goes wrong any more."""
        self.control("DELETE", "faults")

    def clear(self) -> None:
        """Forget projects, generations, keys, webhooks, faults and requests."""
        self.control("POST", "reset")

    def add_key(self, *scopes: str, **fields: Any) -> str:
        """Make another API key and return it.

        :param scopes: what it may do, such as ``projects:read``.
        :param fields: ``resourceBounds``; or, for a key from before scopes, ``permissions`` with ``read``,
            ``write`` and ``downloadGenerations``.
        """
        body = {"scopes": list(scopes), **fields}
        key: str = self.control("POST", "keys", body)["key"]
        return key

    def expire_links(self) -> None:
        """Let every download link given out so far expire now."""
        self.control("POST", "links/expire")

    def add_webhook(self, url: str, **options: Any) -> dict[str, Any]:
        """Add a webhook endpoint, plain HTTP on this machine included."""
        webhook: dict[str, Any] = self.control("POST", "webhooks", {"url": url, **options})["webhook"]
        return webhook

    def webhooks(self) -> dict[str, Any]:
        """Webhook ``endpoints`` and ``deliveries``."""
        response: dict[str, Any] = self.control("GET", "webhooks")
        return response

    def resend_webhook(self, message_id: str) -> None:
        """Deliver a webhook message again under the same id."""
        self.control("POST", "webhooks/resend", {"messageId": message_id})

    def result_bytes(self, generation_id: str, download_type: str = "audio") -> bytes:
        """A finished generation's result."""
        return self._send("GET", f"results/{generation_id}/{download_type}", None)

    def control(self, method: str, route: str, body: Any = None) -> Any:
        """Call one control route and return what it responds."""
        return json.loads(self._send(method, route, body))

    def _send(self, method: str, route: str, body: Any) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.control_token is not None:
            headers["Authorization"] = f"Bearer {self.control_token}"
        request = urllib.request.Request(
            f"{self.api_url}/sandbox/{route}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
        )
        try:
            with _OPENER.open(request, timeout=60) as response:
                content: bytes = response.read()
        except urllib.error.HTTPError as error:
            raise ValueError(f"{method} /sandbox/{route}: {error.read().decode()}") from error
        return content
