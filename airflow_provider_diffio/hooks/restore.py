"""One recording all the way: uploaded, restored, waited for, and fetched, in the thread of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.arguments import read_mapping, read_seconds, read_text
from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
)
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.api.polling import check_intervals
from airflow_provider_diffio.hooks.verification import Verify, check_verify

if TYPE_CHECKING:
    import os
    from datetime import timedelta
    from typing import IO, TypeAlias

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_diffio.api.client import Options
    from airflow_provider_diffio.api.models import DownloadedFile, Generation, GenerationProgress
    from airflow_provider_diffio.api.uploads import Source
    from airflow_provider_diffio.hooks.uploads import ProjectUpload
    from airflow_provider_diffio.storage import Location

    AnyPath: TypeAlias = str | os.PathLike[str] | ObjectStoragePath
    AnySource: TypeAlias = AnyPath | bytes | IO[bytes] | Source | Location


class RestoreOptions(TypedDict, total=False):
    """What :meth:`DiffioHook.restore_audio` takes by name, for type checkers."""

    model: str | None
    sampling: Mapping[str, Any] | None
    generation_params: Mapping[str, Any] | None
    project_params: Mapping[str, Any] | None
    idempotency_key: str | None
    download_type: str | None
    file_name: str | None
    content_type: str | None
    file_format: str | None
    source_conn_id: str | None
    output_conn_id: str | None
    overwrite: Literal["replace", "skip", "error"]
    ledger: AnyPath | Location | None
    on_changed_request: Literal["fail", "keep", "start"]
    revision: str | None
    missing_output: Literal["keep", "download"]
    max_generations_per_recording: int
    poll_interval: float | timedelta
    max_poll_interval: float | timedelta
    timeout: float | timedelta
    on_progress: Callable[[GenerationProgress], None] | None
    verify: Verify | None
    request_options: Options


_AGAIN = "Calling restore_audio again starts another one, which is billed too."
_COLLECT = f"Collect it with these ids by wait_for_generation and download. {_AGAIN}"


@dataclass(frozen=True, kw_only=True)
class Restore:
    """
    One call of :meth:`DiffioHook.restore_audio`, with its arguments.

    :ivar hook: the hook; its class would import this module.
    """

    hook: Any
    source: AnySource
    path: AnyPath | Location | None
    model: str | None
    sampling: Mapping[str, Any] | None
    generation_params: Mapping[str, Any] | None
    project_params: Mapping[str, Any] | None
    idempotency_key: str | None
    download_type: str | None
    file_name: str | None
    content_type: str | None
    file_format: str | None
    source_conn_id: str | None
    output_conn_id: str | None
    overwrite: Literal["replace", "skip", "error"]
    ledger: AnyPath | Location | None
    on_changed_request: Literal["fail", "keep", "start"]
    revision: str | None
    missing_output: Literal["keep", "download"]
    max_generations_per_recording: int
    poll_interval: float | timedelta
    max_poll_interval: float | timedelta
    timeout: float | timedelta
    on_progress: Callable[[GenerationProgress], None] | None
    verify: Verify | None
    request_options: Options

    def run(self) -> DownloadedFile | bytes:
        """
        Do it.

        :return: the file; its content where there is no path.
        :raises DiffioInputError: before anything is sent.
        :raises DiffioError: when a step did not work.
        """
        # Whatever can be known without spending is found before the first byte.
        check_verify(self.verify)
        self._check_start()
        wait = self._read_wait()
        if self.ledger is not None or self.hook.config.ledger_path is not None:
            from airflow_provider_diffio.hooks.ledger import restore_with_ledger

            return restore_with_ledger(self, wait, self._read_target("replace"))
        target = self._read_target(self.overwrite)
        upload = self._prepare_upload()
        upload.check_download_type(self.download_type)
        if target is not None:
            target.check_writable()
        self.hook.check_permissions(request_options=self.request_options)
        project = upload.run()
        generation = self._start(project.api_project_id)
        with _collectable(generation):
            self.hook.wait_for_generation(
                generation.generation_id,
                generation.api_project_id,
                on_progress=self.on_progress,
                request_options=self.request_options,
                **wait,
            )
            return self._fetch(generation, target, upload.source)

    def _check_start(self) -> None:
        for name in ("model", "idempotency_key", "download_type", "file_name", "content_type", "file_format"):
            if (text := getattr(self, name)) is not None:
                read_text(text, name)
        for name in ("sampling", "generation_params", "project_params"):
            if (mapping := getattr(self, name)) is not None:
                read_mapping(mapping, name)
        if self.on_progress is not None and not callable(self.on_progress):
            raise DiffioInputError(
                f"on_progress must be something to call, not {type(self.on_progress).__name__}."
            )
        endpoints.check_generation(
            model=self.model or self.hook.config.model,
            sampling=self.sampling,
            params=self.generation_params,
            idempotency_key=self.idempotency_key,
        )

    def _read_wait(self) -> dict[str, float]:
        wait = {
            name: read_seconds(getattr(self, name), name)
            for name in ("poll_interval", "max_poll_interval", "timeout")
        }
        check_intervals(wait["poll_interval"], wait["max_poll_interval"])
        return wait

    def _read_target(self, overwrite: str) -> Location | None:
        target: Location | None = None
        if self.path is not None:
            target = self.hook.check_download(
                self.path, self.download_type, self.output_conn_id, overwrite, self.verify
            )
        elif self.download_type is not None:
            endpoints.check_download_type(self.download_type)
        return target

    def _prepare_upload(self) -> ProjectUpload:
        upload: ProjectUpload = self.hook.prepare_upload(
            self.source,
            file_name=self.file_name,
            content_type=self.content_type,
            file_format=self.file_format,
            params=self.project_params,
            source_conn_id=self.source_conn_id,
            request_options=self.request_options,
        )
        return upload

    def _start(self, project_id: str) -> Generation:
        try:
            generation: Generation = self.hook.create_generation(
                project_id,
                model=self.model,
                sampling=self.sampling,
                params=self.generation_params,
                idempotency_key=self.idempotency_key or f"restore-audio-{project_id}",
                request_options=self.request_options,
            )
        except DiffioError as error:
            if error.may_be_billed:
                # The key is of no use to another call, which makes a project of its own.
                error.money = f"A generation may exist and be billed: see list_project_generations. {_AGAIN}"
            raise
        return generation

    def _fetch(
        self, generation: Generation, target: Location | None, source: Source
    ) -> DownloadedFile | bytes:
        ids = (generation.generation_id, generation.api_project_id)
        options = {"request_options": self.request_options, "verify": self.verify, "source": source}
        result: DownloadedFile | bytes
        if target is None:
            result = self.hook.download_bytes(*ids, self.download_type, **options)
        else:
            result = self.hook.download(*ids, target, self.download_type, overwrite=self.overwrite, **options)
        return result


@contextmanager
def _collectable(generation: Generation) -> Iterator[None]:
    """Say of everything that ends the call early how to get what was paid for."""
    generation_id, project_id = generation.generation_id, generation.api_project_id
    try:
        with after_start(generation_id, project_id, f"The generation is billed once. {_COLLECT}"):
            yield
    except DiffioGenerationTimeoutError as error:
        error.advice = f"It goes on at Diffio, which offers no cancel, and is billed once. {_COLLECT}"
        raise
    except DiffioError:
        raise
    except BaseException as error:
        # An interrupt, Airflow's timeout of the task, or what on_progress has raised.
        error.add_note(
            f"Generation {generation_id} of project {project_id} goes on at Diffio and is billed once."
            f" {_COLLECT}"
        )
        raise
