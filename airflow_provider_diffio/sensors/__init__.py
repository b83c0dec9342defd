"""The sensor that waits for a generation."""

from __future__ import annotations

from airflow_provider_diffio.sensors.generation import DiffioGenerationSensor

__all__ = ["DiffioGenerationSensor"]
