"""The front door: methods, keys, bodies, routes, and the order in which they are checked."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import Wire, WireResponse


def refused(status: int, message: str, **fields: Any) -> WireResponse:
    return WireResponse(status, {"error": message, **fields})


def test_only_post_is_served(wire: Wire) -> None:
    url = f"{wire.sandbox.api_url}/v1/list_projects"
    assert wire.http.get(url).status_code == 405
    assert wire.http.options(url).status_code == 204


@pytest.mark.parametrize("header", ["X-Api-Key", "Xi-Api-Key"])
def test_a_key_may_come_in_its_own_header(wire: Wire, header: str) -> None:
    url = f"{wire.sandbox.api_url}/v1/list_projects"
    assert wire.http.post(url, json={}, headers={header: wire.sandbox.api_key}).status_code == 200
    assert wire.http.post(url, json={}, headers={header: "wrong"}).status_code == 401


def test_a_wrong_key_comes_before_a_wrong_body(wire: Wire) -> None:
    url = f"{wire.sandbox.api_url}/v1/nowhere"
    response = wire.http.post(url, data=b"not json", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.json()) == (401, {"error": "Invalid API key."})


def test_an_empty_body_counts_as_an_empty_object(wire: Wire) -> None:
    headers = {"Authorization": f"Bearer {wire.sandbox.api_key}"}
    response = wire.http.post(f"{wire.sandbox.api_url}/v1/list_projects", headers=headers)
    assert (response.status_code, response.json()) == (200, {"projects": []})
    response = wire.http.post(f"{wire.sandbox.api_url}/v1/create_project", headers=headers)
    assert (response.status_code, response.json()) == (400, {"error": "fileName is required."})


@pytest.mark.parametrize("body", [b"not json", b"[]", b'"text"', b"\xff"])
def test_a_body_that_is_no_object_comes_before_an_unknown_route(wire: Wire, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {wire.sandbox.api_key}"}
    response = wire.http.post(f"{wire.sandbox.api_url}/v1/nowhere", data=body, headers=headers)
    assert (response.status_code, response.json()) == (400, {"error": "Invalid JSON body."})


@pytest.mark.parametrize(
    "path",
    [
        "nowhere",
        "webhooks/app_portal_access",
        "flash-generation",
        "-generation",
        "diffio--generation/x",
        "diffio-generation",
    ],
)
def test_an_unknown_route_is_not_found(wire: Wire, path: str) -> None:
    assert wire.post(path) == refused(404, "Not found.")


def test_responses_are_json(wire: Wire) -> None:
    headers = {"Authorization": f"Bearer {wire.sandbox.api_key}"}
    response = wire.http.post(f"{wire.sandbox.api_url}/v1/list_projects", json={}, headers=headers)
    assert response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("diffio-2.0-generation", "diffio-2"),
        ("diffio-2.0-flash-generation", "diffio-2-flash"),
        ("diffio-3.5-generation", "diffio-3.5"),
        ("diffio-4.0-pro-generation", "diffio-4.0-pro"),
        ("diffio-4.5-flash-generation", "diffio-4.5-flash"),
    ],
)
def test_a_retired_model_comes_before_an_unknown_project(wire: Wire, path: str, model: str) -> None:
    response = wire.post(path, {"apiProjectId": "unknown"})
    assert response == refused(
        410,
        f"{model} has been retired. Use diffio-4.6-flash or diffio-4.6-pro "
        "(/v1/diffio-4.6-flash-generation or /v1/diffio-4.6-pro-generation).",
        code="model_retired",
        retiredModel=model,
        supportedModels=["diffio-4.6-flash", "diffio-4.6-pro"],
    )


@pytest.mark.parametrize("kind", ["flash", "pro"])
def test_a_4_5_model_can_stand_for_its_successor(kind: str) -> None:
    with Sandbox(engine="passthrough", processing_seconds=0.0, accept_4_5=True) as sandbox:
        wire = Wire(sandbox)
        body = {"apiProjectId": wire.uploaded(), "idempotencyKey": "once"}
        first = wire.ok(f"diffio-4.5-{kind}-generation", body)
        assert first["modelKey"] == f"diffio-4.6-{kind}"
        assert wire.ok(f"diffio-4.6-{kind}-generation", body)["generationId"] == first["generationId"]
        assert wire.post("diffio-4.0-flash-generation", body).status == 410


def test_an_unknown_project_comes_before_a_missing_upload(wire: Wire) -> None:
    assert wire.post("diffio-4.6-flash-generation", {"apiProjectId": "unknown"}) == refused(
        404, "API project not found."
    )
    project = wire.project()
    assert wire.post("diffio-4.6-pro-generation", {"apiProjectId": project["apiProjectId"]}) == refused(
        409, "Upload the project file before creating a generation.", code="UPLOAD_MISSING"
    )


def test_a_project_needs_a_file_name(wire: Wire) -> None:
    assert wire.post("create_project", {}) == refused(400, "fileName is required.")
    assert wire.post("create_project", {"fileName": 7}).status == 400


@pytest.mark.parametrize("length", [-1, "12", True])
def test_a_content_length_is_a_number_of_bytes(wire: Wire, length: Any) -> None:
    assert wire.post("create_project", {"fileName": "a", "contentLength": length}).status == 400


def test_a_recording_can_be_too_large(wire: Wire) -> None:
    assert wire.post("create_project", {"fileName": "a", "contentLength": 8193}) == refused(
        413, "contentLength exceeds the 2 GiB upload limit.", code="UPLOAD_TOO_LARGE"
    )


def test_an_upload_has_to_be_there_to_be_confirmed(wire: Wire) -> None:
    project_id = wire.project()["apiProjectId"]
    assert wire.post("complete_project_upload", {"apiProjectId": project_id}) == refused(
        409, "Upload has not completed yet.", code="UPLOAD_MISSING"
    )
    assert wire.post("complete_project_upload", {"apiProjectId": "unknown"}) == refused(
        404, "API project not found."
    )


def test_a_project_is_listed_with_what_it_was_made_from(wire: Wire) -> None:
    project_id = wire.uploaded(fileName="a.mp3", contentType="audio/mpeg")
    (listed,) = wire.ok("list_projects")["projects"]
    assert listed.pop("createdAt").endswith("Z")
    assert listed.pop("updatedAt").endswith("Z")
    assert listed == {
        "apiProjectId": project_id,
        "status": "uploaded",
        "originalFileName": "a.mp3",
        "contentType": "audio/mpeg",
        "hasVideo": False,
        "generationCount": 0,
    }
