"""
Stop a night's run when the billing period has reached a limit.

``usage`` and ``account`` ask Diffio, which costs nothing. ``within_budget`` skips everything behind it when
the newest billing period has reached the limit or billing is not active. Put your restorations behind it.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_diffio.operators import (
    DiffioAccountSettingsOperator,
    DiffioRestoreOperator,
    DiffioUsageSummaryOperator,
)

with DAG(
    dag_id="diffio_budget_guard",
    schedule="0 1 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    tags=["diffio"],
    doc_md=__doc__,
    params={
        "limit_cents": Param(10_000, type="integer", minimum=0, description="What a billing period may cost"),
        "source": Param("/data/recordings/tonight.wav", type="string", description="What to restore"),
    },
):
    usage = DiffioUsageSummaryOperator(task_id="usage")
    account = DiffioAccountSettingsOperator(task_id="account")

    @task.short_circuit
    def within_budget(usage: Any, account: Any, params: dict[str, Any] | None = None) -> bool:
        """Return whether tonight's restorations may start."""
        assert params is not None
        spent, limit = usage["total_cents"], params["limit_cents"]
        print(f"{spent} of {limit} cents; billing is {account['billing_status']}.")
        return bool(account["billing_status"] == "active" and spent < limit)

    restore = DiffioRestoreOperator(
        task_id="restore", source="{{ params.source }}", path="{{ run_id }}/", deferrable=True
    )
    within_budget(usage.output, account.output) >> restore
