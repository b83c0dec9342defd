"""Account, keys and usage."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.sandbox.wire import JSONObject, Wire


def scoped(wire: Wire, *scopes: str) -> JSONObject:
    return wire.ok("api_keys/create", {"label": "child", "scopes": list(scopes), "resourceBounds": {}})


def test_settings_can_be_read_and_changed(wire: Wire) -> None:
    settings = wire.ok("account/settings/get")
    assert settings["account"]["billingPolicy"] == {"type": "customerStripe"}
    policy = {"type": "internalDiffio", "reason": "test"}
    assert wire.ok("account/settings/update", {"billingPolicy": policy})["account"]["billingPolicy"] == policy
    assert wire.ok("account/settings/get")["account"]["billingPolicy"] == policy
    assert wire.post("account/settings/update", {"billingPolicy": {"type": "free"}}).status == 400


def test_a_key_is_shown_once(wire: Wire) -> None:
    key = scoped(wire, "projects:read")
    assert key["key"].startswith(key["keyPrefix"])
    assert len(key["keyPrefix"]) == 17
    assert (key["role"], key["status"], key["parentKeyId"]) == ("scoped", "active", "key_sandbox")
    listed = wire.ok("api_keys/list")["keys"]
    assert [entry["keyId"] for entry in listed] == ["key_sandbox", key["keyId"]]
    assert not any("key" in entry for entry in listed)


def test_a_scoped_key_does_what_it_may_and_nothing_else(wire: Wire) -> None:
    key = scoped(wire, "projects:read")["key"]
    assert wire.post("list_projects", key=key).status == 200
    assert wire.post("create_project", {"fileName": "a"}, key=key).status == 403
    assert wire.post("account/settings/get", key=key).status == 403
    assert wire.post("api_keys/list", key=key).status == 403


def test_scopes_alone_do_not_make_an_admin(wire: Wire) -> None:
    key = scoped(wire, "keys:read", "keys:write", "webhooks:write")["key"]
    assert wire.post("api_keys/list", key=key).body == {"error": "Privileged admin key required."}


def test_projects_belong_to_the_key_that_made_them(wire: Wire) -> None:
    key = scoped(wire, "projects:read", "projects:write", "generations:write")["key"]
    project_id = wire.uploaded()
    assert wire.ok("list_projects", key=key) == {"projects": []}
    assert wire.post("diffio-4.6-flash-generation", {"apiProjectId": project_id}, key=key).status == 403
    wire.uploaded(key=key)
    assert len(wire.ok("list_projects", key=key)["projects"]) == 1


DOWNLOADER = ("projects:read", "projects:write", "generations:read", "generations:write", "artifacts:read")


def test_a_key_can_be_limited_to_projects(wire: Wire) -> None:
    inside, outside = wire.uploaded(), wire.uploaded()
    key = wire.sandbox.add_key(*DOWNLOADER, "usage:read", resourceBounds={"projectIds": [inside]})
    refusal = {"error": "API key is limited to other projects."}
    assert [it["apiProjectId"] for it in wire.ok("list_projects", key=key)["projects"]] == [inside]
    generation_id = wire.generation(inside, key=key)
    wire.finished(generation_id)
    assert wire.ok("usage/summary", key=key)["usage"]["periods"][0]["totalCents"] == 1
    assert wire.ok("usage/summary")["usage"]["periods"] == []
    for path, body in (
        ("diffio-4.6-flash-generation", {"apiProjectId": outside}),
        ("complete_project_upload", {"apiProjectId": outside}),
        ("list_project_generations", {"apiProjectId": outside}),
        ("get_generation_progress", {"generationId": wire.generation(outside)}),
        ("create_project", {"fileName": "a.wav"}),
    ):
        response = wire.post(path, body, key=key)
        assert (response.status, response.body) == (403, refusal), path
    body = {"generationId": generation_id, "apiProjectId": inside}
    assert wire.post("get_generation_download", body, key=key).status == 200


def test_limits_are_kept_when_a_key_is_rotated_and_checked_when_it_is_made(wire: Wire) -> None:
    inside = wire.uploaded()
    made = wire.ok(
        "api_keys/create",
        {"label": "child", "scopes": ["projects:read"], "resourceBounds": {"projectIds": [inside]}},
    )
    rotated = wire.ok("api_keys/rotate", {"keyId": made["keyId"]})["key"]
    assert len(wire.ok("list_projects", key=rotated)["projects"]) == 1
    assert wire.post(
        "api_keys/create", {"label": "x", "scopes": [], "resourceBounds": {"projectIds": "proj_123"}}
    ).body == {"error": "resourceBounds.projectIds must be an array of strings."}


@pytest.mark.parametrize(
    ("permissions", "status"),
    [
        ({"read": True, "write": True}, 200),
        ({"read": True, "write": True, "downloadGenerations": True}, 200),
        ({"read": True, "write": True, "downloadGenerations": False}, 403),
    ],
)
def test_a_key_from_before_scopes_may_be_kept_from_downloads(
    wire: Wire, permissions: JSONObject, status: int
) -> None:
    key = wire.sandbox.add_key(permissions=permissions)
    project_id = wire.uploaded(key=key)
    generation_id = wire.generation(project_id, key=key)
    ids = {"generationId": generation_id, "apiProjectId": project_id}
    while wire.ok("get_generation_progress", ids, key=key)["status"] != "complete":
        time.sleep(0.02)
    response = wire.post("get_generation_download", ids, key=key)
    assert response.status == status
    if status == 403:
        assert response.body == {"error": "API key is not allowed to download generations."}


def test_a_key_from_before_scopes_reads_or_writes(wire: Wire) -> None:
    reader = wire.sandbox.add_key(permissions={"read": True, "write": False})
    writer = wire.sandbox.add_key(permissions={"write": True})
    assert wire.post("list_projects", key=reader).status == 200
    assert wire.post("create_project", {"fileName": "a"}, key=reader).status == 403
    assert wire.post("list_projects", key=writer).status == 403
    assert wire.post("create_project", {"fileName": "a"}, key=writer).status == 200


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"scopes": ["no:such"]},
        {"permissions": {"read": "yes"}},
        {"permissions": {"delete": True}},
        {"permissions": ["read"]},
        {"permissions": {"read": True}, "scopes": ["projects:read"]},
        {"resourceBounds": {"projectIds": 7}},
    ],
)
def test_a_key_has_to_make_sense(wire: Wire, body: Any) -> None:
    response = wire.http.post(f"{wire.sandbox.api_url}/sandbox/keys", json=body)
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_rotated_key_is_unknown_and_its_successor_works(wire: Wire) -> None:
    key = scoped(wire, "projects:read")
    rotated = wire.ok("api_keys/rotate", {"keyId": key["keyId"]})
    assert rotated["rotatedAt"] is not None
    assert wire.post("list_projects", key=key["key"]).status == 401
    assert wire.post("list_projects", key=rotated["key"]).status == 200


def test_a_revoked_key_is_refused_but_known(wire: Wire) -> None:
    key = scoped(wire, "projects:read")
    assert wire.ok("api_keys/revoke", {"keyId": key["keyId"]})["status"] == "revoked"
    assert wire.post("list_projects", key=key["key"]).body == {"error": "API key is not active."}


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_an_admin_key_is_no_target(wire: Wire, action: str) -> None:
    assert wire.post(f"api_keys/{action}", {"keyId": "key_sandbox"}).status == 403
    assert wire.post(f"api_keys/{action}", {"keyId": "unknown"}).status == 404
    assert wire.post(f"api_keys/{action}", {}).body == {"error": "keyId is required."}


def test_labels_and_scopes_are_checked(wire: Wire) -> None:
    assert wire.post("api_keys/create", {"label": "x" * 81, "scopes": []}).status == 400
    assert wire.post("api_keys/create", {"label": "x", "scopes": "admin"}).status == 400
    assert wire.post("api_keys/create", {"label": "x", "scopes": ["no:such"]}).status == 400


def test_usage_counts_the_minimum_of_a_minute(wire: Wire) -> None:
    wire.restored()
    (period,) = wire.ok("usage/summary")["usage"]["periods"]
    assert period["modelSeconds"] == {"diffio-4.6-flash": 60}
    assert (period["reservedCents"], period["finalizedCents"], period["totalCents"]) == (0, 1, 1)


def test_a_scoped_key_sees_its_own_usage_only(wire: Wire) -> None:
    key = scoped(wire, "usage:read")
    assert wire.ok("usage/summary", key=key["key"])["usage"] == {"apiKeyId": key["keyId"], "periods": []}
    assert wire.post("usage/summary", {"apiKeyId": "key_sandbox"}, key=key["key"]).status == 403
    assert wire.post("usage/summary", {"apiKeyId": key["keyId"]}).status == 200
