"""A generation to wait for, and a trigger that does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.triggers import DiffioGenerationTrigger


@pytest.fixture
def generation(connection: dict[str, Any], recording: Path, slow: None) -> dict[str, Any]:
    """A generation that takes a second."""
    hook = DiffioHook()
    project = hook.create_project(recording)
    return hook.create_generation(project.api_project_id).to_value()


def trigger(generation: dict[str, Any], **options: Any) -> DiffioGenerationTrigger:
    """Return a trigger that waits for it, for half a minute at the most."""
    now = time.time()
    arguments = {
        "generation_id": generation["generation_id"],
        "project_id": generation["api_project_id"],
        "started_at": now,
        "deadline": now + 30,
        "poll_interval": 0.1,
        **options,
    }
    return DiffioGenerationTrigger(**arguments)
