"""Things going wrong on demand."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
import urllib3

from airflow_provider_diffio.sandbox.faults import Fault, FaultBook
from tests.sandbox.wire import Wire


def strikes(book: FaultBook, calls: int, path: str = "/v1/list_projects") -> list[bool]:
    return [bool(book.for_request("api", "POST", path)) for _ in range(calls)]


def test_a_fault_strikes_once_unless_told_otherwise() -> None:
    book = FaultBook()
    book.add([Fault(kind="reset-before", path="/v1/*")])
    assert strikes(book, 3) == [True, False, False]


def test_a_fault_waits_for_the_nth_call() -> None:
    book = FaultBook()
    book.add([Fault(kind="reset-before", path="/v1/list_*", nth=2, times=2)])
    assert strikes(book, 1, "/v1/create_project") == [False]
    assert strikes(book, 4) == [False, True, True, False]


def test_a_fault_can_last_for_ever() -> None:
    book = FaultBook()
    book.add([Fault(kind="reset-before", nth="every")])
    assert all(strikes(book, 20))


def test_a_fault_may_mind_origin_and_method() -> None:
    book = FaultBook()
    book.add([Fault(kind="reset-before", origin="media", method="PUT", nth="every")])
    assert not book.for_request("api", "PUT", "/x")
    assert not book.for_request("media", "GET", "/x")
    assert book.for_request("media", "PUT", "/x")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "explode"},
        {"kind": "status"},
        {"kind": "status", "status": 200},
        {"kind": "delay", "nth": 0},
        {"kind": "delay", "times": 0},
        {"kind": "delay", "seconds": -1},
        {"kind": "delay", "origin": "elsewhere"},
        {"kind": "delay", "sceonds": 1},
        {"kind": "artifact-not-ready", "status": 500},
        {"kind": "status", "status": 503, "headers": ["Retry-After"]},
        {"kind": "status", "status": 503, "path": 7},
        ["status"],
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wire: Wire, spec: Any) -> None:
    response = wire.http.post(f"{wire.sandbox.api_url}/sandbox/faults", json=[spec])
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_response_can_be_made_up(wire: Wire) -> None:
    wire.sandbox.add_fault(
        "status",
        path="/v1/create_project",
        status=429,
        headers={"Retry-After": "7"},
        body={"error": "Slow down."},
    )
    headers = {"Authorization": f"Bearer {wire.sandbox.api_key}"}
    response = wire.http.post(
        f"{wire.sandbox.api_url}/v1/create_project", json={"fileName": "a"}, headers=headers
    )
    assert (response.status_code, response.json()) == (429, {"error": "Slow down."})
    assert response.headers["Retry-After"] == "7"
    assert wire.sandbox.ledger()["projects"] == []
    assert wire.project()


def test_a_connection_can_break_before_the_work(wire: Wire) -> None:
    project_id = wire.uploaded()
    wire.sandbox.add_fault("reset-before", path="/v1/*-generation")
    with pytest.raises(requests.ConnectionError):
        wire.generation(project_id)
    assert wire.sandbox.ledger()["generations"] == []


def test_a_connection_can_break_in_the_middle_of_a_part(wire: Wire) -> None:
    session = wire.project()["upload"]
    upload_id = wire.edge(session, "start").body["uploadId"]
    wire.sandbox.add_fault("reset-before", path="/v1/uploads/parts/*", bytes=100)
    with pytest.raises(requests.ConnectionError):
        wire.part(session, upload_id, 1, bytes(1024))
    part = wire.part(session, upload_id, 1, bytes(1024)).body
    finished = wire.edge(session, "complete", {"uploadId": upload_id, "parts": [part]})
    assert finished.body["sizeBytes"] == 1024


def test_a_connection_can_break_after_the_work(wire: Wire) -> None:
    project_id = wire.uploaded()
    wire.sandbox.add_fault("reset-after", path="/v1/*-generation")
    with pytest.raises(requests.ConnectionError):
        wire.generation(project_id, idempotencyKey="once")
    (billed,) = wire.sandbox.ledger()["generations"]
    assert wire.generation(project_id, idempotencyKey="once") == billed["generationId"]
    last = next(it for it in wire.sandbox.requests() if it["fault"])
    assert (last["fault"], last["status"]) == ("reset-after", None)


def test_a_part_can_be_lost(wire: Wire) -> None:
    session = wire.project()["upload"]
    upload_id = wire.edge(session, "start").body["uploadId"]
    wire.sandbox.add_fault("status", path="/v1/uploads/parts/*", status=503)
    assert wire.part(session, upload_id, 1, b"sound").status == 503
    part = wire.part(session, upload_id, 1, b"sound").body
    assert wire.edge(session, "complete", {"uploadId": upload_id, "parts": [part]}).status == 200


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=100-"}])
def test_a_download_can_be_cut_short(wire: Wire, headers: dict[str, str]) -> None:
    recording = bytes(range(250)) * 4
    url = wire.download(wire.restored(recording)).body["downloadUrl"]
    wire.sandbox.add_fault("truncate", path="/m/*", bytes=300)
    begin = 100 if headers else 0
    with requests.get(url, headers=headers, stream=True, timeout=20) as response:
        assert response.status_code == (206 if headers else 200)
        assert response.headers["Content-Length"] == str(1000 - begin)
        assert response.raw.read(300) == recording[begin : begin + 300]
        with pytest.raises(urllib3.exceptions.ProtocolError):
            response.raw.read(1)
    assert requests.get(url, timeout=20).content == recording


def test_a_json_response_can_be_cut_short(wire: Wire) -> None:
    wire.sandbox.add_fault("truncate", path="/v1/list_projects", bytes=4)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        wire.post("list_projects")


def test_a_response_can_be_replaced(wire: Wire) -> None:
    wire.sandbox.add_fault(
        "body", path="/v1/create_project", body="<html>Bad gateway</html>", contentType="text/html"
    )
    headers = {"Authorization": f"Bearer {wire.sandbox.api_key}"}
    response = wire.http.post(
        f"{wire.sandbox.api_url}/v1/create_project", json={"fileName": "a"}, headers=headers
    )
    assert (response.status_code, response.text) == (200, "<html>Bad gateway</html>")
    assert response.headers["Content-Type"] == "text/html"
    assert len(wire.sandbox.ledger()["projects"]) == 1


def test_a_response_can_be_slow_and_wrong(wire: Wire) -> None:
    wire.sandbox.add_fault("delay", path="/v1/list_projects", seconds=0.3)
    wire.sandbox.add_fault("status", path="/v1/list_projects", status=502)
    began = time.monotonic()
    assert wire.post("list_projects").status == 502
    assert time.monotonic() - began >= 0.3


def test_faults_can_be_read_and_removed(wire: Wire) -> None:
    wire.sandbox.add_fault("status", path="/v1/list_projects", status=500, nth="every")
    assert wire.post("list_projects").status == 500
    (fault,) = wire.sandbox.faults()
    assert (fault["seen"], fault["struck"]) == (1, 1)
    wire.sandbox.clear_faults()
    assert wire.post("list_projects").status == 200
