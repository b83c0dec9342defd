"""The operators, one import away."""

from __future__ import annotations

from airflow_provider_diffio.operators.account import (
    DiffioAccountSettingsOperator,
    DiffioUsageSummaryOperator,
)
from airflow_provider_diffio.operators.download import DiffioDownloadOperator
from airflow_provider_diffio.operators.generation import DiffioCreateGenerationOperator
from airflow_provider_diffio.operators.project import DiffioCreateProjectOperator
from airflow_provider_diffio.operators.restore import DiffioRestoreOperator

__all__ = [
    "DiffioAccountSettingsOperator",
    "DiffioCreateGenerationOperator",
    "DiffioCreateProjectOperator",
    "DiffioDownloadOperator",
    "DiffioRestoreOperator",
    "DiffioUsageSummaryOperator",
]
