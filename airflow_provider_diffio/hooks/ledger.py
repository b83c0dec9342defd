"""A hook's arguments, as a restoration with a ledger takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.arguments import is_path, read_choice, read_count, read_path, read_text
from airflow_provider_diffio.api.errors import (
    DiffioGenerationError,
    DiffioGenerationFailedError,
)
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.ledger.jobs import Job, Kept, Source
from airflow_provider_diffio.ledger.ledger import Ledger
from airflow_provider_diffio.ledger.names import LedgerRequest, Place, Target
from airflow_provider_diffio.ledger.restoring import LedgerRestoration
from airflow_provider_diffio.ledger.starting import DEFAULT_MAX_GENERATIONS_PER_RECORDING, StartBounds
from airflow_provider_diffio.storage import Location
from airflow_provider_diffio.storage.objects import objects_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_diffio.api.models import DownloadedFile, Project

    AnyLedger: TypeAlias = str | os.PathLike[str] | ObjectStoragePath | Location

_OVERWRITE = ("replace", "skip", "error")
_ON_CHANGED_REQUEST = ("fail", "keep", "start")
_MISSING_OUTPUT = ("keep", "download")


@dataclass(frozen=True, kw_only=True)
class LedgerOptions:
    """
    What a user says of a restoration with a ledger, besides what he says of every one.

    :ivar on_changed_request: ``fail`` (the default), ``keep`` or ``start``, where a recording was restored
        under another request.
    :ivar revision: a text that starts everything anew where it changes; None by default.
    :ivar missing_output: ``keep`` (the default) or ``download``, where a recorded file is gone.
    :ivar max_generations_per_recording: how many generations may be started for one recording, over all
        runs; 2 by default.
    """

    on_changed_request: Any = "fail"
    revision: Any = None
    missing_output: Any = "keep"
    max_generations_per_recording: Any = DEFAULT_MAX_GENERATIONS_PER_RECORDING

    @classmethod
    def of(cls, holder: Any) -> LedgerOptions:
        """
        Return what an operator, or a call, was told.

        :param holder: has the arguments by their names.
        :raises DiffioInputError: naming the argument that cannot work.
        """
        return cls(
            on_changed_request=read_choice(
                holder.on_changed_request, "on_changed_request", _ON_CHANGED_REQUEST
            ),
            revision=None if holder.revision is None else read_text(holder.revision, "revision"),
            missing_output=read_choice(holder.missing_output, "missing_output", _MISSING_OUTPUT),
            max_generations_per_recording=read_count(
                holder.max_generations_per_recording, "max_generations_per_recording"
            ),
        )


def ledger_path_of(hook: Any, ledger: Any) -> Any | None:
    """Return where the ledger is: as given, else as the connection says; None where there is none."""
    return hook.config.ledger_path if ledger is None else ledger


def open_ledger(hook: Any, ledger: Any, task: Any = None) -> Ledger:
    """
    Open a ledger by what a user wrote.

    :param hook: resolves the path.
    :param ledger: a path, a URL, or a location.
    :param task: the task instance (a ``TaskIdentity``), or None.
    :raises DiffioInputError: when it leads nowhere.
    :raises DiffioLedgerError: when it cannot be read or written.
    """
    path = ledger if isinstance(ledger, Location) else read_path(ledger, "ledger")
    return Ledger.open(hook.locate(path), task=task)


def try_ledger(hook: Any, path: str) -> str:
    """
    Try whether a directory can be a ledger, for the test of a connection.

    :param hook: resolves the path.
    :param path: the connection's ``ledger_path``.
    :return: a sentence for the user.
    :raises DiffioError: when it cannot.
    """
    location = hook.locate(path)
    if location.is_local:
        return (
            f"The ledger {location.uri} is a directory that all workers have to share; it was not tried here."
        )
    objects_at(location).check_exclusive()
    return f"The ledger {location.uri} can be written, and holds a claim."


def request_of(hook: Any, holder: Any, revision: str | None) -> LedgerRequest:
    """
    Return what tells a restoration of a recording from any other of it.

    :param hook: knows the API and the default model.
    :param holder: has ``model``, ``sampling``, ``generation_params``, ``project_params``, ``file_format``
        and ``content_type``.
    :param revision: the user's own.
    """
    return LedgerRequest(
        base_url=hook.config.settings.base_url,
        model=endpoints.check_model(holder.model or hook.config.model),
        sampling=holder.sampling,
        generation_params=holder.generation_params,
        project_params=holder.project_params,
        file_format=holder.file_format,
        content_type=holder.content_type,
        revision=revision,
    )


def source_of(hook: Any, holder: Any, destination: Location | None, *, request_options: Any = None) -> Source:
    """
    Return a recording, and how it is read and uploaded. What would fail only after the generation is paid for
    is found before the upload.

    :param hook: uploads it.
    :param holder: has ``source``, ``source_conn_id``, ``file_name``, ``content_type``, ``file_format`` and
        ``project_params``.
    :param destination: where the restored file will go; None where it is only returned.
    :param request_options: for each request.
    :raises DiffioInputError: when the recording is in no file and cannot be read.
    """
    options = {
        "file_name": holder.file_name,
        "content_type": holder.content_type,
        "file_format": holder.file_format,
        "params": holder.project_params,
        "request_options": request_options,
    }
    source = holder.source

    def check(upload: Any) -> Any:
        upload.check_download_type(holder.download_type)
        if destination is not None:
            destination.check_writable()
        hook.check_permissions(request_options=request_options)
        return upload

    if not isinstance(source, Location) and not is_path(source):
        upload = hook.prepare_upload(source, **options)
        return Source(
            uri=None,
            place=None,
            digest=upload.read_digest,
            upload=lambda: (check(upload).run(), upload.read_digest()),
        )
    location = hook.locate(source, holder.source_conn_id)

    def send() -> tuple[Project, str | None]:
        prepared = check(hook.prepare_upload(location, **options))
        return prepared.run(), prepared.content_digest

    def read() -> str:
        from airflow_provider_diffio.hooks.sources import content_digest

        return content_digest(location)

    return Source(uri=location.uri, place=lambda: Place.of(location), digest=read, upload=send)


def job_of(
    hook: Any,
    holder: Any,
    options: LedgerOptions,
    destination: Location | None,
    *,
    max_generations: int | None = None,
    request_options: Any = None,
) -> Job:
    """
    Return what is to become of a recording.

    :param hook: knows the API and the default model.
    :param holder: has the arguments of :func:`request_of`, ``download_type``, ``overwrite`` and
        ``idempotency_key``.
    :param options: what the user says of the ledger.
    :param destination: where the file goes; None where it is only returned.
    :param max_generations: what this task instance may start; None for no bound.
    :param request_options: for each request.
    :raises DiffioInputError: naming the argument that cannot work.
    """
    target = Target(()) if destination is None else Target.of(destination.uri, holder.download_type)
    return Job(
        request=request_of(hook, holder, options.revision),
        target=target,
        destination=destination,
        overwrite=read_choice(holder.overwrite, "overwrite", _OVERWRITE),
        on_changed_request=options.on_changed_request,
        missing_output=options.missing_output,
        bounds=StartBounds(
            per_recording=options.max_generations_per_recording,
            per_task=max_generations,
            own_key=holder.idempotency_key,
        ),
        request_options=request_options,
    )


def restore_with_ledger(
    restore: Any, wait: Mapping[str, float], destination: Location | None
) -> DownloadedFile | bytes:
    """
    Restore one recording in the thread of the caller.

    :param restore: a ``Restore``, the call of ``restore_audio``, whose arguments have been read.
    :param wait: how to wait.
    :param destination: where the file goes; None to return its content.
    """
    hook = restore.hook
    given: dict[str, Any] = {"request_options": restore.request_options}
    verified = {"verify": restore.verify, "source": restore.source, "source_conn_id": restore.source_conn_id}
    options = LedgerOptions.of(restore)
    job = job_of(hook, restore, options, destination, **given)
    source = source_of(hook, restore, destination, **given)
    with open_ledger(hook, ledger_path_of(hook, restore.ledger)) as ledger:
        restoration = LedgerRestoration(hook, ledger, source, job)
        begun = restoration.begin()
        if isinstance(begun, Kept):
            return begun.file
        ids = (begun.generation_id, begun.project_id)
        with _collected_later(*ids), recorded_failures(restoration, begun):
            hook.wait_for_generation(*ids, on_progress=restore.on_progress, **given, **wait)
            if destination is None:
                content: bytes = hook.download_bytes(*ids, restore.download_type, **given, **verified)
                ledger.finish(begun.record, begun.place, job.target, [], request=job.request)
                return content
            return restoration.collect(
                begun,
                downloader(
                    hook, ids, destination, restore.download_type, job.overwrite, {**given, **verified}
                ),
            )


def downloader(
    hook: Any,
    ids: tuple[str, str],
    destination: Location,
    download_type: str | None,
    overwrite: str,
    options: Mapping[str, Any],
) -> Callable[[Callable[[DownloadedFile], None] | None], DownloadedFile]:
    """Return what fetches a file, and tells of it before it gets its name."""

    def download(about_to_publish: Callable[[DownloadedFile], None] | None) -> DownloadedFile:
        file: DownloadedFile = hook.download(
            *ids,
            destination,
            download_type,
            overwrite="error" if overwrite == "error" else "replace",
            about_to_publish=about_to_publish,
            **options,
        )
        return file

    return download


@contextmanager
def recorded_failures(restoration: LedgerRestoration, begun: Any) -> Iterator[None]:
    """Record a generation that Diffio reports as failed."""
    try:
        yield
    except DiffioGenerationFailedError as error:
        restoration.failed(begun, error)
        raise


@contextmanager
def _collected_later(generation_id: str, project_id: str) -> Iterator[None]:
    """Say of what ends a call early that the ledger knows the generation."""
    again = "Calling restore_audio again with this ledger goes on with it, and starts no other one."
    try:
        with after_start(generation_id, project_id, f"The generation is billed once. {again}"):
            yield
    except DiffioGenerationError as error:
        if not isinstance(error, DiffioGenerationFailedError):
            error.advice = f"It goes on at Diffio and is billed once. {again}"
        raise
