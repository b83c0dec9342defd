"""What the Diffio operators and the sensor share, and what the steps ask of a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol

from airflow_provider_diffio import _compat
from airflow_provider_diffio.api.clean_text import clean_text
from airflow_provider_diffio.api.progress_log import kill_notice

if TYPE_CHECKING:
    import logging

    from airflow_provider_diffio.api.settings import RequestOptions
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.hooks.verification import Verify
    from airflow_provider_diffio.links import LinkedTask
    from airflow_provider_diffio.steps.changes import ChangedInput

    # Making a protocol costs several classes, and whatever parses DAG files would pay for it.
    class FailingTask(Protocol):
        """A task that can say in its log what went wrong."""

        diffio_conn_id: str
        generation_in_flight: str | None

        @property
        def log(self) -> logging.Logger: ...

    class UploadingTask(Protocol):
        """A task that uploads a recording."""

        source: str
        file_name: str | None
        content_type: str | None
        file_format: str | None
        project_params: Mapping[str, Any] | None
        source_conn_id: str | None

    class StartingTask(Protocol):
        """A task that starts a generation."""

        model: str | None
        sampling: Mapping[str, Any] | None
        generation_params: Mapping[str, Any] | None
        idempotency_key: str | None

        @property
        def hook(self) -> DiffioHook: ...

    class BoundedTask(Protocol):
        """A task that may start so many generations."""

        max_generations: int
        on_changed_input: ChangedInput

    class WritingTask(LinkedTask, Protocol):
        """A task that writes a restored file."""

        path: str
        download_type: str | None
        output_conn_id: str | None
        overwrite: Overwrite
        verify: Verify | None
        outlets: Any

    class WaitingTask(Protocol):
        """A task that waits for a generation."""

        #: The arguments that are stored with a deferral, and put back when the task goes on after it.
        deferred_arguments: ClassVar[tuple[str, ...]]

        diffio_conn_id: str
        poll_interval: float
        max_poll_interval: float
        timeout: float
        execution_timeout: timedelta | None
        generation_in_flight: str | None

        @property
        def hook(self) -> DiffioHook: ...

        @property
        def log(self) -> logging.Logger: ...

        def defer(self, *, trigger: Any, method_name: str, kwargs: dict[str, Any], timeout: Any) -> NoReturn:
            """Airflow's own."""


#: What to do with a file that is there: replace it; keep it when it is the one that an earlier try of this
#: task wrote, and replace it otherwise; or fail, unless it is that one.
Overwrite = Literal["replace", "skip", "error"]


def short_name(value: Any) -> str:
    """
    Return what a person would call a file or a value that flows through a DAG; empty for what has no name.

    :param value: a path, a URI, or a *project*, *generation* or *file* value.
    """
    if isinstance(value, Mapping):
        names = (value.get(field) for field in ("file_name", "generation_id", "api_project_id"))
        value = next(filter(None, names), "")
    if not isinstance(value, (str, os.PathLike)):
        return ""
    text = str(value)
    if text.startswith(("http://", "https://")):
        text = text.partition("?")[0]  # it may be a credential
    # Airflow's column takes 250 characters.
    return clean_text(text.rpartition("/")[2].strip(), 200)


class DiffioTask:
    """Knows the connection, has a hook, and says what a kill means. Mixed into operators and the sensor."""

    diffio_conn_id: str
    request_options: RequestOptions | Mapping[str, Any] | None
    log: logging.Logger
    #: The generation that this try has started or waits for, as soon as it is known.
    generation_in_flight: str | None = None
    #: Whether the next try of the task finds that generation, and starts none.
    recorded: bool = True
    #: The addresses of this task's links, as far as this phase of it knows them.
    shown_links: Mapping[str, str] = MappingProxyType({})

    @cached_property
    def hook(self) -> DiffioHook:
        """The hook, made when it is needed first."""
        from airflow_provider_diffio.hooks.diffio import DiffioHook

        return DiffioHook(self.diffio_conn_id, request_options=self.request_options)

    def render_template(self, content: Any, *arguments: Any, **options: Any) -> Any:
        """Render a value as Airflow does, a ``pathlib.Path`` as the text that it stands for."""
        # Airflow 3.0 and 3.1 call ``resolve(context)`` of whatever has it, and a Path has it.
        if isinstance(content, PurePath):
            content = str(content)
        return super().render_template(content, *arguments, **options)  # type: ignore[misc]

    #: The arguments that tell one mapped task from another, the best one first.
    named_by: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Return Airflow's own, where each mapped task is named by its file if the user gives no name."""
        kwargs.setdefault("map_index_template", "{{ task.map_name or ti.map_index }}")
        return super().partial(**kwargs)  # type: ignore[misc]

    @property
    def map_name(self) -> str:
        """What a mapped task of this kind is called in Airflow's UI; empty where it has no name."""
        return next(filter(None, (short_name(getattr(self, name, None)) for name in self.named_by)), "")

    def on_kill(self) -> None:
        """Say what goes on at Diffio: it has no cancel, and evictions and hand-overs come here, too."""
        self.log.warning("%s", kill_notice(self.generation_in_flight, recorded=self.recorded))

    def _use_default_retry_policy(self) -> None:
        """Let errors of ours decide about retries where Airflow asks, unless the user decided."""
        if _compat.accepts_retry_policy(self):
            from airflow_provider_diffio.retry_policy import DiffioRetryPolicy

            self.retry_policy = DiffioRetryPolicy()
