"""
Starting a generation once, however often the task is tried.

The idempotency key is made from what identifies the task instance and the request, never from the try. Every
retry sends the same key, and Diffio returns the generation that exists. Only when Diffio reports that one as
failed does a later try use the next key: the same one would bring the old failure back for ever. How many
generations one task instance may start is bounded, over all of its tries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import (
    DiffioGenerationLimitError,
    DiffioInputError,
    DiffioNotFoundError,
)
from airflow_provider_diffio.api.models import Generation
from airflow_provider_diffio.api.money import mark_billed
from airflow_provider_diffio.steps.changes import ChangedInput, check_on_changed_input, report_change
from airflow_provider_diffio.steps.restoration import Fingerprint, Start, changed_fields, digest, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.ledger.restoration import Restoration, RestorationStore
    from airflow_provider_diffio.steps.base import BoundedTask, StartingTask


#: How many generations one task instance may start: the first one, and one more after Diffio has reported a
#: failure.
DEFAULT_MAX_GENERATIONS = 2


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

    def fingerprint(self, project_id: str) -> Fingerprint:
        """Return what tells this request from any other of the task instance."""
        return fingerprint(
            project_id=project_id,
            model=self.model,
            sampling=self.sampling,
            generation_params=self.params,
            idempotency_key=self.idempotency_key,
        )

    def key_for(self, task: TaskIdentity, project_id: str, counter: int) -> str:
        """Return the idempotency key of the ``counter``-th start, counted from 0."""
        if self.idempotency_key is not None:
            return self.idempotency_key
        identity = fingerprint(
            dag_id=task.dag_id,
            task_id=task.task_id,
            run_id=task.run_id,
            map_index=task.map_index,
            project_id=project_id,
            model=self.model,
            sampling=self.sampling,
            generation_params=self.params,
            counter=counter,
        )
        return f"airflow-{digest(identity)}"


class Bounds(NamedTuple):
    """
    What a task may spend, as an operator was told.

    :ivar max_generations: how many generations the task instance may start over all of its tries.
    :ivar on_changed_input: what to do about another input than the one that a generation was started for.
    """

    max_generations: int = DEFAULT_MAX_GENERATIONS
    on_changed_input: ChangedInput = "warn"

    @classmethod
    def of_task(cls, task: BoundedTask) -> Bounds:
        """
        Return what an operator was told.

        :raises DiffioInputError: when it cannot work.
        """
        check_max_generations(task.max_generations)
        check_on_changed_input(task.on_changed_input)
        return cls(task.max_generations, task.on_changed_input)

    def check_try(self, hook: DiffioHook, task: TaskIdentity, store: RestorationStore) -> None:
        """
        Bound the tries of a task that uploads with each of them, where no record tells what they started.

        :raises DiffioGenerationLimitError: when another generation could be one too many.
        """
        if store.outlives_the_try or task.try_number == 1:
            return
        if task.try_number > self.max_generations:
            raise DiffioGenerationLimitError(
                f"This is try {task.try_number}, and max_generations is {self.max_generations}: each try may"
                " have started a generation, of which Airflow before 3.3 keeps no record.",
                advice="Raise max_generations to start another one, or use the four single operators.",
                may_be_billed=True,
                money="Each generation that was started is billed; this try started none.",
            )
        hook.log.warning(
            "This is try %d. Airflow before 3.3 keeps no record of a task: if an earlier try started a"
            " generation, this one starts another, which is billed too.",
            task.try_number,
        )


def check_max_generations(value: Any) -> None:
    """
    Refuse a bound that is none.

    :raises DiffioInputError: when it is not a whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DiffioInputError(f"max_generations must be a whole number of at least 1, not {value!r:.40}.")


