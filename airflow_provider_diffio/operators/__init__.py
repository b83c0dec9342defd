"""The operators, one import away; a DAG file imports the modules of those that it names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_diffio.operators.account import (
        DiffioAccountSettingsOperator,
        DiffioUsageSummaryOperator,
    )
    from airflow_provider_diffio.operators.batch import DiffioRestoreBatchOperator
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
    "DiffioRestoreBatchOperator",
    "DiffioRestoreOperator",
    "DiffioSendWebhookTestEventOperator",
    "DiffioUsageSummaryOperator",
]

_MODULES = {
    "DiffioAccountSettingsOperator": "account",
    "DiffioConfigureWebhookOperator": "webhook",
    "DiffioCreateGenerationOperator": "generation",
    "DiffioCreateProjectOperator": "project",
    "DiffioDownloadOperator": "download",
    "DiffioRestoreBatchOperator": "batch",
    "DiffioRestoreOperator": "restore",
    "DiffioSendWebhookTestEventOperator": "webhook",
    "DiffioUsageSummaryOperator": "account",
}


def __getattr__(name: str) -> Any:
    """Import an operator when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    operator = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = operator
    return operator


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
