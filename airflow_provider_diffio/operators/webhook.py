"""DiffioConfigureWebhookOperator and DiffioSendWebhookTestEventOperator: set up webhooks, and test them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio.api.clean_text import clean_value
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.assets import receives_webhooks
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.failures import airflow_failures

if TYPE_CHECKING:
    from airflow_provider_diffio.steps.arguments import (
        CollectionArgument,
        MappingArgument,
        TextArgument,
    )

#: The event types that become asset events.
FINISHED = ("generation.completed", "generation.failed")


class DiffioConfigureWebhookOperator(DiffioOperator):
    """
    Tell Diffio where to deliver events about a key's generations.

    Calls ``webhooks/configure``, which needs an admin key with the scope ``webhooks:write``. The call states
    what should be, so a retry repeats it. If Diffio then keeps two endpoints with one URL, the receiver still
    counts each delivery once. The response does not hold the signing secret: copy it from Diffio's dashboard
    into the connection's ``webhook_secret``.

    Returns ``api_key_id``, ``mode``, ``url``, ``event_types``, ``endpoint_id``, ``signing``.

    :param url: an https URL (templated); by default this Airflow's receiver for the connection, below
        ``[api] base_url``, path prefix included.
    :param event_types: of ``generation.queued``, ``.processing``, ``.failed`` and ``.completed``
        (templated); the last two by default.
    :param mode: ``live`` (default) or ``test`` (templated).
    :param api_key_id: the key whose generations are reported (templated); the connection's own by default.
    :param diffio_conn_id: id of the Diffio connection (templated). For the default ``url``, the receiver
        takes letters, digits, ``_``, ``-`` and single dots.
    :raises AirflowFailException: for errors that no retry can fix, such as a key that may not do this.
    """

    template_fields: Sequence[str] = ("url", "event_types", "mode", "api_key_id", "diffio_conn_id")
    template_fields_renderers = {"event_types": "json"}

    def __init__(
        self,
        *,
        url: TextArgument | None = None,
        event_types: CollectionArgument = FINISHED,
        mode: TextArgument = "live",
        api_key_id: TextArgument | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.url: Any = url
        self.event_types: Any = event_types
        self.mode: Any = mode
        self.api_key_id: Any = api_key_id

    def execute(self, context: Any) -> dict[str, Any]:
        with airflow_failures(self):
            read_arguments(self)
            configured = self.hook.configure_webhook(
                self.url or receiver_url(self.diffio_conn_id),
                self.event_types,
                mode=self.mode,
                api_key_id=self.api_key_id,
            )
        value: dict[str, Any] = clean_value(asdict(configured))
        self.log.info("Diffio delivers %s to %s.", ", ".join(value["event_types"]), value["url"])
        return value


class DiffioSendWebhookTestEventOperator(DiffioOperator):
    """
    Have Diffio send a test event to a key's endpoints, to see whether it arrives.

    Calls ``webhooks/send_test_event``, which costs nothing. Each try sends an event. An event of the type
    ``generation.completed`` starts the DAGs on that asset. It names no project, so ``finished_generations``
    leaves it out and nothing is downloaded.

    Returns ``svix_message_id``, ``event_id``, ``event_type``, ``mode``, ``api_key_id``.

    :param event_type: the event's type (templated); ``generation.completed`` by default.
    :param mode: ``live`` (default) or ``test`` (templated).
    :param api_key_id: the key whose endpoints get the event (templated); the connection's own by default.
    :param sample_payload: fields to put into the event, by their names in Diffio's API (templated).
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for errors that no retry can fix, such as a key that may not do this.
    """

    template_fields: Sequence[str] = ("event_type", "mode", "api_key_id", "sample_payload", "diffio_conn_id")
    template_fields_renderers = {"sample_payload": "json"}

    def __init__(
        self,
        *,
        event_type: TextArgument = "generation.completed",
        mode: TextArgument = "live",
        api_key_id: TextArgument | None = None,
        sample_payload: MappingArgument | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.event_type: Any = event_type
        self.mode: Any = mode
        self.api_key_id: Any = api_key_id
        self.sample_payload: Any = sample_payload

    def execute(self, context: Any) -> dict[str, Any]:
        with airflow_failures(self):
            read_arguments(self)
            sent = self.hook.send_webhook_test_event(
                self.event_type,
                mode=self.mode,
                api_key_id=self.api_key_id,
                sample_payload=self.sample_payload,
            )
        value: dict[str, Any] = clean_value(asdict(sent))
        self.log.info("Diffio sends %s as %s.", value["event_type"], value["svix_message_id"])
        return value


def receiver_url(diffio_conn_id: str) -> str:
    """
    Return the URL at which this Airflow receives a connection's deliveries.

    A path prefix in ``[api] base_url`` is part of it.

    :param diffio_conn_id: id of the Diffio connection.
    :raises DiffioInputError: when Airflow does not know its own https address, or its receiver refuses the
        id.
    """
    if not receives_webhooks(diffio_conn_id):
        raise DiffioInputError(
            f"The webhook receiver refuses the connection id {diffio_conn_id!r}.",
            advice="Give the connection an id of letters, digits, '_', '-' and single dots, which begins"
            " with a letter, a digit or '_' and has 200 characters at most.",
        )
    base = conf.get("api", "base_url", fallback="") or ""
    if not base.startswith("https://"):
        raise DiffioInputError(
            f"Airflow's [api] base_url is {base!r}, which Diffio cannot deliver to.",
            advice="Give the operator the https URL at which Diffio can reach Airflow from outside.",
        )
    return f"{base.rstrip('/')}/diffio/webhooks/{diffio_conn_id}"
