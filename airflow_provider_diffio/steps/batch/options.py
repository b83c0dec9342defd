"""What a batch was told: its arguments once they are read, and as they are stored while the task waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.polling import check_intervals
from airflow_provider_diffio.hooks.verification import check_verify
from airflow_provider_diffio.steps.batch.selection import ORDERS, Naming, read_patterns
from airflow_provider_diffio.steps.batch.sources import Source, Wanted
from airflow_provider_diffio.steps.ledger import LedgerRequest, Target

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "order": ORDERS,
    "overwrite": ("replace", "skip", "error"),
    "on_changed_request": ("fail", "keep", "start"),
    "missing_output": ("keep", "download"),
}
#: What the later phases of a task need of its arguments, by name.
STORED = (
    "path", "name", "download_types", "model", "sampling", "generation_params", "project_params",
    "content_type", "file_format", "overwrite", "verify", "on_changed_request", "revision", "missing_output",
    "source_conn_id", "output_conn_id", "max_in_flight", "transfers", "max_generations",
    "max_generations_per_recording", "max_failures", "poll_interval", "max_poll_interval", "timeout",
)  # fmt: skip


class BatchOptions(NamedTuple):
    """
    How the recordings of a batch are to be restored.

    :ivar arguments: the task's arguments by name, as plain values.
    :ivar base_url: the API that restores.
    :ivar default_model: the connection's model.
    :ivar most_in_flight: the connection's cap on ``max_in_flight``; None where it has none.
    """

    arguments: Mapping[str, Any]
    base_url: str
    default_model: str
    most_in_flight: int | None = None

    @classmethod
    def of_task(cls, task: Any, hook: DiffioHook) -> BatchOptions:
        """
        Return what an operator was told.

        :param task: the operator, whose arguments have been read.
        :param hook: its hook.
        :raises DiffioInputError: when a part of it cannot work.
        """
        arguments = {name: getattr(task, name) for name in STORED}
        options = cls.stored(arguments, hook)
        options.check()
        return options

    @classmethod
    def stored(cls, arguments: Mapping[str, Any], hook: DiffioHook) -> BatchOptions:
        """Return what an earlier phase of the task was told, from :data:`STORED` arguments."""
        config = hook.config
        return cls(arguments, config.settings.base_url, config.model, config.max_in_flight)

    def check(self) -> None:
        """
        Refuse what cannot work, before anything is sent.

        :raises DiffioInputError: when a part of it cannot work.
        """
        given = self.arguments
        for name in _CHOICES:
            if name in given:
                check_choice(name, given[name])
        check_verify(given["verify"])
        check_intervals(given["poll_interval"], given["max_poll_interval"])
        endpoints.check_generation(
            model=given["model"] or self.default_model,
            sampling=given["sampling"],
            params=given["generation_params"],
            idempotency_key=None,
        )
        _ = self.naming

    @property
    def naming(self) -> Naming:
        """How the restored files are called."""
        return Naming.read(self.arguments["name"], self.arguments["download_types"])

    @property
    def window(self) -> int:
        """How many generations may be at Diffio at a time."""
        wanted = int(self.arguments["max_in_flight"])
        return wanted if self.most_in_flight is None else min(wanted, self.most_in_flight)

    def request_of(self, source: Source) -> LedgerRequest:
        """
        Return how one recording is restored.

        :param source: the recording, with its own overrides.
        """
        given = self.arguments
        return LedgerRequest(
            base_url=self.base_url,
            model=source.model or given["model"] or self.default_model,
            sampling=given["sampling"],
            generation_params=(
                given["generation_params"] if source.generation_params is None else source.generation_params
            ),
            project_params=given["project_params"],
            file_format=given["file_format"],
            content_type=source.content_type or given["content_type"],
            revision=given["revision"],
        )

    def target_of(self, source: Source) -> Target:
        """Return the files that are to be made of one recording."""
        return Target(tuple(zip(source.targets, self.naming.download_types, strict=True)))


def check_choice(name: str, value: str) -> None:
    """
    Refuse another word than those that an argument takes.

    :raises DiffioInputError: naming the argument.
    """
    if value not in _CHOICES[name]:
        words = ", ".join(repr(each) for each in _CHOICES[name])
        raise DiffioInputError(f"{name} must be one of {words}, not {value!r:.40}.")


def wanted_of(task: Any) -> Wanted:
    """
    Return what an operator was told of its sources.

    :param task: the operator, whose arguments have been read.
    """
    check_choice("order", task.order)
    return Wanted(
        sources=task.sources,
        source_root=task.source_root,
        patterns=read_patterns(task.pattern, "pattern"),
        exclude=read_patterns(task.exclude, "exclude"),
        order=task.order,
        content_type=task.content_type,
        source_conn_id=task.source_conn_id,
    )
