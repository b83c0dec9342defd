"""What the Diffio operators share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_diffio.steps.base import DiffioTask

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.arguments import TextArgument


class DiffioOperator(DiffioTask, BaseOperator):
    """
    Base of the operators: knows the connection and has a hook.

    :param diffio_conn_id: id of the Diffio connection (templated).
    :param request_options: what this task's requests do differently from the connection: a mapping with
        any of ``timeout`` (seconds, or a timedelta, for connecting and for each read), ``max_attempts`` and
        ``headers``. Neither rendered nor stored, so the triggerer does not have it. None by default.
    """

    template_fields: Sequence[str] = ("diffio_conn_id",)
    ui_color = "#e4f1ee"

    def __init__(
        self,
        *,
        diffio_conn_id: TextArgument = "diffio_default",
        request_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.diffio_conn_id: Any = diffio_conn_id
        self.request_options = request_options
        self._use_default_retry_policy()
