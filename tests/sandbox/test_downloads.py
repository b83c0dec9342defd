"""Download links and what is behind them."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import Wire

RECORDING = bytes(range(250)) * 4


@pytest.fixture
def generation_id(wire: Wire) -> str:
    return wire.restored(RECORDING, fileName="my talk.wav")


@pytest.fixture
def url(wire: Wire, generation_id: str) -> str:
    return str(wire.download(generation_id).body["downloadUrl"])


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=20)


def test_a_link_leads_to_the_result(wire: Wire, generation_id: str) -> None:
    link = wire.download(generation_id).body
    url = urlsplit(link["downloadUrl"])
    assert f"{url.scheme}://{url.netloc}" == wire.sandbox.media_url
    assert url.path.startswith("/m/v1.")
    assert url.path.endswith(f"/generations/{generation_id}/restored.mp3")
    assert parse_qs(url.query) == {"download": ["my talk_restored.mp3"]}
    assert (link["downloadType"], link["mimeType"]) == ("audio", "audio/mpeg")
    assert link["fileName"] == "my talk_restored.mp3"
    assert link["storagePath"].endswith(f"/generations/{generation_id}/restored.mp3")
    assert "bucket" not in link
    response = get(link["downloadUrl"])
    assert (response.status_code, response.content) == (200, RECORDING)
    assert response.headers["Content-Length"] == "1000"
    assert response.headers["Content-Type"] == "audio/mpeg"
    assert "my%20talk_restored.mp3" in response.headers["Content-Disposition"]


def test_a_download_can_go_on_where_it_stopped(url: str) -> None:
    whole = get(url)
    rest = get(url, Range="bytes=400-", **{"If-Range": whole.headers["ETag"]})
    assert (rest.status_code, rest.content) == (206, RECORDING[400:])
    assert rest.headers["Content-Range"] == "bytes 400-999/1000"
    assert rest.headers["ETag"] == whole.headers["ETag"]


def test_another_version_is_sent_whole(url: str) -> None:
    response = get(url, Range="bytes=400-", **{"If-Range": '"another"'})
    assert (response.status_code, response.content) == (200, RECORDING)


def test_a_range_beyond_the_end_cannot_be_served(url: str) -> None:
    assert get(url, Range="bytes=1000-").status_code == 416


def test_the_transcript_is_json(wire: Wire, generation_id: str) -> None:
    link = wire.download(generation_id, downloadType="transcript").body
    assert (link["fileName"], link["mimeType"]) == ("word_timestamps.json", "application/json")
    assert get(link["downloadUrl"]).json() == {"segments": []}


def test_links_end() -> None:
    with Sandbox(engine="passthrough", processing_seconds=0.0, link_seconds=0.3) as sandbox:
        wire = Wire(sandbox)
        generation_id = wire.restored()
        url = wire.download(generation_id).body["downloadUrl"]
        assert get(url).status_code == 200
        time.sleep(0.3)
        assert get(url).status_code == 404


def test_links_can_be_made_to_end_now(wire: Wire, generation_id: str, url: str) -> None:
    wire.sandbox.expire_links()
    response = get(url)
    assert response.status_code == 404
    assert response.json() == {"error": {"code": "not_found", "message": "No such media"}}
    assert get(wire.download(generation_id).body["downloadUrl"]).status_code == 200


def test_a_link_is_for_one_file(url: str) -> None:
    assert get(url.replace("restored.mp3", "original")).status_code == 404


def test_ids_and_types_are_checked(wire: Wire, generation_id: str) -> None:
    both = {"generationId": generation_id, "apiProjectId": wire.progress(generation_id)["apiProjectId"]}
    for field in ({"downloadType": "mp3"}, {"downloadType": 7}, {"apiProjectId": None}, {"generationId": 7}):
        assert wire.post("get_generation_download", {**both, **field}).status == 400
    assert wire.post("get_generation_download", {**both, "generationId": "unknown"}).status == 404


def test_there_is_no_video_of_a_recording_without_pictures(wire: Wire, generation_id: str) -> None:
    assert wire.download(generation_id, downloadType="video").status == 400


def test_a_video_is_what_a_video_project_gives_by_default(wire: Wire) -> None:
    generation_id = wire.restored(contentType="video/mp4", fileName="talk.mp4")
    assert wire.progress(generation_id)["restoredVideo"]["status"] == "complete"
    link = wire.download(generation_id).body
    assert (link["downloadType"], link["fileName"]) == ("video", "talk_restored.mp4")
    assert wire.download(generation_id, downloadType="audio").body["mimeType"] == "audio/mpeg"


def test_an_unfinished_generation_has_nothing_to_download(wire: Wire) -> None:
    wire.sandbox.add_fault("processing-seconds", seconds=30.0)
    response = wire.download(wire.generation(wire.uploaded()))
    assert response.status == 409
    assert "code" not in response.body


@pytest.mark.parametrize("status", [404, 409])
def test_a_result_can_take_a_moment_after_completion(wire: Wire, status: int) -> None:
    wire.sandbox.add_fault("artifact-not-ready", seconds=0.5, status=status)
    generation_id = wire.restored()
    assert wire.download(generation_id).status == status
    time.sleep(0.5)
    assert wire.download(generation_id).status == 200


def test_a_transcript_can_come_later(wire: Wire) -> None:
    wire.sandbox.add_fault("transcript-pending", seconds=0.5)
    generation_id = wire.restored()
    assert wire.progress(generation_id)["transcription"] == {"status": "pending"}
    response = wire.download(generation_id, downloadType="transcript")
    assert response.status == 409
    assert response.body == {
        "error": "Transcript is not ready yet.",
        "code": "TRANSCRIPT_PENDING",
        "transcription": {"status": "pending"},
    }
    assert wire.download(generation_id).status == 200
    time.sleep(0.5)
    assert wire.download(generation_id, downloadType="transcript").status == 200


def test_a_transcript_can_be_unavailable(wire: Wire) -> None:
    wire.sandbox.add_fault("transcript-unavailable")
    response = wire.download(wire.restored(), downloadType="transcript")
    assert (response.status, response.body["code"]) == (404, "TRANSCRIPT_UNAVAILABLE")
    assert response.body["transcription"] == {"status": "unavailable"}


def test_a_large_recording_passes_through_without_being_held_in_memory(tmp_path: Path) -> None:
    recording = tmp_path / "large"
    with recording.open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    with Sandbox(engine="passthrough", processing_seconds=0.0, protocol="signed-put") as sandbox:
        wire = Wire(sandbox)
        project = wire.project(contentType="audio/wav")
        with recording.open("rb") as file:
            wire.http.put(project["uploadUrl"], data=file, headers={"Content-Type": "audio/wav"})
        generation_id = wire.generation(project["apiProjectId"], model="diffio-4.0-flash")
        wire.finished(generation_id)
        url = wire.download(generation_id).body["downloadUrl"]
        with requests.get(url, stream=True, timeout=60) as response:
            assert sum(map(len, response.iter_content(1 << 20))) == 200 * 1024 * 1024
