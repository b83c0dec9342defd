"""DiffioCreateGenerationOperator: buy the restoration of an uploaded recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
)
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.create_generation import Order, TaskIdentity, buy
from airflow_provider_diffio.steps.failures import airflow_failures
from airflow_provider_diffio.steps.task_state import TaskMemory
from airflow_provider_diffio.steps.wait import Wait, check_waiting, resume, wait_or_defer
from airflow_provider_diffio.steps.xcom import finished_value, read_project_id


class DiffioCreateGenerationOperator(LineageTask, DiffioOperator):
    """
    Buy the restoration of a project's recording, once for each task instance.

    Calls ``{model}-generation`` under an idempotency key that is the same for every try of the task
    instance, so that a retry after a crash gets the generation that is there. Only after Diffio has reported
    that generation as failed does a later try buy another. To buy again on purpose, give an
    ``idempotency_key`` of your own, or run the upload again, which makes a new project.

    Returns the *generation* value: ``generation_id``, ``api_project_id``, ``model``, ``status``; after
    waiting also ``has_video`` and ``transcription``.

    :param project: a *project* value, or a project id (templated).
    :param model: model id (templated); the connection's when not given.
    :param sampling: passed on to the model (templated).
    :param generation_params: passed on to the model, as ``params`` (templated). Not ``params``, which in
        Airflow are the parameters of the DAG.
    :param idempotency_key: your own key, 1 to 255 characters (templated).
    :param wait_for_completion: whether to wait; otherwise a :class:`DiffioGenerationSensor` can.
    :param deferrable: wait on the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between looks at least.
    :param max_poll_interval: seconds between looks at most.
    :param timeout: seconds to wait; 6 hours by default. The generation goes on after it, and a retry
        collects it.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry can not mend.
    :raises DiffioGenerationFailedError: when Diffio reports the generation as failed.
    :raises DiffioGenerationTimeoutError: when it is not over in time.
    """

    template_fields: Sequence[str] = (
        "project",
        "model",
        "sampling",
        "generation_params",
        "idempotency_key",
        "diffio_conn_id",
    )
    template_fields_renderers = {"project": "json", "sampling": "json", "generation_params": "json"}

    def __init__(
        self,
        *,
        project: str | Mapping[str, Any],
        model: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        generation_params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float = DEFAULT_MAX_POLL_INTERVAL,
        timeout: float = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.model = model
        self.sampling = sampling
        self.generation_params = generation_params
        self.idempotency_key = idempotency_key
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.timeout = timeout

    def execute(self, context: Any) -> dict[str, Any]:
        with airflow_failures():
            check_waiting(self)
            order = Order(
                project_id=read_project_id(self.project),
                model=self.model or self.hook.config.model,
                sampling=self.sampling,
                params=self.generation_params,
                idempotency_key=self.idempotency_key,
            )
            generation = buy(self.hook, order, TaskIdentity.of(context), TaskMemory.of(context)).to_value()
            if not self.wait_for_completion:
                return self._returns(generation)
            wait = Wait.of_task(self, context, generation["generation_id"], generation["api_project_id"])
            progress = wait_or_defer(
                self, self.hook, wait, deferrable=self.deferrable, carried={"generation": generation}
            )
        return self._returns(finished_value(generation, progress))

    def execute_complete(
        self,
        context: Any,
        event: Any = None,
        wait: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on after the deferral: ask Diffio what became of the generation."""
        with airflow_failures():
            carried = {"generation": generation or _from_event(event)}
            progress = resume(self, self.hook, event, wait, carried=carried)
        return self._returns(finished_value(carried["generation"], progress))

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from the project to the generation."""
        project_id, generation_id = read_project_id(self.project), value.get("generation_id")
        return Lineage(
            inputs=[Dataset.of_project(project_id)],
            outputs=[Dataset.of_generation(project_id, generation_id)] if generation_id else [],
            facts={"api_project_id": project_id, "model": self.model, **value},
        )


def _from_event(event: Any) -> dict[str, Any]:
    """Return what the event says: ``dag.test()`` loses what was stored with the deferral."""
    fields = event if isinstance(event, Mapping) else {}
    return {"generation_id": fields.get("generation_id"), "api_project_id": fields.get("project_id")}
