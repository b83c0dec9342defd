"""What the Diffio operators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_diffio.steps.base import DiffioTask


class DiffioOperator(DiffioTask, BaseOperator):
    """
    Base of the operators: knows the connection and has a hook.

    :param diffio_conn_id: id of the Diffio connection (templated).
    """

    template_fields: Sequence[str] = ("diffio_conn_id",)
    ui_color = "#e4f1ee"

    def __init__(self, *, diffio_conn_id: str = "diffio_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.diffio_conn_id = diffio_conn_id
        self._use_default_retry_policy()
