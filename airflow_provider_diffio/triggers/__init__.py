"""The triggers: one waits for a generation, one for those of a batch, one watches for all that finish."""

from __future__ import annotations

from airflow_provider_diffio.triggers.batch import DiffioBatchTrigger
from airflow_provider_diffio.triggers.events import DiffioGenerationEventTrigger
from airflow_provider_diffio.triggers.generation import DiffioGenerationTrigger

__all__ = ["DiffioBatchTrigger", "DiffioGenerationEventTrigger", "DiffioGenerationTrigger"]
