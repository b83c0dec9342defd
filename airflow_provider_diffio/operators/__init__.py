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
from airflow_provider_diffio.operators.webhook import (
    DiffioConfigureWebhookOperator,
    DiffioSendWebhookTestEventOperator,
)

__all__ = [
    "DiffioAccountSettingsOperator",
    "DiffioConfigureWebhookOperator",
    "DiffioCreateGenerationOperator",
    "DiffioCreateProjectOperator",
    "DiffioDownloadOperator",
    "DiffioRestoreOperator",
    "DiffioSendWebhookTestEventOperator",
    "DiffioUsageSummaryOperator",
]