def create_generation(
    hook: DiffioHook,
    project_id: str,
    options: GenerationOptions,
    task: TaskIdentity,
    store: RestorationStore,
    bounds: Bounds,
) -> Generation:
    """
    Start a generation, or return the one that an earlier try started.

    The intent is recorded before the request is sent, the ids as soon as they are known.

    :param hook: sends the request, under the same key however often it is sent.
    :param project_id: the project whose recording is to be restored.
    :param options: how.
    :param task: for whom.
    :param store: what earlier tries recorded.
    :param bounds: what may be spent.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioGenerationLimitError: when another generation would be one too many.
    :raises DiffioError: when it did not work.
    """
    options.check()
    request = options.fingerprint(project_id)
    last = store.load().last_start(request)
    if last is None:
        _report_changed_request(hook, request, store, bounds)
    counter = last.counter if last else 0
    if last and last.generation:
        if not _is_used_up(hook, last, options):
            hook.log.info("An earlier try started generation %s.", last.generation.generation_id)
            return last.generation
        store.save_result(store.load().start_failed(request, counter))
        counter += 1
    while True:
        _check_bound(store, request, counter, bounds)
        store.save_intent(store.load().start_intended(request, counter))
        generation = _request(hook, project_id, options, options.key_for(task, project_id, counter))
        store.save_result(store.load().started(request, counter, generation))
        start = Start(request, counter, generation)
        # One that was there already is an earlier try's. If it failed, its key brings that back for ever.
        if not generation.idempotent_replay or not _is_used_up(hook, start, options):
            return generation
        store.save_result(store.load().start_failed(request, counter))
        hook.log.info(
            "Generation %s of an earlier try failed at Diffio; its key is used up.", generation.generation_id
        )
        counter += 1


def _report_changed_request(
    hook: DiffioHook, request: Fingerprint, store: RestorationStore, bounds: Bounds
) -> None:
    restoration = store.load()
    if not restoration.starts:
        return
    changes = changed_fields(restoration.starts[-1].request, request)
    if restoration.upload:
        # Another project is there because another recording was uploaded, which has been reported.
        changes = [name for name in changes if name != "project_id"]
    if changes:
        report_change(hook.log, store, changes, bounds.on_changed_input)


def _check_bound(store: RestorationStore, request: Fingerprint, counter: int, bounds: Bounds) -> None:
    restoration = store.load()
    if restoration.start_of(request, counter):
        return
    # Without a record, the counter tells how many generations Diffio has reported as failed.
    started = len(restoration.starts) if store.outlives_the_try else counter
    check_limit(restoration, started, bounds.max_generations)


def check_limit(restoration: Restoration, started: int, max_generations: int) -> None:
    """
    Refuse another generation where it would be one too many.

    :param restoration: what earlier tries recorded.
    :param started: how many the task instance has started.
    :param max_generations: how many it may start.
    :raises DiffioGenerationLimitError: when there may be no other one.
    """
    if started < max_generations:
        return
    last = restoration.starts[-1].generation if restoration.starts else None
    raise DiffioGenerationLimitError(
        f"This task instance has started {started} generation{'s' * (started > 1)}, and max_generations is"
        f" {max_generations}.",
        generation_id=last.generation_id if last else None,
        advice=(
            "Check that the recording plays. To start another generation, raise max_generations, or delete"
            " the record 'diffio_restoration' of this task instance (the task's page, Task State Store)."
        ),
        may_be_billed=True,
        money="Each generation that was started may have been billed; this try started none.",
    )


def _request(hook: DiffioHook, project_id: str, options: GenerationOptions, key: str) -> Generation:
    generation = hook.create_generation(
        project_id,
        model=options.model,
        sampling=options.sampling,
        params=options.params,
        idempotency_key=key,
    )
    hook.log.debug("Idempotency key: %s", key)
    return generation


def _is_used_up(hook: DiffioHook, start: Start, options: GenerationOptions) -> bool:
    """Tell whether a start has failed at Diffio. A user's own key stands for one generation only."""
    if options.idempotency_key is not None or start.generation is None:
        return False
    if start.failed:
        return True
    generation = start.generation
    try:
        progress = hook.get_generation_progress(generation.generation_id, generation.api_project_id)
    except DiffioNotFoundError as error:
        error.advice = (
            "An earlier try started this generation, and this API key cannot find it. Use the key that"
            " started it. If the generation is gone at Diffio, delete the record 'diffio_restoration' of this"
            " task instance (the task's page, Task State Store): the next try then starts another one."
        )
        error.money = ""
        mark_billed(error, "The generation that was started is billed once; this try started none.")
        raise
    return progress.is_failed
