"""DiffioGenerationSensor: wait until a generation is complete."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_diffio import _compat
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
    diffio_error,
)
from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    Failed,
    Succeeded,
    WaitSpec,
)
from airflow_provider_diffio.api.progress_log import ProgressLog
from airflow_provider_diffio.lineage import Dataset, Lineage, LineageTask
from airflow_provider_diffio.steps.arguments import read_arguments
from airflow_provider_diffio.steps.base import DiffioTask
from airflow_provider_diffio.steps.failures import airflow_failures, of_generation, replaced_by, report
from airflow_provider_diffio.steps.wait import driver_of, resume, wait_of_task, wait_or_defer
from airflow_provider_diffio.steps.xcom import finished_value, read_generation_ids

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_diffio.steps.arguments import (
        MappingArgument,
        SecondsArgument,
        TextArgument,
    )


class DiffioGenerationSensor(LineageTask, DiffioTask, BaseSensorOperator):
    """
    Wait until a generation is complete: on the triggerer, poking, or rescheduling.

    Calls ``get_generation_progress``. Outages of the API are waited out until the timeout. A generation that
    Diffio reports as failed fails the task at once and for good, since another poll would bring the same:
    clear the task that started it. With Airflow's own ``soft_fail`` the task is skipped when the generation
    failed or is not over in time; a wrong key or argument fails it all the same.

    Returns the *generation* value: ``generation_id``, ``api_project_id``, ``model`` (where the given value
    has it), ``status``, ``has_video``, ``transcription``.

    :param generation: a mapping with ``generation_id`` and ``api_project_id``, as
        :class:`DiffioCreateGenerationOperator` returns (templated).
    :param deferrable: wait on the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between polls at least, when deferrable; 5 by default. Otherwise
        ``poke_interval`` counts.
    :param max_poll_interval: seconds between polls at most, when deferrable; 180 by default.
    :param diffio_conn_id: id of the Diffio connection (templated).
    :param request_options: what this task's requests do differently from the connection: a mapping with
        any of ``timeout`` (seconds, or a timedelta, for connecting and for each read), ``max_attempts`` and
        ``headers``. Neither rendered nor stored, so the triggerer does not have it. None by default.
    :raises AirflowSensorTimeout: when it is not over within ``timeout`` (skipped with ``soft_fail``).
    :raises AirflowFailException: when the generation failed, and for what a retry cannot fix.
    """

    named_by: ClassVar[tuple[str, ...]] = ("generation",)
    template_fields: Sequence[str] = ("generation", "diffio_conn_id")
    deferred_arguments: ClassVar[tuple[str, ...]] = ("generation", "diffio_conn_id")
    template_fields_renderers = {"generation": "json"}
    ui_color = "#e4f1ee"

    def __init__(
        self,
        *,
        generation: MappingArgument,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: SecondsArgument = DEFAULT_POLL_INTERVAL,
        max_poll_interval: SecondsArgument = DEFAULT_MAX_POLL_INTERVAL,
        diffio_conn_id: TextArgument = "diffio_default",
        request_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.generation: Any = generation
        self.deferrable = deferrable
        self.poll_interval: Any = poll_interval
        self.max_poll_interval: Any = max_poll_interval
        self.diffio_conn_id: Any = diffio_conn_id
        self.request_options = request_options
        self._use_default_retry_policy()

    @cached_property
    def _progress_log(self) -> ProgressLog:
        return ProgressLog(self.log)

    def execute(self, context: Context) -> Any:
        with self._outcomes(), of_generation(self.generation):
            read_arguments(self)
        if not self.deferrable:
            with self._rightly_skipped():
                return self._returns(super().execute(context))
        with self._outcomes():
            generation_id, project_id = read_generation_ids(self.generation)
            with of_generation(self.generation):
                wait = wait_of_task(self, context, generation_id, project_id)
                progress = wait_or_defer(self, wait, deferrable=True)
        return self._returns(finished_value(self.generation, progress))

    def execute_complete(
        self, context: Context, event: Any = None, deferral: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Go on after the deferral: ask Diffio what became of the generation."""
        with self._outcomes(), of_generation(event):
            progress = resume(self, event, deferral)
        return self._returns(finished_value(self.generation, progress))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral, as Airflow does, but for what it skips."""
        with self._rightly_skipped():
            return super().resume_execution(next_method, next_kwargs, context)

    def lineage(self, value: Mapping[str, Any]) -> Lineage:
        """Lineage leads to the generation that is waited for; nothing is made of it here."""
        generation_id, project_id = read_generation_ids(self.generation)
        return Lineage(
            inputs=[Dataset.of_generation(project_id, generation_id)], facts={**self.generation, **value}
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. Airflow's own ``timeout`` counts here, over all polls."""
        with airflow_failures(self, expected=self._may_skip), of_generation(self.generation):
            generation_id, project_id = read_generation_ids(self.generation)
            self.generation_in_flight = generation_id
            # A poll takes no longer than the whole wait may.
            now = time.time()
            wait = WaitSpec(generation_id, project_id, started_at=now, deadline=now + float(self.timeout))
            decision = driver_of(self.hook, wait, self._progress_log).poll()
            if isinstance(decision, Failed):
                self._raise(decision.error)
        if isinstance(decision, Succeeded):
            return PokeReturnValue(True, finished_value(self.generation, decision.progress))
        return PokeReturnValue(False)

    @contextmanager
    def _outcomes(self) -> Iterator[None]:
        """Give our errors the meaning that Airflow's documentation gives to those of any sensor."""
        try:
            with airflow_failures(self, expected=self._may_skip):
                try:
                    yield
                except (DiffioGenerationFailedError, DiffioGenerationTimeoutError) as error:
                    self._raise(error)
        except (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout) as error:
            if (self.soft_fail and _is_outcome(error)) or _compat.never_fail(self):
                raise AirflowSkipException(f"Skipped, since soft_fail is set: {error}") from error
            raise

    @property
    def _may_skip(self) -> bool:
        return self.soft_fail or _compat.never_fail(self)

    def _raise(self, error: DiffioError) -> NoReturn:
        """Raise the exception of Airflow's that says what an error means for a sensor."""
        failure: Exception
        if isinstance(error, DiffioGenerationTimeoutError):
            failure = AirflowSensorTimeout(str(error))
        elif isinstance(error, DiffioGenerationFailedError):
            error.advice = "Check that the recording plays, and clear the task that started the generation."
            failure = AirflowFailException(
                f"{error} (No retry of this sensor: clear the task that started the generation.)"
            )
        else:
            raise error
        report(self, error, expected=self._may_skip)
        raise replaced_by(error, failure) from None

    @contextmanager
    def _rightly_skipped(self) -> Iterator[None]:
        """
        Raise what Airflow made a skip of, unless it is what ``soft_fail`` is for.

        A wrong key or argument is a fault of the DAG or the connection: skipped, nobody would see it.
        """
        try:
            yield
        except AirflowSkipException as skip:
            error = skip.__cause__
            if error is None or isinstance(error, AirflowSkipException) or _is_outcome(error):
                raise
            if _compat.never_fail(self):
                raise
            # Raised here, it comes after the skip; what it came after before shall still be found.
            skip.__context__ = error.__context__
            raise error from None


def _is_outcome(error: BaseException) -> bool:
    """Tell whether an error says what became of the generation: it failed, or it is not over in time."""
    if isinstance(error, (AirflowSensorTimeout, AirflowTaskTimeout)):
        return True
    # Where Airflow has this class differs by version.
    if type(error).__name__ == "TaskDeferralTimeout":
        return True
    return isinstance(diffio_error(error), DiffioGenerationFailedError)
