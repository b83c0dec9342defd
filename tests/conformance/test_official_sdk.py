"""The official SDK, unchanged, gets through its whole flow: the sandbox behaves as it expects."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.conformance.environments import sdk_python

np = pytest.importorskip("numpy")
soundfile = pytest.importorskip("soundfile")

pytestmark = pytest.mark.conformance

FLOW = Path(__file__).with_name("sdk_flow.py")
NEWEST, SIGNED_PUT = "0.3.10", "0.1.114"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("recording") / "talk.wav"
    time = np.arange(16000 * 5) / 16000
    tone = np.sin(2 * np.pi * 220 * time) * (np.sin(2 * np.pi * 0.7 * time) > 0)
    soundfile.write(path, 0.3 * tone + 0.02 * np.random.default_rng(0).standard_normal(len(time)), 16000)
    return path


def flow(version: str, sandbox: Sandbox, recording: Path, folder: Path) -> dict[str, Any]:
    """Run the flow with that version of the SDK and return its report."""
    done = subprocess.run(
        [
            str(sdk_python(version)),
            str(FLOW),
            sandbox.api_url,
            sandbox.api_key,
            sandbox.webhook_secret,
            str(recording),
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["version"] == version
    return report


def check(report: dict[str, Any], sandbox: Sandbox, model: str, folder: Path) -> None:
    """What holds for both generations of the SDK."""
    generation_id = report["generationId"]
    assert report["againId"] == generation_id
    assert report["replayed"] == [None, True]
    assert report["model"] == model
    assert report["status"] == "complete"
    assert report["seen"][-1] == "complete"
    assert set(report["seen"]) <= {"queued", "processing", "complete"}
    assert report["stages"] == ["complete", "complete"]
    assert report["transcription"] == "available"

    assert (folder / "restored.mp3").read_bytes() == sandbox.result_bytes(generation_id)
    assert soundfile.info(str(folder / "restored.mp3")).format == "MP3"
    assert json.loads((folder / "transcript.json").read_text())["segments"]
    assert (report["link"]["fileName"], report["link"]["mimeType"]) == ("talk_restored.mp3", "audio/mpeg")

    (project,) = report["projects"]
    assert (project["status"], project["originalFileName"]) == ("complete", "talk.wav")
    assert project["generationCount"] == 1
    (listed,) = report["generations"]
    assert (listed["generationId"], listed["status"], listed["progress"]) == (generation_id, "complete", 100)

    assert report["apiKeyId"] == "key_sandbox"
    assert report["policy"] == {"type": "internalDiffio", "reason": "conformance"}
    assert report["keyPrefixFits"]
    assert report["keyChanged"]
    assert report["childProjects"] == 0
    assert report["revoked"] == "revoked"
    assert report["keys"] == [["admin", "active"], ["scoped", "revoked"]]
    assert report["modelSeconds"] == {model: 60}

    assert report["webhook"]["signing"] == "svix"
    assert [event[:2] for event in report["events"]] == [
        ["generation.completed", "complete"],
        ["generation.failed", "error"],
        ["generation.processing", "processing"],
        ["generation.queued", "queued"],
    ]
    assert report["events"][1][2] == report["testEventId"]

    assert sandbox.ledger()["totals"] == {
        "generations": 1,
        "billedSeconds": 60,
        "billedCents": 1,
        "projects": 1,
        "projectsWithoutUpload": 0,
        "openUploads": 0,
    }
    elsewhere = [request for request in sandbox.requests() if request["origin"] == "media"]
    assert elsewhere
    assert not any(request["apiKeySeen"] for request in elsewhere)


def test_the_newest_sdk_over_the_edge(recording: Path, tmp_path: Path) -> None:
    with Sandbox(processing_seconds=1.0, part_size=64 * 1024) as sandbox:
        report = flow(NEWEST, sandbox, recording, tmp_path)
        check(report, sandbox, "diffio-4.6-flash", tmp_path)
        parts = [it for it in sandbox.requests() if it["path"].startswith("/v1/uploads/parts/")]
    assert len(parts) == 3
    assert {part["authorization"] for part in parts} == {"upload-token"}
    assert report["upload"]["sizeBytes"] == recording.stat().st_size
    assert report["upload"]["status"] == "uploaded"
    assert report["stage"] == "complete"
    assert report["jobState"] is None


def test_the_last_signed_put_sdk(recording: Path, tmp_path: Path) -> None:
    with Sandbox(protocol="signed-put", processing_seconds=1.0) as sandbox:
        report = flow(SIGNED_PUT, sandbox, recording, tmp_path)
        check(report, sandbox, "diffio-4.0-flash", tmp_path)
    assert report["bucket"]
    assert report["jobState"] == "SUCCEEDED"
    assert report["stage"] is None
