"""DiffioCreateGenerationOperator: start a generation, which restores an uploaded recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_WAIT_TIMEOUT,
)
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask
from airflow_provider_diffio.operators.base import DiffioOperator
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.changes import ChangedInput
from airflow_provider_diffio.steps.create_generation import (
    DEFAULT_MAX_GENERATIONS,
    Bounds,
    GenerationOptions,
    TaskIdentity,
    create_generation,
)
from airflow_provider_diffio.steps.failures import airflow_failures, of_earlier_tries, of_generation
from airflow_provider_diffio.steps.task_state import TaskState
from airflow_provider_diffio.steps.wait import check_waiting, resume, wait_of_task, wait_or_defer
from airflow_provider_diffio.steps.xcom import finished_value, ids_of, read_project_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        SecondsArgument,
        TextArgument,
    )


class DiffioCreateGenerationOperator(LineageTask, DiffioOperator):
    """
    Start a generation, which restores a project's recording, once for each task instance.

    Calls ``{model}-generation`` under an idempotency key that is the same for every try of the task
    instance, so that a retry after a crash gets the generation that is there. Only after Diffio has reported
    that generation as failed does a later try start another. To start another on purpose, give an
    ``idempotency_key`` of your own, or run the upload again, which makes a new project.

    Returns the *generation* value: ``generation_id``, ``api_project_id``, ``model``, ``status``; after
    waiting also ``has_video`` and ``transcription``.

    :param project: a *project* value, or a project id (templated).
    :param model: model id (templated); the connection's when not given.
    :param sampling: passed on to the model (templated).
    :param generation_params: passed on to the model, as ``params`` (templated). Not ``params``, which in
        Airflow are the parameters of the DAG.
    :param idempotency_key: your own key, 1 to 255 characters (templated).
    :param max_generations: how many generations the task instance may start over all of its tries; 2 by
        default: the first one, and one more after Diffio has reported a failure. 1 means never another one.
        Before Airflow 3.3, which keeps no record, the failures that Diffio reports are counted.
    :param on_changed_input: what to do when a retry has another input than the try that started a generation:
        ``warn`` (the default) and start another one, or ``fail`` before anything is sent. Airflow 3.3 and
        later notice it.
    :param wait_for_completion: whether to wait; otherwise a :class:`DiffioGenerationSensor` can.
    :param deferrable: wait on the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between polls at least; 5 by default.
    :param max_poll_interval: seconds between polls at most; 180 by default.
    :param timeout: seconds to wait at least; 6 hours by default. A generation that is complete when the task
        asks last counts, also after this time. One that is not goes on, and a retry collects it.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :raises AirflowFailException: for what a retry cannot fix.
    :raises DiffioGenerationLimitError: as an ``AirflowFailException``, when ``max_generations`` is reached.
    :raises DiffioGenerationFailedError: when Diffio reports the generation as failed.
    :raises DiffioGenerationTimeoutError: when it is not over in time.
    """

    #: A retry finds in the task state store what the last try had (Airflow 3.3 and later).
    durable: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("project",)
    template_fields: Sequence[str] = (
        "project",
        "model",
        "sampling",
        "generation_params",
        "idempotency_key",
        "diffio_conn_id",
    )
    deferred_arguments: ClassVar[tuple[str, ...]] = ("project", "generation", "diffio_conn_id")
    template_fields_renderers = {"project": "json", "sampling": "json", "generation_params": "json"}

    def __init__(
        self,
        *,
        project: str | MappingArgument,
        model: TextArgument | None = None,
        sampling: MappingArgument | None = None,
        generation_params: MappingArgument | None = None,
        idempotency_key: TextArgument | None = None,
        max_generations: int = DEFAULT_MAX_GENERATIONS,
        on_changed_input: ChangedInput = "warn",
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: SecondsArgument = DEFAULT_POLL_INTERVAL,
        max_poll_interval: SecondsArgument = DEFAULT_MAX_POLL_INTERVAL,
        timeout: SecondsArgument = DEFAULT_WAIT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project: Any = project
        self.model: Any = model
        self.sampling: Any = sampling
        self.generation_params: Any = generation_params
        self.idempotency_key: Any = idempotency_key
        self.max_generations = max_generations
        self.on_changed_input = on_changed_input
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval: Any = poll_interval
        self.max_poll_interval: Any = max_poll_interval
        self.timeout: Any = timeout
        #: The *generation* value, as soon as there is one.
        self.generation: dict[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        state = TaskState.of(context)
        with airflow_failures(self), of_earlier_tries(state):
            read_arguments(self)
            check_waiting(self)
            bounds = Bounds.of_task(self)
            options = GenerationOptions.of_task(self)
            project_id = read_project_id(self.project)
            generation = create_generation(
                self.hook, project_id, options, TaskIdentity.of(context), state, bounds
            )
            self.generation = generation.to_value()
            if not self.wait_for_completion:
                return self._returns(self.generation)
            with of_generation(self.generation):
                wait = wait_of_task(self, context, generation.generation_id, generation.api_project_id)
                progress = wait_or_defer(self, wait, deferrable=self.deferrable)
        return self._returns(finished_value(self.generation, progress))

    def execute_complete(
        self, context: Context, event: Any = None, deferral: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Go on after the deferral: ask Diffio what became of the generation."""
        with airflow_failures(self), of_generation(event):
            progress = resume(self, event, deferral)
        return self._returns(finished_value(self.generation or ids_of(event), progress))

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads from the project to the generation."""
        project_id, generation_id = read_project_id(self.project), value.get("generation_id")
        return Lineage(
            inputs=[Dataset.of_project(project_id)],
            outputs=[Dataset.of_generation(project_id, generation_id)] if generation_id else [],
            facts={"api_project_id": project_id, "model": self.model, **value},
        )
