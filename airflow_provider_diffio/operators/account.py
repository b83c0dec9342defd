"""What the account has used and how it is set up, as values that a DAG can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.errors import DiffioResponseError
from airflow_provider_diffio.api.models import UsagePeriod
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.failures import airflow_failures

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.steps.arguments import TextArgument


class DiffioUsageSummaryOperator(DiffioOperator):
    """
    Read what an API key has used, by billing period.

    Calls ``usage/summary`` (scope ``usage:read``), which costs nothing.

    Returns ``api_key_id``, ``periods`` (the newest first, each with ``period_id``, ``reserved_cents``,
    ``finalized_cents``, ``total_cents``, ``model_seconds``, ``model_cents``), ``total_cents``, that of the
    newest period (0 when Diffio lists no period), and ``billing``, a mapping as Diffio sends it.

    :param api_key_id: the key (templated); the calling one when not given.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix.
    """

    template_fields: Sequence[str] = ("api_key_id", "diffio_conn_id")

    def __init__(self, *, api_key_id: TextArgument | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.api_key_id: Any = api_key_id

    def execute(self, context: Context) -> dict[str, Any]:
        with airflow_failures(self):
            read_arguments(self)
            usage = self.hook.get_usage_summary(self.api_key_id)
        periods = [_plain(period) for period in usage.periods]
        total = periods[0]["total_cents"] if periods else 0
        if total is None:
            # A guard that takes "unknown" for "nothing" would guard nothing.
            raise DiffioResponseError(
                "Diffio did not say what the newest billing period has cost.", endpoint="usage/summary"
            )
        self.log.info("The newest billing period has cost %s cents.", total)
        return {
            "api_key_id": usage.api_key_id,
            "periods": periods,
            "total_cents": total,
            "billing": dict(usage.billing),
        }


def _plain(period: UsagePeriod) -> dict[str, Any]:
    fields = dict(vars(period))
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}


class DiffioAccountSettingsOperator(DiffioOperator):
    """
    Read the account's settings.

    Calls ``account/settings/get`` (scope ``account:read``), which costs nothing.

    Returns ``api_key_id``, ``user_id``, ``billing_mode``, ``billing_status``, ``billing_policy`` (as Diffio
    sends it), ``currency`` and ``updated_at`` (ISO 8601, or None).

    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        with airflow_failures(self):
            read_arguments(self)
            settings = self.hook.get_account_settings()
        updated_at = settings.updated_at.isoformat() if settings.updated_at else None
        return {
            **vars(settings),
            "billing_policy": dict(settings.billing_policy),
            "updated_at": updated_at,
        }
