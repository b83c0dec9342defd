"""The restore operator with a ledger: what it begins, waits for, and collects in another phase."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.hooks.ledger import (
    LedgerOptions,
    downloader,
    job_of,
    ledger_path_of,
    open_ledger,
    recorded_failures,
    source_of,
)
from airflow_provider_diffio.ledger.jobs import Begun, Kept
from airflow_provider_diffio.ledger.restoring import LedgerRestoration
from airflow_provider_diffio.steps.create_generation import TaskIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_diffio.api.models import DownloadedFile


def has_ledger(task: Any) -> bool:
    """Tell whether a task, or its connection, names a ledger."""
    return ledger_path_of(task.hook, task.ledger) is not None


class TaskRestoration:
    """
    One restoration of a task, over all of its phases. Made by :func:`restoration_of`.

    :param task: the operator.
    :param restoration: its restoration.
    :param destination: where the file goes.
    """

    def __init__(self, task: Any, restoration: LedgerRestoration, destination: Any) -> None:
        self._task = task
        self._restoration = restoration
        self._destination = destination

    def begin(self) -> DownloadedFile | Begun:
        """
        Begin, or return the file where nothing is to be done. What has begun is kept for a later phase.

        :raises DiffioError: when it did not work.
        """
        begun = self._restoration.begin()
        if isinstance(begun, Kept):
            return begun.file
        self._task.ledger_record = self._restoration.to_value(begun)
        return begun

    def resumed(self, stored: Mapping[str, Any]) -> Begun:
        """Return what an earlier phase has begun."""
        return self._restoration.resume(stored)

    @contextmanager
    def waiting(self, begun: Begun) -> Iterator[None]:
        """Record in the ledger what Diffio reports as failed while the task waits."""
        with recorded_failures(self._restoration, begun):
            yield

    def collect(self, begun: Begun) -> DownloadedFile:
        """Fetch the file of a complete generation, and record it."""
        task = self._task
        ids = (begun.generation_id, begun.project_id)
        verified = {"verify": task.verify, "source": task.source, "source_conn_id": task.source_conn_id}
        return self._restoration.collect(
            begun, downloader(task.hook, ids, self._destination, task.download_type, task.overwrite, verified)
        )


@contextmanager
def restoration_of(task: Any, context: Mapping[str, Any]) -> Iterator[TaskRestoration]:
    """
    Open the ledger of a task for one phase of it.

    :param task: the operator, whose arguments have been read.
    :param context: its context.
    :raises DiffioInputError: when an argument cannot work.
    :raises DiffioLedgerError: when the ledger cannot be read or written.
    """
    hook, options = task.hook, LedgerOptions.of(task)
    destination = hook.check_download(task.path, task.download_type, task.output_conn_id)
    job = job_of(hook, task, options, destination, max_generations=task.max_generations)
    source = source_of(hook, task, destination)
    with open_ledger(hook, ledger_path_of(hook, task.ledger), TaskIdentity.of(context)) as ledger:
        yield TaskRestoration(task, LedgerRestoration(hook, ledger, source, job), destination)
