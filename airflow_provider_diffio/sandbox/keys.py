"""API keys: who may do what."""

from __future__ import annotations

import hmac
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_diffio.sandbox.contract import INVALID_KEY, ApiError

_PREFIX_LENGTH = 17
#: What ``downloadGenerations`` of a key from before scopes is about.
_DOWNLOAD = "artifacts:read"


@dataclass
class ApiKey:
    """One key. The plaintext stays here because a sandbox has nothing to hide."""

    key_id: str
    plaintext: str
    label: str
    role: str
    scopes: tuple[str, ...]
    resource_bounds: dict[str, Any] = field(default_factory=dict)
    parent_key_id: str | None = None
    #: Of a key from before scopes: ``read``, ``write``, and perhaps ``downloadGenerations``.
    permissions: dict[str, bool] | None = None
    status: str = "active"
    created: float = field(default_factory=time.time)
    rotated: float | None = None
    revoked: float | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the key may manage other keys and the account."""
        return self.role == "admin"

    @property
    def prefix(self) -> str:
        """As much of the key as may be shown."""
        return self.plaintext[:_PREFIX_LENGTH]

    def allows(self, scope: str) -> bool:
        """Whether the key carries a scope; admin keys carry all."""
        if self.permissions is None:
            return self.is_admin or scope in self.scopes
        allowed = self.permissions.get(scope.rpartition(":")[2], False)
        return allowed and (scope != _DOWNLOAD or self.permissions.get("downloadGenerations", True))

    def require(self, scope: str) -> None:
        """Refuse with 403 unless the key carries the scope."""
        if not self.allows(scope):
            if self.permissions is not None and scope == _DOWNLOAD:
                raise ApiError(403, "API key is not allowed to download generations.")
            raise ApiError(403, f"API key is missing the {scope} permission.")

    def may_use(self, project_id: str, owner: str) -> bool:
        """Whether a project is within the key's reach.

        A key reaches its own projects. One that was bound to projects reaches these alone, of its own and
        of the key that made it: it was made for projects that were there before it.
        """
        bound = self.resource_bounds.get("projectIds")
        if bound is None:
            return owner == self.key_id
        return project_id in bound and owner in {self.key_id, self.parent_key_id}

    @property
    def is_bound(self) -> bool:
        """Whether the key is for certain projects only."""
        return self.resource_bounds.get("projectIds") is not None

    def require_admin(self) -> None:
        """Refuse with 403 unless this is an admin key."""
        if not self.is_admin:
            raise ApiError(403, "Privileged admin key required.")


class KeyRing:
    """All keys of the sandbox's one account."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._by_id: dict[str, ApiKey] = {}
        self._by_plaintext: dict[str, ApiKey] = {}
        self.clear()

    def clear(self) -> None:
        """Back to the one admin key the sandbox was started with."""
        self._by_id.clear()
        self._by_plaintext.clear()
        self._add(ApiKey("key_sandbox", self._bootstrap, "Sandbox key", "admin", ("admin",)))

    @property
    def bootstrap(self) -> ApiKey:
        """The key the sandbox was started with."""
        return self._by_id["key_sandbox"]

    def all(self) -> list[ApiKey]:
        """Every key, oldest first."""
        return list(self._by_id.values())

    def get(self, key_id: str) -> ApiKey:
        """The key with that id."""
        try:
            return self._by_id[key_id]
        except KeyError:
            raise ApiError(404, "API key not found.") from None

    def authenticate(self, plaintext: str | None) -> ApiKey:
        """The active key of a request; 401 for an unknown one, 403 for a revoked one."""
        key = self._by_plaintext.get(plaintext or "")
        if key is None:
            raise ApiError(401, INVALID_KEY)
        if key.status != "active":
            raise ApiError(403, "API key is not active.")
        return key

    def knows(self, plaintext: str) -> bool:
        """Whether a string is one of the keys, active or not."""
        return plaintext in self._by_plaintext

    def appears_in(self, text: str) -> bool:
        """Whether any key is hidden somewhere in a text."""
        return any(plaintext in text for plaintext in self._by_plaintext)

    def create(
        self,
        parent: ApiKey,
        label: str,
        scopes: tuple[str, ...],
        bounds: dict[str, Any],
        permissions: dict[str, bool] | None = None,
    ) -> ApiKey:
        """Make a scoped key, or one from before scopes if ``permissions`` are given."""
        project_ids = bounds.get("projectIds")
        if project_ids is not None and not _strings(project_ids):
            raise ApiError(400, "resourceBounds.projectIds must be an array of strings.")
        key = ApiKey(
            key_id=f"key_{uuid.uuid4().hex[:12]}",
            plaintext=_new_plaintext(),
            label=label,
            role="scoped",
            scopes=scopes,
            resource_bounds=bounds,
            parent_key_id=parent.key_id,
            permissions=permissions,
        )
        self._add(key)
        return key

    def rotate(self, key: ApiKey) -> None:
        """Give a key a new plaintext; the old one is unknown from now on."""
        del self._by_plaintext[key.plaintext]
        key.plaintext = _new_plaintext()
        key.rotated = time.time()
        self._by_plaintext[key.plaintext] = key

    def revoke(self, key: ApiKey) -> None:
        """End a key; whoever shows it is told that it is not active."""
        key.status = "revoked"
        key.revoked = key.revoked or time.time()

    def _add(self, key: ApiKey) -> None:
        self._by_id[key.key_id] = key
        self._by_plaintext[key.plaintext] = key


def signature(secret: str, *values: str) -> str:
    """A hex HMAC over values, for links that must not be forged."""
    return hmac.new(secret.encode(), "\n".join(values).encode(), "sha256").hexdigest()


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _new_plaintext() -> str:
    return f"diffio_live_{secrets.token_hex(20)}"
