"""The edge upload protocol."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import JSONObject, Wire, WireResponse

PART = 1024


def refused(status: int, code: str, message: str) -> WireResponse:
    return WireResponse(status, {"error": {"code": code, "message": message}})


@pytest.fixture
def session(wire: Wire) -> JSONObject:
    upload = wire.project()["upload"]
    assert isinstance(upload, dict)
    return upload


@pytest.fixture
def upload_id(wire: Wire, session: JSONObject) -> str:
    return str(wire.edge(session, "start").body["uploadId"])


def complete(wire: Wire, session: JSONObject, upload_id: str, *parts: Any) -> WireResponse:
    return wire.edge(session, "complete", {"uploadId": upload_id, "parts": list(parts)})


def test_a_session_names_everything_an_upload_needs(wire: Wire) -> None:
    project = wire.project()
    session = project["upload"]
    assert session["uploadSessionId"] == f"api-{project['apiProjectId']}"
    assert session["edgeBaseUrl"] == wire.sandbox.media_url != wire.sandbox.api_url
    assert (session["partSizeBytes"], session["maxBytes"]) == (PART, 8192)
    assert project["objectPath"] == session["objectKey"]
    assert project["expiresAt"] == session["expiresAt"]


def test_parts_arrive_in_any_order_and_make_one_recording(wire: Wire) -> None:
    recording = bytes(range(256)) * 10
    project = wire.project()
    session = project["upload"]
    upload_id = wire.edge(session, "start").body["uploadId"]
    third = wire.part(session, upload_id, 3, recording[2 * PART :]).body
    first = wire.part(session, upload_id, 1, recording[:PART]).body
    second = wire.part(session, upload_id, 2, recording[PART : 2 * PART]).body
    finished = complete(wire, session, upload_id, third, first, second)
    assert finished.body["sizeBytes"] == len(recording)
    assert finished.body["objectKey"] == session["objectKey"]
    generation_id = wire.generation(project["apiProjectId"])
    wire.finished(generation_id)
    assert wire.sandbox.result_bytes(generation_id) == recording


def test_a_part_sent_again_replaces_the_first(wire: Wire, session: JSONObject, upload_id: str) -> None:
    wrong = wire.part(session, upload_id, 1, b"wrong").body
    right = wire.part(session, upload_id, 1, b"right!").body
    assert complete(wire, session, upload_id, wrong) == refused(400, "upload_failed", "Part etag mismatch")
    assert complete(wire, session, upload_id, right).body["sizeBytes"] == 6


def test_an_empty_recording_is_one_empty_part(wire: Wire, session: JSONObject, upload_id: str) -> None:
    part = wire.part(session, upload_id, 1, b"").body
    assert complete(wire, session, upload_id, part).body["sizeBytes"] == 0


def test_completing_again_gives_the_same_response(wire: Wire, session: JSONObject, upload_id: str) -> None:
    part = wire.part(session, upload_id, 1, b"sound").body
    once = complete(wire, session, upload_id, part)
    assert complete(wire, session, upload_id, part) == once


def test_the_api_hears_of_a_finished_upload_by_itself(
    wire: Wire, session: JSONObject, upload_id: str
) -> None:
    complete(wire, session, upload_id, wire.part(session, upload_id, 1, b"sound").body)
    deadline = time.monotonic() + 5
    while wire.ok("list_projects")["projects"][0]["status"] != "uploaded":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_generation_may_start_before_the_upload_is_confirmed(wire: Wire) -> None:
    project = wire.project()
    session = project["upload"]
    upload_id = wire.edge(session, "start").body["uploadId"]
    complete(wire, session, upload_id, wire.part(session, upload_id, 1, b"sound").body)
    assert wire.finished(wire.generation(project["apiProjectId"]))["status"] == "complete"


def test_the_api_key_is_no_upload_token(wire: Wire, session: JSONObject) -> None:
    assert wire.edge(session, "start", token=wire.sandbox.api_key) == refused(
        401, "invalid_token", "Upload token refused"
    )


def test_an_upload_token_ends() -> None:
    with Sandbox(upload_seconds=0.0) as sandbox:
        wire = Wire(sandbox)
        response = wire.edge(wire.project()["upload"], "start")
    assert response == refused(401, "token_expired", "Upload token refused")


def test_a_part_has_to_say_how_long_it_is(wire: Wire, session: JSONObject, upload_id: str) -> None:
    assert wire.part(session, upload_id, 1, iter([b"chunk"])) == refused(
        411, "bad_request", "Parts need a Content-Length"
    )


def test_a_part_can_be_too_long(wire: Wire, session: JSONObject, upload_id: str) -> None:
    response = wire.part(session, upload_id, 1, bytes(PART + 1))
    assert response == refused(413, "payload_too_large", "Part exceeds 1024 bytes")


def test_a_part_can_lie_beyond_the_limit(wire: Wire, session: JSONObject, upload_id: str) -> None:
    assert wire.part(session, upload_id, 9, b"x").status == 200
    assert wire.part(session, upload_id, 10, b"x") == refused(
        413, "upload_too_large", "Part is beyond the upload size limit"
    )


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_numbers_are_limited(wire: Wire, session: JSONObject, upload_id: str, number: int) -> None:
    assert wire.part(session, upload_id, number, b"x") == refused(
        400, "bad_request", "Need a part number and uploadId"
    )


def test_a_part_needs_an_upload(wire: Wire, session: JSONObject) -> None:
    for upload_id in ("", "unknown"):
        assert wire.part(session, upload_id, 1, b"x") == refused(
            400, "bad_request", "Need a part number and uploadId"
        )


def test_only_the_last_part_may_be_short(wire: Wire, session: JSONObject, upload_id: str) -> None:
    parts = [wire.part(session, upload_id, number, b"short").body for number in (1, 2)]
    assert complete(wire, session, upload_id, *parts) == refused(
        400, "upload_failed", "Part 1 is not partSizeBytes long"
    )


def test_a_missing_part_is_noticed(wire: Wire, session: JSONObject, upload_id: str) -> None:
    part = wire.part(session, upload_id, 1, bytes(PART)).body
    response = complete(wire, session, upload_id, part, {"partNumber": 2, "etag": "x"})
    assert response == refused(400, "upload_failed", "Part 2 is missing")


def test_an_upload_can_be_too_large(wire: Wire, session: JSONObject, upload_id: str) -> None:
    parts = [wire.part(session, upload_id, number, bytes(PART)).body for number in range(1, 10)]
    assert complete(wire, session, upload_id, *parts) == refused(
        413, "upload_too_large", "Upload is too large"
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"uploadId": "x"},
        {"uploadId": "x", "parts": []},
        {"uploadId": "unknown", "parts": [{"partNumber": 1, "etag": "x"}]},
    ],
)
def test_completing_needs_an_id_and_parts(wire: Wire, session: JSONObject, body: JSONObject) -> None:
    assert wire.edge(session, "complete", body) == refused(400, "bad_request", "Need uploadId and parts")


def test_an_aborted_upload_is_gone(wire: Wire, session: JSONObject, upload_id: str) -> None:
    assert wire.sandbox.ledger()["totals"]["openUploads"] == 1
    part = wire.part(session, upload_id, 1, b"sound").body
    assert wire.edge(session, "abort", {"uploadId": upload_id}) == WireResponse(200, {})
    assert wire.sandbox.ledger()["totals"]["openUploads"] == 0
    assert complete(wire, session, upload_id, part) == refused(400, "bad_request", "Need uploadId and parts")


def test_aborting_the_unknown_is_fine(wire: Wire, session: JSONObject) -> None:
    assert wire.edge(session, "abort", {"uploadId": "unknown"}) == WireResponse(200, {})


def test_other_routes_are_not_found(wire: Wire, session: JSONObject) -> None:
    assert wire.edge(session, "resume") == refused(404, "not_found", "Unknown upload route")
    response = wire.http.get(f"{wire.sandbox.media_url}/nowhere")
    assert response.json() == {"error": {"code": "not_found", "message": "Unknown route"}}


def test_a_part_of_a_client_that_died_does_not_count(
    wire: Wire, session: JSONObject, upload_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = session["edgeBaseUrl"].removeprefix("http://").split(":")
    head = (
        f"PUT /v1/uploads/parts/1?uploadId={upload_id} HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {session['uploadToken']}\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + b"half")
        time.sleep(0.2)
    time.sleep(0.2)
    claimed = {"partNumber": 1, "etag": "d41d8cd98f00b204e9800998ecf8427e"}
    assert complete(wire, session, upload_id, claimed) == refused(400, "upload_failed", "Part 1 is missing")
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


def test_any_file_name_will_do(wire: Wire) -> None:
    name = "Épisode #1 – 100% größer?.wav"
    link = wire.download(wire.restored(fileName=name)).body
    assert link["fileName"] == "Épisode #1 – 100% größer?_restored.mp3"
    assert wire.http.get(link["downloadUrl"]).content == b"sound"


def test_a_file_name_cannot_leave_its_folder(wire: Wire) -> None:
    project = wire.project(fileName="../../etc/passwd")
    assert project["objectPath"].endswith(f"/{project['apiProjectId']}/original/passwd")
