"""
Buying a generation once, however often the task is tried.

The idempotency key is made from what identifies the task instance and the request, never from the try. Every
retry sends the same key, and Diffio answers the generation that exists. Only when Diffio reports that one as
failed does a later try use the next key: the same one would bring the old failure back for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import DiffioGenerationFailedError
from airflow_provider_diffio.api.models import Generation
from airflow_provider_diffio.steps.task_state import TaskMemory, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook


_STEP = "generation"


class TaskIdentity(NamedTuple):
    """What stays the same for a task instance over all of its tries."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskIdentity:
        ti = context["ti"]
        map_index = getattr(ti, "map_index", -1)
        return cls(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=-1 if map_index is None else map_index,
            try_number=max(1, int(ti.try_number or 1)),
        )


class Order(NamedTuple):
    """
    What is to be bought.

    :ivar idempotency_key: the user's own key, or None for one that is made from the task and the request.
    """

    project_id: str
    model: str
    sampling: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    idempotency_key: str | None = None

    def check(self) -> None:
        """
        Refuse what could not be bought, before anything is sent.

        :raises DiffioInputError: when a part of it can not work.
        """
        endpoints.create_generation(
            self.project_id or "unknown yet",
            model=self.model,
            sampling=self.sampling,
            params=self.params,
            idempotency_key=self.idempotency_key,
        )

    def key_for(self, task: TaskIdentity, counter: int) -> str:
        """Return the key of the ``counter``-th purchase, counted from 0."""
        parts = [
            task.dag_id,
            task.task_id,
            task.run_id,
            task.map_index,
            self.project_id,
            self.model,
            self.sampling,
            self.params,
            counter,
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"airflow-{digest}"


def buy(hook: DiffioHook, order: Order, task: TaskIdentity, memory: TaskMemory) -> Generation:
    """
    Buy a generation, or return the one that an earlier try bought.

    The intent is recorded before the request is sent, the ids as soon as they are known.

    :param hook: sends the request, under the same key however often it is sent.
    :param order: what to buy.
    :param task: for whom.
    :param memory: what earlier tries recorded.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioError: when it did not work.
    """
    order.check()
    mark = fingerprint(**order._asdict())
    record = memory.recall(_STEP, mark)
    first = int(record.get("counter") or 0)
    if record.get("generation"):
        generation = Generation(**record["generation"])
        if order.idempotency_key is not None or not _has_failed(hook, generation):
            hook.log.info("Generation %s was bought by an earlier try.", generation.generation_id)
            return generation
        first += 1
    # Each earlier try can have left one failed generation at the most.
    for counter in range(first, max(first + 1, task.try_number)):
        key = order.idempotency_key or order.key_for(task, counter)
        memory.intend(_STEP, mark, counter=counter)
        generation = _request(hook, order, key)
        memory.remember(_STEP, mark, counter=counter, generation=generation.to_value())
        if order.idempotency_key is not None or not generation.idempotent_replay:
            return generation
        if not _has_failed(hook, generation):
            return generation
        hook.log.info(
            "Generation %s of an earlier try failed at Diffio; its key is used up.", generation.generation_id
        )
    raise DiffioGenerationFailedError(
        "Diffio reports the generation of this purchase as failed.",
        generation_id=generation.generation_id,
        project_id=order.project_id,
        may_be_billed=True,
        advice="The next try of the task buys a new one; so does an idempotency_key of your own.",
    )


def _request(hook: DiffioHook, order: Order, key: str) -> Generation:
    generation = hook.create_generation(
        order.project_id,
        model=order.model,
        sampling=order.sampling,
        params=order.params,
        idempotency_key=key,
    )
    if generation.idempotent_replay:
        hook.log.info(
            "Generation %s exists already under idempotency key %s; nothing new was bought.",
            generation.generation_id,
            key,
        )
    else:
        hook.log.info("Created generation %s (idempotency key %s).", generation.generation_id, key)
    return generation


def _has_failed(hook: DiffioHook, generation: Generation) -> bool:
    progress = hook.get_generation_progress(generation.generation_id, generation.api_project_id)
    return progress.is_failed
