"""What the Diffio operators share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook


class DiffioOperator(BaseOperator):
    """
    Base of the operators: knows the connection and has a hook.

    :param diffio_conn_id: id of the Diffio connection (templated).
    """

    template_fields: Sequence[str] = ("diffio_conn_id",)
    ui_color = "#e4f1ee"

    def __init__(self, *, diffio_conn_id: str = "diffio_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.diffio_conn_id = diffio_conn_id

    @cached_property
    def hook(self) -> DiffioHook:
        """The hook, made when it is needed first."""
        from airflow_provider_diffio.hooks.diffio import DiffioHook

        return DiffioHook(self.diffio_conn_id)
