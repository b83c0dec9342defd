"""
Starting a generation once, however often the task is tried.

The idempotency key is made from what identifies the task instance and the request, never from the try. Every
retry sends the same key, and Diffio returns the generation that exists. Only when Diffio reports that one as
failed does a later try use the next key: the same one would bring the old failure back for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import DiffioGenerationFailedError
from airflow_provider_diffio.api.models import Generation
from airflow_provider_diffio.steps.restoration import RestorationStore, Start, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.steps.base import StartingTask


class TaskIdentity(NamedTuple):
    """What stays the same for a task instance over all of its tries, and which try this is."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskIdentity:
        """Return the identity of the task instance that runs in ``context``."""
        ti = context["ti"]
        return cls(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=max(1, int(ti.try_number or 1)),
        )


class GenerationOptions(NamedTuple):
    """
    How a recording is to be restored, as an operator was told.

    :ivar idempotency_key: the user's own key, or None for one that is made from the task and the request.
    """

    model: str
    sampling: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    idempotency_key: str | None = None

    @classmethod
    def of_task(cls, task: StartingTask) -> GenerationOptions:
        """Return what an operator was told; the connection's model where it names none."""
        return cls(
            model=task.model or task.hook.config.model,
            sampling=task.sampling,
            params=task.generation_params,
            idempotency_key=task.idempotency_key,
        )

    def check(self) -> None:
        """
        Refuse what cannot work, before anything is sent.

        :raises DiffioInputError: when a part of it cannot work.
        """
        endpoints.check_generation(
            model=self.model,
            sampling=self.sampling,
            params=self.params,
            idempotency_key=self.idempotency_key,
        )

    def fingerprint(self, project_id: str) -> str:
        """Return the digest that tells this request from any other of the task instance."""
        return fingerprint(
            project_id=project_id,
            model=self.model,
            sampling=self.sampling,
            params=self.params,
            idempotency_key=self.idempotency_key,
        )

    def key_for(self, task: TaskIdentity, project_id: str, counter: int) -> str:
        """Return the idempotency key of the ``counter``-th start, counted from 0."""
        digest = fingerprint(
            dag_id=task.dag_id,
            task_id=task.task_id,
            run_id=task.run_id,
            map_index=task.map_index,
            project_id=project_id,
            model=self.model,
            sampling=self.sampling,
            params=self.params,
            counter=counter,
        )
        return self.idempotency_key or f"airflow-{digest}"


def create_generation(
    hook: DiffioHook,
    project_id: str,
    options: GenerationOptions,
    task: TaskIdentity,
    store: RestorationStore,
) -> Generation:
    """
    Start a generation, or return the one that an earlier try started.

    The intent is recorded before the request is sent, the ids as soon as they are known.

    :param hook: sends the request, under the same key however often it is sent.
    :param project_id: the project whose recording is to be restored.
    :param options: how.
    :param task: for whom.
    :param store: what earlier tries recorded.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioError: when it did not work.
    """
    options.check()
    request = options.fingerprint(project_id)
    last = store.load().last_start(request)
    first = last.counter if last else 0
    if last and last.generation:
        if not _is_used_up(hook, last, options):
            hook.log.info("An earlier try started generation %s.", last.generation.generation_id)
            return last.generation
        store.save_result(store.load().start_failed(request, last.counter))
        first += 1
    # Each earlier try can have left one failed generation at the most.
    for counter in range(first, max(first + 1, task.try_number)):
        store.save_intent(store.load().start_intended(request, counter))
        generation = _request(hook, project_id, options, options.key_for(task, project_id, counter))
        store.save_result(store.load().started(request, counter, generation))
        start = Start(request, counter, generation)
        if not generation.idempotent_replay or not _is_used_up(hook, start, options):
            return generation
        store.save_result(store.load().start_failed(request, counter))
        hook.log.info(
            "Generation %s of an earlier try failed at Diffio; its key is used up.", generation.generation_id
        )
    raise DiffioGenerationFailedError(
        "Diffio reports the generation of this request as failed.",
        generation_id=generation.generation_id,
        project_id=project_id,
        may_be_billed=True,
        advice="The next try of the task starts a new one; so does an idempotency_key of your own.",
    )


def _request(hook: DiffioHook, project_id: str, options: GenerationOptions, key: str) -> Generation:
    generation = hook.create_generation(
        project_id,
        model=options.model,
        sampling=options.sampling,
        params=options.params,
        idempotency_key=key,
    )
    if generation.idempotent_replay:
        hook.log.info(
            "Generation %s exists already under idempotency key %s; none was started.",
            generation.generation_id,
            key,
        )
    else:
        hook.log.info("Started generation %s (idempotency key %s).", generation.generation_id, key)
    return generation


def _is_used_up(hook: DiffioHook, start: Start, options: GenerationOptions) -> bool:
    """Tell whether a start has failed at Diffio. A user's own key stands for one generation only."""
    if options.idempotency_key is not None or start.generation is None:
        return False
    if start.failed:
        return True
    progress = hook.get_generation_progress(start.generation.generation_id, start.generation.api_project_id)
    return progress.is_failed
