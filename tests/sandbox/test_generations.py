"""Starting generations and watching them."""

from __future__ import annotations

import time

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import JSONObject, Wire

FLASH = "diffio-4.6-flash-generation"


def test_a_generation_begins_in_the_queue(wire: Wire) -> None:
    project_id = wire.uploaded()
    response = wire.ok(FLASH, {"apiProjectId": project_id})
    assert response.pop("generationId")
    assert response == {"apiProjectId": project_id, "modelKey": "diffio-4.6-flash", "status": "queued"}


def test_it_passes_through_its_stages_in_order(wire: Wire) -> None:
    wire.sandbox.add_fault("processing-seconds", seconds=1.0)
    generation_id = wire.generation(wire.uploaded())
    seen: list[JSONObject] = []
    while not seen or seen[-1]["status"] != "complete":
        seen.append(wire.progress(generation_id))
        time.sleep(0.01)
    stages = list(dict.fromkeys(progress["stage"] for progress in seen))
    assert stages == [
        "pending",
        "preparing",
        "transcribing",
        "queued",
        "starting",
        "downloading",
        "decoding",
        "restoring",
        "finalizing",
        "uploading",
        "complete",
    ]
    percents = [progress["stageProgress"]["overallPercent"] for progress in seen]
    assert percents == sorted(percents)
    assert all(("queue" in progress) == (progress["stage"] in {"pending", "queued"}) for progress in seen)
    assert list(dict.fromkeys(progress["status"] for progress in seen)) == [
        "queued",
        "processing",
        "complete",
    ]


def test_a_finished_generation_says_so_everywhere(wire: Wire) -> None:
    generation_id = wire.restored()
    stage = {
        "jobId": None,
        "jobState": None,
        "status": "complete",
        "progress": 100,
        "statusMessage": None,
        "error": None,
        "errorDetails": None,
    }
    progress = wire.progress(generation_id)
    assert progress["preProcessing"] == progress["inference"] == stage
    assert progress["stage"] == "complete"
    assert progress["transcription"] == {"status": "available"}
    assert (progress["error"], progress["errorDetails"]) == (None, None)
    listed = wire.ok("list_project_generations", {"apiProjectId": progress["apiProjectId"]})
    (entry,) = listed["generations"]
    assert (entry["status"], entry["progress"]) == ("complete", 100)
    (project,) = wire.ok("list_projects")["projects"]
    assert (project["status"], project["generationCount"]) == ("complete", 1)


def test_those_behind_in_the_queue_are_told_how_many_are_ahead(wire: Wire) -> None:
    wire.sandbox.add_fault("processing-seconds", nth="every", seconds=30.0)
    project_id = wire.uploaded()
    first, _, third = (wire.generation(project_id) for _ in range(3))
    assert wire.progress(first)["queue"]["waitReason"] == "next_in_line"
    queue = wire.progress(third)["queue"]
    assert (queue["position"], queue["waitReason"]) == (3, "all_busy")
    assert queue["message"] == "Waiting for compute: all processors are busy (2 ahead)"


def test_the_same_key_finds_the_same_generation(wire: Wire) -> None:
    project_id = wire.uploaded()
    body = {"apiProjectId": project_id, "idempotencyKey": " once "}
    first = wire.ok(FLASH, body)
    assert "idempotentReplay" not in first
    assert wire.ok(FLASH, {**body, "idempotencyKey": "once"}) == {**first, "idempotentReplay": True}
    wire.finished(first["generationId"])
    assert wire.ok(FLASH, body)["status"] == "complete"
    assert wire.sandbox.ledger()["totals"]["generations"] == 1


def test_another_model_under_the_same_key_is_a_conflict(wire: Wire) -> None:
    body = {"apiProjectId": wire.uploaded(), "idempotencyKey": "once"}
    wire.ok(FLASH, body)
    response = wire.post("diffio-4.6-pro-generation", body)
    assert (response.status, response.body["code"]) == (409, "idempotencyKeyConflict")


def test_a_key_counts_within_its_project(wire: Wire) -> None:
    ids = {wire.generation(wire.uploaded(), idempotencyKey="once") for _ in range(2)}
    assert len(ids) == 2


def test_without_a_key_every_call_is_billed(wire: Wire) -> None:
    project_id = wire.uploaded()
    assert wire.generation(project_id) != wire.generation(project_id)


@pytest.mark.parametrize("key", ["", "   ", "x" * 256, 7])
def test_a_key_has_1_to_255_characters(wire: Wire, key: object) -> None:
    body = {"apiProjectId": wire.uploaded(), "idempotencyKey": key}
    assert wire.post(FLASH, body).status == 400


@pytest.mark.parametrize("field", [{"sampling": []}, {"params": "x"}, {"apiProjectId": 7}])
def test_fields_have_their_types(wire: Wire, field: JSONObject) -> None:
    assert wire.post(FLASH, {"apiProjectId": wire.uploaded(), **field}).status == 400


def test_a_generation_is_found_with_and_without_its_project(wire: Wire) -> None:
    generation_id = wire.restored()
    project_id = wire.progress(generation_id)["apiProjectId"]
    both = {"generationId": generation_id, "apiProjectId": project_id}
    assert wire.post("get_generation_progress", both).status == 200
    response = wire.post("get_generation_progress", {**both, "apiProjectId": wire.uploaded()})
    assert (response.status, response.body) == (404, {"error": "Generation not found."})
    assert wire.post("get_generation_progress", {}).status == 400


def test_a_generation_can_be_made_to_fail(wire: Wire) -> None:
    wire.sandbox.add_fault("fail-generation", nth=2, error="Out of memory.", errorDetails="node 7")
    project_id = wire.uploaded()
    first, second, third = (wire.finished(wire.generation(project_id)) for _ in range(3))
    assert (first["status"], second["status"], third["status"]) == ("complete", "failed", "complete")
    assert (second["error"], second["errorDetails"]) == ("Out of memory.", "node 7")
    assert second["inference"]["status"] == second["stage"] == "failed"
    assert wire.download(second["generationId"]).status == 409


def test_many_generations_run_side_by_side(wire: Wire) -> None:
    project_id = wire.uploaded()
    generations = [wire.generation(project_id) for _ in range(50)]
    assert {wire.finished(generation)["status"] for generation in generations} == {"complete"}


def test_clearing_ends_what_is_running() -> None:
    with Sandbox(engine="passthrough", processing_seconds=60.0) as sandbox:
        wire = Wire(sandbox)
        generation_id = wire.generation(wire.uploaded())
        sandbox.clear()
        assert wire.post("get_generation_progress", {"generationId": generation_id}).status == 404
        assert sandbox.ledger()["totals"]["generations"] == 0
