"""How a generation moves through its stages: pure, with the time passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_diffio.sandbox.state import Generation

#: The share of the processing time a generation waits in the queue before anything happens.
QUEUED_SHARE: Final = 0.10

#: When each stage of the processing time ends, as a share of it.
_STAGES: Final = (
    ("pending", QUEUED_SHARE),
    ("preparing", 0.18),
    ("transcribing", 0.28),
    ("queued", 0.36),
    ("starting", 0.40),
    ("downloading", 0.48),
    ("decoding", 0.54),
    ("restoring", 0.86),
    ("finalizing", 0.92),
    ("uploading", 1.00),
)
_ENDS: Final = dict(_STAGES)
#: Work that takes longer than the set time is seen waiting here: the last moment of "restoring".
_HELD_AT: Final = _ENDS["restoring"] - 1e-6


@dataclass(frozen=True)
class Moment:
    """Where a generation is: a stage, and how far along in it and overall (0 to 1)."""

    stage: str
    in_stage: float
    overall: float


def moment(generation: Generation, now: float, *, result_ready: bool) -> Moment:
    """Where ``generation`` is at ``now``."""
    if generation.finished is not None:
        return Moment(generation.status, 1.0, 1.0)
    total = generation.plan.processing_seconds
    share = 1.0 if total <= 0 else min(1.0, (now - generation.created) / total)
    waiting = generation.status == "queued"
    share = min(share, QUEUED_SHARE - 1e-6) if waiting else max(share, QUEUED_SHARE)
    if not result_ready:
        share = min(share, _HELD_AT)
    begin = 0.0
    for stage, end in _STAGES:
        if share < end:
            return Moment(stage, (share - begin) / (end - begin), share)
        begin = end
    return Moment("uploading", 0.99, 0.99)


def transcription_status(generation: Generation, now: float) -> str:
    """Whether the transcript is there: pending, available or unavailable."""
    if generation.plan.transcript_unavailable:
        return "unavailable"
    if generation.finished is not None:
        late = generation.finished + generation.plan.transcript_delay
        return "pending" if generation.status == "failed" or now < late else "available"
    if generation.plan.transcript_delay > 0 or generation.plan.error is not None:
        return "pending"
    spent = (now - generation.created) / max(generation.plan.processing_seconds, 1e-9)
    return "available" if generation.status == "processing" and spent >= _ENDS["transcribing"] else "pending"


def progress_body(
    generation: Generation, now: float, *, edge: bool, result_ready: bool, queue: tuple[int, int]
) -> dict[str, Any]:
    """The response of get_generation_progress; ``queue`` is (generations ahead, processors)."""
    at = moment(generation, now, result_ready=result_ready)
    body: dict[str, Any] = {
        "generationId": generation.generation_id,
        "apiProjectId": generation.project.project_id,
        "status": generation.status,
        "hasVideo": generation.has_video,
        "preProcessing": _stage(generation, at, edge, "pre", QUEUED_SHARE, _ENDS["transcribing"]),
        "inference": _stage(generation, at, edge, "inf", _ENDS["transcribing"], _ENDS["finalizing"]),
        "error": generation.error,
        "errorDetails": generation.error_details,
        "transcription": {"status": transcription_status(generation, now)},
    }
    if generation.has_video:
        body["restoredVideo"] = _stage(generation, at, edge, "vid", _ENDS["finalizing"], 1.0)
        if generation.video_error is not None and generation.finished is not None:
            body["restoredVideo"] |= {
                "jobState": None if edge else "FAILED",
                "status": "failed",
                "progress": 0,
                "error": "The video could not be restored.",
                "errorDetails": generation.video_error,
            }
    if edge:
        body["stage"] = at.stage
        body["stageProgress"] = _stage_progress(generation, at)
        if at.stage in {"pending", "queued"}:
            body["queue"] = _queue(*queue)
    return body


def percent(generation: Generation, now: float, *, result_ready: bool) -> int:
    """Overall progress, 0 to 100."""
    return int(moment(generation, now, result_ready=result_ready).overall * 100)


def _stage(
    generation: Generation, at: Moment, edge: bool, name: str, begin: float, end: float
) -> dict[str, Any]:
    failed = generation.status == "failed"
    if at.overall >= end and not failed:
        status, done, state = "complete", 100, "SUCCEEDED"
    elif failed and name == "inf":
        status, done, state = "failed", 0, "FAILED"
    elif failed and name == "pre":
        status, done, state = "complete", 100, "SUCCEEDED"
    elif failed or at.overall <= begin:
        status, done, state = "pending", 0, None
    else:
        status, done, state = "running", int(100 * (at.overall - begin) / (end - begin)), "RUNNING"
    own_failure = status == "failed"
    return {
        "jobId": None if edge or state is None else f"{name}-{generation.generation_id}",
        "jobState": None if edge else state,
        "status": status,
        "progress": done,
        "statusMessage": None,
        "error": generation.error if own_failure else None,
        "errorDetails": generation.error_details if own_failure else None,
    }


def _stage_progress(generation: Generation, at: Moment) -> dict[str, float]:
    progress: dict[str, float] = {
        "overallPercent": round(at.overall * 100, 1),
        "stagePercent": round(at.in_stage * 100, 1),
    }
    stored = generation.project.stored
    if at.stage == "downloading" and stored is not None:
        progress["bytesDone"] = int(stored.size * at.in_stage)
        progress["bytesTotal"] = stored.size
    if generation.duration is not None:
        progress["durationSeconds"] = round(generation.duration, 3)
        if at.stage == "restoring":
            progress["availableThroughSeconds"] = round(generation.duration * at.in_stage, 3)
    return progress


def _queue(ahead: int, workers: int) -> dict[str, Any]:
    busy = min(ahead, workers)
    return {
        "position": ahead + 1,
        "connectedWorkers": workers,
        "idleWorkers": workers - busy,
        "busyWorkers": busy,
        "waitReason": "next_in_line" if ahead == 0 else "all_busy",
        "message": (
            "Waiting for compute: next in line"
            if ahead == 0
            else f"Waiting for compute: all processors are busy ({ahead} ahead)"
        ),
    }
