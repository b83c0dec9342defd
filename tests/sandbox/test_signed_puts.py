"""The older protocol: one PUT to a signed address."""

from __future__ import annotations

import requests

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import JSONObject, Wire


def project(wire: Wire, **fields: str) -> JSONObject:
    return wire.ok("create_project", {"fileName": "talk.wav", "contentType": "audio/wav", **fields})


def put(wire: Wire, url: str, **headers: str) -> requests.Response:
    return wire.http.put(url, data=b"sound", headers={"Content-Type": "audio/wav", **headers}, timeout=20)


def uploaded(wire: Wire) -> str:
    made = project(wire)
    assert put(wire, made["uploadUrl"]).status_code == 200
    return str(made["apiProjectId"])


def test_a_project_names_an_address_and_no_session(old_wire: Wire) -> None:
    made = project(old_wire)
    assert made.keys() == {
        "apiProjectId",
        "uploadUrl",
        "uploadMethod",
        "objectPath",
        "bucket",
        "expiresAt",
    }
    assert made["uploadMethod"] == "PUT"
    assert made["uploadUrl"].startswith(old_wire.sandbox.media_url)


def test_the_whole_way_from_upload_to_download(old_wire: Wire) -> None:
    generation_id = old_wire.generation(uploaded(old_wire), model="diffio-4.0-flash")
    assert old_wire.finished(generation_id)["status"] == "complete"
    link = old_wire.download(generation_id).body
    assert link["bucket"]
    assert old_wire.http.get(link["downloadUrl"]).content == b"sound"


def test_progress_has_jobs_and_none_of_the_newer_fields(old_wire: Wire) -> None:
    generation_id = old_wire.generation(uploaded(old_wire), model="diffio-3.5")
    progress = old_wire.finished(generation_id)
    assert progress["inference"]["jobState"] == "SUCCEEDED"
    assert progress["inference"]["jobId"]
    assert not progress.keys() & {"stage", "stageProgress", "queue"}


def test_every_model_of_the_time_is_served(old_wire: Wire) -> None:
    project_id = uploaded(old_wire)
    for path, model in (
        ("diffio-2.0", "diffio-2"),
        ("diffio-2.0-flash", "diffio-2-flash"),
        ("diffio-3.0", "diffio-3"),
        ("diffio-3.4", "diffio-3.4"),
        ("diffio-3.5", "diffio-3.5"),
        ("diffio-4.0-flash", "diffio-4.0-flash"),
        ("diffio-4.0-pro", "diffio-4.0-pro"),
    ):
        response = old_wire.ok(f"{path}-generation", {"apiProjectId": project_id})
        assert response["modelKey"] == model


def test_what_came_later_is_unknown(old_wire: Wire) -> None:
    project_id = uploaded(old_wire)
    assert old_wire.post("complete_project_upload", {"apiProjectId": project_id}).status == 404
    assert old_wire.post("diffio-4.6-flash-generation", {"apiProjectId": project_id}).status == 404


def test_a_leaked_credential_is_refused_and_seen(old_wire: Wire) -> None:
    response = put(
        old_wire, project(old_wire)["uploadUrl"], Authorization=f"Bearer {old_wire.sandbox.api_key}"
    )
    assert response.status_code == 400
    last = old_wire.sandbox.requests()[-1]
    assert (last["origin"], last["authorization"], last["apiKeySeen"]) == ("media", "api-key", True)


def test_any_file_name_will_do(old_wire: Wire) -> None:
    made = project(old_wire, fileName="Épisode #1 – 100% größer?.wav")
    assert put(old_wire, made["uploadUrl"]).status_code == 200


def test_the_content_type_is_part_of_the_signature(old_wire: Wire) -> None:
    made = project(old_wire)
    assert put(old_wire, made["uploadUrl"], **{"Content-Type": "audio/mpeg"}).status_code == 403


def test_an_address_cannot_be_bent(old_wire: Wire) -> None:
    url = project(old_wire)["uploadUrl"]
    assert put(old_wire, url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert put(old_wire, url.replace("expires=", "expires=9")).status_code == 403
    assert put(old_wire, url.replace("talk.wav", "other.wav")).status_code == 403


def test_an_address_ends() -> None:
    with Sandbox(protocol="signed-put", upload_seconds=-1.0) as sandbox:
        wire = Wire(sandbox)
        assert put(wire, project(wire)["uploadUrl"]).status_code == 403


def test_a_generation_needs_the_upload(old_wire: Wire) -> None:
    project_id = project(old_wire)["apiProjectId"]
    response = old_wire.post("diffio-4.0-flash-generation", {"apiProjectId": project_id})
    assert (response.status, response.body["code"]) == (409, "UPLOAD_MISSING")
