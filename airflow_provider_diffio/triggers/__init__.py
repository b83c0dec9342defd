"""The trigger that waits for a generation."""

from __future__ import annotations

from airflow_provider_diffio.triggers.generation import DiffioGenerationTrigger

__all__ = ["DiffioGenerationTrigger"]
