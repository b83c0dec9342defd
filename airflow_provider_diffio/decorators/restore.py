"""``@task.diffio_restore``, which restores what a decorated function returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_diffio.api.arguments import is_path, read_path
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.operators.restore import DiffioRestoreOperator
from airflow_provider_diffio.steps.failures import airflow_failures

if TYPE_CHECKING:
    import os
    from typing import Protocol, TypeAlias

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath, XComArg

    Source: TypeAlias = str | os.PathLike[str] | ObjectStoragePath
    SourceFunction: TypeAlias = Callable[..., Source]

    class RestoreTask(Protocol):
        """What a decorated function becomes. Its arguments may be values, or what other tasks return."""

        def __call__(self, *args: Any, **kwargs: Any) -> XComArg: ...

        def expand(self, **kwargs: Any) -> XComArg: ...

        def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> XComArg: ...

        def partial(self, **kwargs: Any) -> RestoreTask: ...

        def override(self, **kwargs: Any) -> RestoreTask: ...


class DiffioRestoreDecoratedOperator(DecoratedOperator, DiffioRestoreOperator):
    """
    The task behind ``@task.diffio_restore``.

    What the function returns is taken as it is: it is no template, since names of files come from elsewhere.

    :param python_callable: the decorated function.
    :param op_args: its positional arguments (templated).
    :param op_kwargs: its keyword arguments (templated).
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *DiffioRestoreOperator.template_fields,
    )
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **DiffioRestoreOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.diffio_restore"
    #: Airflow then shows under *Rendered Templates* what the function returned.
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "source" in kwargs:
            raise TypeError("@task.diffio_restore takes no source: the decorated function returns it")
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            source=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Call the function, and restore what it returns."""
        context_merge(context, self.op_kwargs)
        keywords = determine_kwargs(self.python_callable, self.op_args, context)
        returned = self.python_callable(*self.op_args, **keywords)
        with airflow_failures(self):
            self.source = _one_source(returned, self.task_id)
        return super().execute(context)


def _one_source(returned: Any, task_id: str) -> str:
    if (
        isinstance(returned, Iterable)
        and not is_path(returned)
        and not isinstance(returned, (bytes, Mapping))
    ):
        raise DiffioInputError(
            f"The function of task {task_id!r} returned a {type(returned).__name__}."
            " @task.diffio_restore restores one recording.",
            advice="Return one path, and map the task: fn.expand(name=paths). Nothing was sent.",
        )
    return read_path(returned, f"what the function of task {task_id!r} returned")


@overload
def diffio_restore_task(python_callable: SourceFunction, **kwargs: Any) -> RestoreTask: ...
@overload
def diffio_restore_task(
    python_callable: None = None, **kwargs: Any
) -> Callable[[SourceFunction], RestoreTask]: ...
def diffio_restore_task(python_callable: SourceFunction | None = None, **kwargs: Any) -> Any:
    """
    Make a task of a function that returns a recording, which the task restores.

    Airflow offers this as ``@task.diffio_restore``. Imported from here it is the same, with types that
    ``mypy --strict`` knows.

    :param python_callable: the function. It returns a path: text, a ``pathlib.Path`` or an
        ``ObjectStoragePath``.
    :param kwargs: the arguments of :class:`~airflow_provider_diffio.operators.DiffioRestoreOperator` but
        ``source``.
    :return: the function as a task, which returns the *file* value.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=DiffioRestoreDecoratedOperator,
        **kwargs,
    )
