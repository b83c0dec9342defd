"""The account: settings, keys, usage."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_diffio.sandbox.api import Endpoint
from airflow_provider_diffio.sandbox.contract import (
    MAX_LABEL,
    SCOPES,
    ApiError,
    JSONObject,
    optional_object,
    optional_string,
    string_field,
)
from airflow_provider_diffio.sandbox.keys import ApiKey, KeyRing
from airflow_provider_diffio.sandbox.ledger import bill, months
from airflow_provider_diffio.sandbox.state import State, iso

_POLICY_TYPES = ("customerStripe", "internalDiffio")


class Account:
    """The endpoints about the account."""

    def __init__(self, state: State, keys: KeyRing) -> None:
        self._state = state
        self._keys = keys
        self.clear()

    def clear(self) -> None:
        """Back to a new account's settings."""
        self._policy: dict[str, Any] = {"type": "customerStripe"}
        self._updated = time.time()

    def endpoints(self) -> dict[str, Endpoint]:
        """What is served."""
        return {
            "account/settings/get": Endpoint("account:read", self.settings),
            "account/settings/update": Endpoint("account:write", self.update, admin_only=True),
            "api_keys/create": Endpoint("keys:write", self.create_key, admin_only=True),
            "api_keys/list": Endpoint("keys:read", self.list_keys, admin_only=True),
            "api_keys/rotate": Endpoint("keys:write", self.rotate_key, admin_only=True),
            "api_keys/revoke": Endpoint("keys:write", self.revoke_key, admin_only=True),
            "usage/summary": Endpoint("usage:read", self.usage),
        }

    async def settings(self, key: ApiKey, _body: JSONObject) -> JSONObject:
        """The account's settings."""
        return {"apiKeyId": key.key_id, "account": self._account()}

    async def update(self, _key: ApiKey, body: JSONObject) -> JSONObject:
        """Change the billing policy."""
        policy = optional_object(body, "billingPolicy")
        if policy is None or policy.get("type") not in _POLICY_TYPES:
            raise ApiError(400, "billingPolicy.type must be customerStripe or internalDiffio.")
        optional_string(policy, "reason")
        self._policy = {name: policy[name] for name in ("type", "reason") if policy.get(name) is not None}
        self._updated = time.time()
        return {"account": self._account()}

    async def create_key(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """Make a scoped key; its plaintext is in this response and nowhere else."""
        label = string_field(body, "label")
        if len(label) > MAX_LABEL:
            raise ApiError(400, f"label must be at most {MAX_LABEL} characters.")
        scopes = body.get("scopes")
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise ApiError(400, "scopes must be an array of strings.")
        unknown = sorted(set(scopes) - SCOPES)
        if unknown:
            raise ApiError(400, f"Unsupported scope: {unknown[0]}.")
        bounds = optional_object(body, "resourceBounds") or {}
        made = self._keys.create(key, label, tuple(scopes), bounds)
        return {
            **_described(made),
            "key": made.plaintext,
            "permissions": {
                "read": any(scope.endswith(":read") for scope in scopes),
                "write": any(scope.endswith(":write") for scope in scopes),
            },
        }

    async def list_keys(self, _key: ApiKey, _body: JSONObject) -> JSONObject:
        """Every key, without plaintext."""
        return {"keys": [_described(key) for key in self._keys.all()]}

    async def rotate_key(self, _key: ApiKey, body: JSONObject) -> JSONObject:
        """Replace a key's plaintext."""
        target = self._scoped_target(body)
        if target.status != "active":
            raise ApiError(403, "API key is not active.")
        self._keys.rotate(target)
        return {**_described(target), "key": target.plaintext}

    async def revoke_key(self, _key: ApiKey, body: JSONObject) -> JSONObject:
        """End a key."""
        target = self._scoped_target(body)
        self._keys.revoke(target)
        return _described(target)

    async def usage(self, key: ApiKey, body: JSONObject) -> JSONObject:
        """What a key would have been billed, by month and model."""
        key_id = optional_string(body, "apiKeyId") or key.key_id
        if key_id != key.key_id:
            key.require_admin()
            self._keys.get(key_id)
        generations = [
            generation for generation in self._state.generations.values() if generation.key_id == key_id
        ]
        lifetime = sum(bill(generation).cents for generation in generations)
        return {
            "usage": {"apiKeyId": key_id, "periods": months(generations)},
            "billing": {
                "billingPolicy": self._policy,
                "lifetimeListPriceCents": lifetime,
                "lifetimeBillableCents": lifetime,
            },
        }

    def _scoped_target(self, body: JSONObject) -> ApiKey:
        target = self._keys.get(string_field(body, "keyId"))
        if target.is_admin:
            raise ApiError(403, "Admin keys cannot be changed through the API.")
        return target

    def _account(self) -> JSONObject:
        return {
            "userId": "user_sandbox",
            "billingMode": "developerProgressive",
            "billingStatus": "active",
            "billingPolicy": self._policy,
            "currency": "usd",
            "updatedAt": iso(self._updated),
        }


def _described(key: ApiKey) -> JSONObject:
    return {
        "keyId": key.key_id,
        "label": key.label,
        "status": key.status,
        "keyPrefix": key.prefix,
        "role": key.role,
        "scopes": list(key.scopes),
        "resourceBounds": key.resource_bounds,
        "parentKeyId": key.parent_key_id,
        "createdAt": iso(key.created),
        "rotatedAt": None if key.rotated is None else iso(key.rotated),
        "revokedAt": None if key.revoked is None else iso(key.revoked),
    }
