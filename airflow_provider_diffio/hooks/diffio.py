"""DiffioHook: an Airflow connection becomes a client, and every endpoint a method."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_diffio import storage
from airflow_provider_diffio.api import endpoints, models, webhooks
from airflow_provider_diffio.api.arguments import is_path, read_choice, read_path, read_seconds, read_text
from airflow_provider_diffio.api.errors import (
    DiffioConfigurationError,
    DiffioError,
    DiffioInputError,
    DiffioNotFoundError,
    DiffioPermissionError,
)
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.api.polling import (
    DEFAULT_MAX_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_READY_TIMEOUT,
    DEFAULT_WAIT_TIMEOUT,
    Failed,
    WaitDriver,
    WaitSpec,
    poll_timeout,
)
from airflow_provider_diffio.api.progress_log import ProgressLog
from airflow_provider_diffio.hooks import connection_form, lineage, metrics
from airflow_provider_diffio.hooks.connection import DiffioConnection
from airflow_provider_diffio.hooks.verification import Verification, Verify, check_verify
from airflow_provider_diffio.storage import Location

if TYPE_CHECKING:
    from typing import Unpack

    # What these import takes a tenth of a second, which no DAG file should pay for.
    from airflow_provider_diffio.api.client import DiffioClient
    from airflow_provider_diffio.api.settings import RequestOptions
    from airflow_provider_diffio.api.uploads import Source
    from airflow_provider_diffio.hooks.restore import AnyPath, AnySource, RestoreOptions
    from airflow_provider_diffio.hooks.uploads import ProjectUpload

    Options = RequestOptions | Mapping[str, Any] | None

_TEST_TIMEOUT = 8.0


class DiffioHook(BaseHook):
    """
    Diffio through an Airflow connection.

    Every method takes ``request_options``, a mapping for that one call with any of ``timeout`` (seconds for
    connecting and for each read), ``max_attempts``, ``headers`` and ``api_key``. Results are the dataclasses
    of :mod:`airflow_provider_diffio.api.models`; errors are those of
    :mod:`airflow_provider_diffio.api.errors`. Nothing is read or sent before the first method is called.

    :param diffio_conn_id: id of the Airflow connection of type ``diffio``.
    :param request_options: such a mapping for every call; the connection's own settings by default.
    """

    conn_name_attr = "diffio_conn_id"
    default_conn_name = "diffio_default"
    conn_type = "diffio"
    hook_name = "Diffio"
    #: Whether lineage tools are told of each call. What restores thousands tells them of a few by itself.
    reports_lineage = True
    #: At which level each call's success is logged. What restores thousands logs how far it is instead.
    routine_level = logging.INFO

    def __init__(
        self, diffio_conn_id: str = default_conn_name, *, request_options: Options = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.diffio_conn_id = diffio_conn_id
        self._request_options = request_options
        #: API keys that Diffio has not refused a permission, so that each is asked for once.
        self._permitted: set[str] = set()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields for Airflow before 3.2, which asks the hook and not the provider info."""

        return connection_form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form's standard fields look, for Airflow before 3.2."""

        return connection_form.ui_field_behaviour()

    @cached_property
    def config(self) -> DiffioConnection:
        """The connection, read and checked; its secrets are masked in logs from here on."""

        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        try:
            connection = self.get_connection(read_text(self.diffio_conn_id, "diffio_conn_id"))
        except AirflowNotFoundException as error:
            raise DiffioConfigurationError(
                f"There is no connection {self.diffio_conn_id!r}.",
                advice="Create it, or correct the id where it is written (diffio_conn_id).",
            ) from error
        config = DiffioConnection.read(connection)
        config.mask_secrets()
        return config

    def get_conn(self) -> DiffioClient:
        """
        Return the client, which the hook makes once and keeps.

        :raises DiffioConfigurationError: when the connection cannot work.
        """
        return self._client

    @cached_property
    def _client(self) -> DiffioClient:

        from airflow_provider_diffio.api.client import DiffioClient

        settings = self.config.settings.with_options(self._request_options)
        for secret in (settings.api_key, *settings.headers.values()):
            mask_secret(secret)
        return DiffioClient(settings, on_secret=mask_secret)

    def close(self) -> None:
        """Close the client's connections; the next call opens new ones."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    def test_connection(self) -> tuple[bool, str]:
        """
        Check address, key and permissions by cheap calls that cost nothing.

        Asks for the account settings; a key that may not see those is tried on ``list_projects``. Then does
        what :meth:`check_permissions` does. Where the connection has a ``ledger_path`` in a store, a name is
        created there twice, and removed.

        :return: whether it works, and a sentence for the user. A key that lacks a permission which a
            restoration needs does not.
        """

        try:
            timeout = min(_TEST_TIMEOUT, self.config.settings.timeout)
            options = {"timeout": timeout, "max_attempts": 1}
            host = self.config.settings.host
            try:
                account = self.get_conn().call(endpoints.get_account_settings(), options)
            except DiffioPermissionError:
                self.get_conn().call(endpoints.list_projects(), options)
                self.check_permissions(request_options=options)
                said = "The key may not read account settings."
                return True, f"Connected to {host}. {said}{self._try_ledger()}"
            self.check_permissions(request_options=options)
            billing = f"; billing is {account.billing_status}" if account.billing_status else ""
            key = f" as key {account.api_key_id}" if account.api_key_id else ""
            return True, f"Connected to {host}{key}{billing}.{self._try_ledger()}"
        except DiffioNotFoundError as error:
            return False, f"{error.message} Is the connection's host the Diffio API?"
        except DiffioError as error:
            return False, str(error)

    def check_permissions(self, *, request_options: Options = None) -> None:
        """
        Refuse an API key that Diffio says may not poll a generation or fetch its files. It costs nothing.

        Asks ``get_generation_download`` and ``get_generation_progress`` for a generation that does not exist,
        once in the life of this hook. Only a response that names a missing permission counts; any other
        refusal is warned of, and trouble is left to the calls that follow.

        :param request_options: for each call.
        :raises DiffioPermissionError: when a response names a missing permission.
        """
        from airflow_provider_diffio.hooks.permissions import check_permissions

        client = self.get_conn()
        api_key = client.settings.with_options(request_options).api_key
        if api_key not in self._permitted:
            check_permissions(client, self.log, request_options)
            self._permitted.add(api_key)

    def _try_ledger(self) -> str:
        if self.config.ledger_path is None:
            return ""
        from airflow_provider_diffio.hooks.ledger import try_ledger

        return f" {try_ledger(self, self.config.ledger_path)}"

    # --- projects ------------------------------------------------------------------------------------

    def create_project(
        self,
        source: AnySource,
        *,
        file_name: str | None = None,
        content_type: str | None = None,
        file_format: str | None = None,
        params: Mapping[str, Any] | None = None,
        source_conn_id: str | None = None,
        request_options: Options = None,
    ) -> models.Project:
        """
        Create a project, upload a recording into it, and confirm the upload.

        Calls ``create_project``, then the upload protocol that its response asks for, and after an edge
        upload ``complete_project_upload``. Creating a project is not idempotent: when this fails half-way, an
        unfinished project stays behind at Diffio, which costs nothing and cannot be deleted. An error
        carries its ``project_id``. When the upload's permission is refused or runs out, it is tried once
        more, in a new project.

        :param source: a local path, a URI (``s3://conn_id@bucket/key``), a path relative to the root that
            ``source_conn_id`` or the Diffio connection configures, or a seekable binary stream.
        :param file_name: the name Diffio is told; the source's own when not given.
        :param content_type: media type; guessed from the name when not given.
        :param file_format: short label of the format, such as ``wav``; left out when not given.
        :param params: stored with the project; left out when not given.
        :param source_conn_id: connection that relative paths and stores are reached through.
        :param request_options: for each of the calls.
        :return: the project, with ``size_bytes`` and ``status``.
        :raises DiffioInputError: before anything is sent, when the source is missing, empty or too large.
        :raises DiffioError: when a step did not work.
        """
        return self.prepare_upload(
            source,
            file_name=file_name,
            content_type=content_type,
            file_format=file_format,
            params=params,
            source_conn_id=source_conn_id,
            request_options=request_options,
        ).run()

    def prepare_upload(
        self,
        source: AnySource,
        *,
        file_name: str | None = None,
        content_type: str | None = None,
        file_format: str | None = None,
        params: Mapping[str, Any] | None = None,
        source_conn_id: str | None = None,
        request_options: Options = None,
    ) -> ProjectUpload:
        """
        Check the arguments of :meth:`create_project` without asking Diffio.

        :param source: as for :meth:`create_project`.
        :param file_name: as for :meth:`create_project`.
        :param content_type: as for :meth:`create_project`.
        :param file_format: as for :meth:`create_project`.
        :param params: as for :meth:`create_project`.
        :param source_conn_id: as for :meth:`create_project`.
        :param request_options: as for :meth:`create_project`.
        :return: what uploads the recording, by its ``run()``.
        :raises DiffioInputError: when the source is missing, empty or too large, or an argument cannot work.
        """
        from airflow_provider_diffio.hooks.uploads import ProjectUpload

        return ProjectUpload(
            self,
            self._source(source, file_name, source_conn_id),
            content_type=content_type,
            file_format=file_format,
            params=params,
            options=request_options,
        )

    def complete_project_upload(
        self, project_id: str, *, request_options: Options = None
    ) -> models.UploadConfirmation:
        """
        Confirm that a project's file arrived (``complete_project_upload``). Idempotent.

        :param project_id: the project.
        :param request_options: for the call.
        :return: ``api_project_id``, ``status`` and the ``size_bytes`` that Diffio has stored.
        :raises DiffioUploadMissingError: when the file has not arrived.
        """
        return self.get_conn().call(endpoints.complete_project_upload(project_id), request_options)

    def list_projects(self, *, request_options: Options = None) -> tuple[models.ProjectSummary, ...]:
        """
        List the projects of the API key (``list_projects``).

        :param request_options: for the call.
        :return: all of them, since Diffio has no pagination.
        """
        return self.get_conn().call(endpoints.list_projects(), request_options)

    def list_project_generations(
        self, project_id: str, *, request_options: Options = None
    ) -> tuple[models.GenerationSummary, ...]:
        """
        List the generations of a project (``list_project_generations``).

        :param project_id: the project.
        :param request_options: for the call.
        :return: all of them, with ``generation_id``, ``status`` and ``model``.
        """
        return self.get_conn().call(endpoints.list_project_generations(project_id), request_options)

    # --- generations ---------------------------------------------------------------------------------

    def create_generation(
        self,
        project_id: str,
        *,
        model: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        request_options: Options = None,
    ) -> models.Generation:
        """
        Start a restoration of a project's recording (``{model}-generation``).

        :param project_id: the project.
        :param model: model id; the connection's when not given.
        :param sampling: passed on to the model.
        :param params: passed on to the model.
        :param idempotency_key: 1 to 255 characters. Under the same key and project Diffio returns the
            generation that exists instead of starting another. Without one the request is sent once: when its
            response is lost, check :meth:`list_project_generations` before you start another.
        :param request_options: for the call.
        :return: the generation; ``idempotent_replay`` tells that none was started.
        :raises DiffioInputError: before anything is sent.
        :raises DiffioError: when it did not work; ``may_be_billed`` tells whether it may exist all the same.
        """

        call = endpoints.create_generation(
            project_id,
            model=model or self.config.model,
            sampling=sampling,
            params=params,
            idempotency_key=idempotency_key,
        )
        generation: models.Generation = self.get_conn().call(call, request_options)
        if not generation.idempotent_replay:
            metrics.count(metrics.GENERATIONS_STARTED, model=generation.model, conn_id=self.diffio_conn_id)
        if generation.idempotent_replay:
            said = "Generation %s of project %s exists already under this idempotency key; none was started."
            self.log.log(self.routine_level, said, generation.generation_id, project_id)
        else:
            said = "Started generation %s of project %s with %s."
            self.log.log(self.routine_level, said, generation.generation_id, project_id, generation.model)
        lineage.report_generation(self, project_id, generation.generation_id)
        return generation

    def get_generation_progress(
        self,
        generation_id: str,
        project_id: str | None = None,
        *,
        timeout: float | None = None,
        request_options: Options = None,
    ) -> models.GenerationProgress:
        """
        Ask how far a generation is (``get_generation_progress``).

        :param generation_id: the generation.
        :param project_id: its project, which speeds up Diffio's lookup.
        :param timeout: seconds after which there must be a response, over all tries of the call, such as the
            time until a deadline; by default what the connection's ``timeout`` and ``max_attempts`` make.
        :param request_options: for the call.
        :return: the progress; its ``status`` alone tells whether the generation is over.
        :raises DiffioNotFoundError: when the key has no such generation.
        """
        metrics.count(metrics.POLLS, by="task", conn_id=self.diffio_conn_id)
        call = endpoints.get_generation_progress(generation_id, project_id)
        return self.get_conn().call(call, request_options, timeout=timeout)

    def wait_for_generation(
        self,
        generation_id: str,
        project_id: str | None = None,
        *,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float | timedelta = DEFAULT_MAX_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_WAIT_TIMEOUT,
        on_progress: Callable[[models.GenerationProgress], None] | None = None,
        request_options: Options = None,
    ) -> models.GenerationProgress:
        """
        Wait until a generation is complete, holding the thread (``get_generation_progress``).

        Outages of the API are waited out until the timeout, and the log tells what changed. In a DAG, the
        deferrable sensor or operator waits without holding a worker.

        :param generation_id: the generation.
        :param project_id: its project.
        :param poll_interval: seconds between polls at least; 5 by default.
        :param max_poll_interval: seconds between polls at most; 180 by default.
        :param timeout: seconds to wait; 6 hours by default.
        :param on_progress: told what each poll brings.
        :param request_options: for each call.
        :return: the last progress, with ``has_video`` and ``transcription``.
        :raises DiffioGenerationFailedError: when Diffio reports it as failed.
        :raises DiffioGenerationTimeoutError: when it is not over in time; it goes on and is billed once.
        """

        with after_start(generation_id, project_id):
            now, timeout = time.time(), read_seconds(timeout, "timeout")
            poll_interval = read_seconds(poll_interval, "poll_interval")
            max_poll_interval = read_seconds(max_poll_interval, "max_poll_interval")
            deadline = now + timeout
            driver = WaitDriver(
                WaitSpec(generation_id, project_id, now, deadline, poll_interval, max_poll_interval),
                lambda: self.get_generation_progress(
                    generation_id,
                    project_id,
                    timeout=poll_timeout(deadline, time.time()),
                    request_options=request_options,
                ),
                observer=_ToldProgress(self.log, on_progress),
                sleep=lambda seconds: self.get_conn().sleep(seconds),
            )
            metrics.count(metrics.WAITS, conn_id=self.diffio_conn_id)
            decision = driver.run()
            error = decision.error if isinstance(decision, Failed) else None
            metrics.wait_over(error, time.time() - now, conn_id=self.diffio_conn_id)
            if isinstance(decision, Failed):
                raise decision.error
            return decision.progress

    def get_generation_download(
        self,
        generation_id: str,
        project_id: str,
        download_type: str | None = None,
        *,
        request_options: Options = None,
    ) -> models.GenerationDownload:
        """
        Ask for a download link (``get_generation_download``), valid for some hours and a secret of its own.

        The link is masked in logs. Do not return it from a task: XComs are not masked. :meth:`download` takes
        care of all of this.

        :param generation_id: a complete generation.
        :param project_id: its project.
        :param download_type: ``audio`` (or ``mp3``, the same), ``video`` or ``transcript``; when not given,
            the video of a video project, otherwise the audio.
        :param request_options: for the call.
        :return: the link, with ``file_name``, ``mime_type`` and ``download_type``.
        :raises DiffioNotReadyError: when it is not there yet.
        """

        call = endpoints.get_generation_download(generation_id, project_id, download_type)
        link = self.get_conn().call(call, request_options)
        # Here alone, where the user gets the link itself: Airflow's masker costs more with each secret.
        for secret in models.secrets_of(link):
            mask_secret(secret)
        return link

    def download(
        self,
        generation_id: str,
        project_id: str,
        path: AnyPath | Location,
        download_type: str | None = None,
        *,
        output_conn_id: str | None = None,
        overwrite: Literal["replace", "error"] = "replace",
        ready_timeout: float | timedelta = DEFAULT_READY_TIMEOUT,
        about_to_publish: Callable[[models.DownloadedFile], None] | None = None,
        verify: Verify | None = None,
        source: AnySource | None = None,
        source_conn_id: str | None = None,
        request_options: Options = None,
    ) -> models.DownloadedFile:
        """
        Write a restored file to a path, whole or not at all.

        Calls ``get_generation_download``, waiting for a file that is still being put in place, and fetches
        the link without any credential of ours. A broken connection is resumed, a refused link renewed, and
        the length checked before the file appears.

        :param generation_id: a complete generation.
        :param project_id: its project.
        :param path: where to: absolute, a URI, or relative to the root that ``output_conn_id`` or the Diffio
            connection configures. A path that ends in ``/`` gets the file's own name.
        :param download_type: ``audio`` (or ``mp3``), ``video`` or ``transcript``; when not given, the video
            of a video project, otherwise the audio.
        :param output_conn_id: connection that relative paths and stores are reached through.
        :param overwrite: ``replace`` what is there, or ``error`` if there is something.
        :param ready_timeout: seconds to wait for a file that is not there yet after completion.
        :param about_to_publish: told what has arrived, right before it appears at the path.
        :param verify: ``audio`` to decode the file to its end before it appears (extra ``audio``); silence is
            a WARNING, and a transcript is not decoded. None, the default, does not.
        :param source: the recording it was made from, for ``verify``: the file must be as long, within 0.5 s
            or 2 %, whichever is larger. Not compared when not given, or when it cannot be read.
        :param source_conn_id: connection that the source is reached through.
        :param request_options: for each request.
        :return: the file: ``path``, ``size_bytes``, ``sha256``, ``mime_type``, ``file_name``, ...
        :raises DiffioInputError: before anything is asked, when the path or an argument cannot work.
        :raises DiffioVerificationError: when it fails ``verify``; it is kept beside the path, with
            ``.failed-verification`` after its name, and never published.
        :raises DiffioError: when there is no such file, or it did not arrive whole; nothing is left behind.
        """

        from airflow_provider_diffio.hooks.downloads import FileDownload

        with after_start(generation_id, project_id):
            ready_timeout = read_seconds(ready_timeout, "ready_timeout")
            target = self.check_download(path, download_type, output_conn_id, overwrite, verify)
        file = FileDownload(self, generation_id, project_id, download_type, ready_timeout, request_options)
        with self._verification(verify, source, source_conn_id) as verification:
            return file.to(
                target,
                overwrite=overwrite == "replace",
                about_to_publish=about_to_publish,
                verification=verification,
            )

    def download_bytes(
        self,
        generation_id: str,
        project_id: str,
        download_type: str | None = None,
        *,
        ready_timeout: float | timedelta = DEFAULT_READY_TIMEOUT,
        verify: Verify | None = None,
        source: AnySource | None = None,
        source_conn_id: str | None = None,
        request_options: Options = None,
    ) -> bytes:
        """
        Return a restored file's content, all of it or none. It is held in memory; :meth:`download` holds a
        few MiB of a file of any size.

        :param generation_id: a complete generation.
        :param project_id: its project.
        :param download_type: as for :meth:`download`.
        :param ready_timeout: seconds to wait for a file that is not there yet after completion; 120 by
            default.
        :param verify: as for :meth:`download`; what fails is not returned.
        :param source: as for :meth:`download`.
        :param source_conn_id: as for :meth:`download`.
        :param request_options: for each request.
        :return: the content.
        :raises DiffioInputError: before anything is asked, when an argument cannot work.
        :raises DiffioVerificationError: when it fails ``verify``.
        :raises DiffioError: when there is no such file, or it did not arrive whole.
        """
        from airflow_provider_diffio.hooks.downloads import FileDownload

        with after_start(generation_id, project_id):
            ready_timeout = read_seconds(ready_timeout, "ready_timeout")
            check_verify(verify)
        file = FileDownload(self, generation_id, project_id, download_type, ready_timeout, request_options)
        with self._verification(verify, source, source_conn_id) as verification:
            return file.content(verification)

    def check_download(
        self,
        path: AnyPath | Location,
        download_type: str | None = None,
        output_conn_id: str | None = None,
        overwrite: Literal["replace", "error"] = "replace",
        verify: Verify | None = None,
    ) -> Location:
        """
        Check the arguments of a later :meth:`download` without asking Diffio, before a generation is started.

        :param path: as for :meth:`download`.
        :param download_type: as for :meth:`download`.
        :param output_conn_id: as for :meth:`download`.
        :param overwrite: as for :meth:`download`.
        :param verify: as for :meth:`download`.
        :return: where the file will go.
        :raises DiffioInputError: when an argument cannot work.
        """

        check_verify(verify)
        read_choice(overwrite, "overwrite", ("replace", "error"))
        if download_type is not None:
            endpoints.check_download_type(download_type)
        target = self.locate(path, output_conn_id)
        if overwrite == "error" and target.exists():
            raise DiffioInputError(f"{target.uri} exists already, and overwrite is 'error'.")
        return target

    @overload
    def restore_audio(
        self, source: AnySource, path: AnyPath | Location, **options: Unpack[RestoreOptions]
    ) -> models.DownloadedFile: ...

    @overload
    def restore_audio(
        self, source: AnySource, path: None = None, **options: Unpack[RestoreOptions]
    ) -> bytes: ...

    def restore_audio(
        self,
        source: AnySource,
        path: AnyPath | Location | None = None,
        *,
        model: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        generation_params: Mapping[str, Any] | None = None,
        project_params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        download_type: str | None = None,
        file_name: str | None = None,
        content_type: str | None = None,
        file_format: str | None = None,
        source_conn_id: str | None = None,
        output_conn_id: str | None = None,
        overwrite: Literal["replace", "skip", "error"] = "replace",
        ledger: AnyPath | Location | None = None,
        on_changed_request: Literal["fail", "keep", "start"] = "fail",
        revision: str | None = None,
        missing_output: Literal["keep", "download"] = "keep",
        max_generations_per_recording: int = 2,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        max_poll_interval: float | timedelta = DEFAULT_MAX_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_WAIT_TIMEOUT,
        on_progress: Callable[[models.GenerationProgress], None] | None = None,
        verify: Verify | None = None,
        request_options: Options = None,
    ) -> models.DownloadedFile | bytes:
        """
        Upload a recording, start a generation, wait for it holding the thread, and write the result.

        With a ledger, a recording is paid for once, however often this is called: what was restored or begun
        before is found there. Without one, each call makes a new project and starts a new generation, which
        is billed. The ids are logged as soon as they are known: what a killed process paid for is
        collected with them by :meth:`wait_for_generation` and :meth:`download`.

        :param source: the recording: a path, a URI, bytes or a seekable binary stream.
        :param path: where the result goes, see :meth:`download`; without one, its content is returned.
        :param model: model id; the connection's when not given.
        :param sampling: passed on to the model.
        :param generation_params: passed on to the model, as ``params``.
        :param project_params: stored with the project, as ``params``.
        :param idempotency_key: your own key, 1 to 255 characters; made from the project when not given.
        :param download_type: ``audio`` (or ``mp3``), ``video`` or ``transcript``; when not given, the video
            of a video project, otherwise the audio.
        :param file_name: the name Diffio is told; needed for a recording in memory.
        :param content_type: media type; guessed from the name when not given.
        :param file_format: short label of the format, such as ``wav``.
        :param source_conn_id: connection that the source is reached through.
        :param output_conn_id: connection that the path is reached through.
        :param overwrite: ``replace`` what is there (the default), or ``error`` if there is something. With a
            ledger it is about files without a record, and ``skip`` adopts them: nothing is started.
        :param ledger: directory or URL of a ledger; the connection's ``ledger_path`` when not given.
        :param on_changed_request: for a recording that was restored under another request: ``fail`` before
            anything is sent (the default), ``keep`` that restoration, or ``start`` another one.
        :param revision: another text starts everything anew, on purpose. None by default.
        :param missing_output: for a recorded file that is there no more: ``keep`` the record (the default),
            or ``download`` the file again, which starts nothing.
        :param max_generations_per_recording: how many generations may be started for the recording, over all
            calls and runs; 2 by default: the first one, and one more after Diffio has reported a failure.
        :param poll_interval: seconds between polls at least; 5 by default.
        :param max_poll_interval: seconds between polls at most; 180 by default.
        :param timeout: seconds to wait for the generation; 6 hours by default.
        :param on_progress: told what each poll brings; what it raises ends the call, not the generation.
        :param request_options: for each call.
        :param verify: ``audio`` to decode the file to its end, and to compare its length with the source's;
            see :meth:`download`. None, the default, does not.
        :return: the file, or its content where no path is given.
        :raises DiffioInputError: before anything is sent.
        :raises DiffioError: when a step did not work; ``may_be_billed`` tells whether it may cost money.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        from airflow_provider_diffio.hooks.restore import Restore

        return Restore(hook=self, **arguments).run()

    # --- account, keys, usage ------------------------------------------------------------------------

    def get_account_settings(self, *, request_options: Options = None) -> models.AccountSettings:
        """
        Read the account's settings (``account/settings/get``, scope ``account:read``).

        :param request_options: for the call.
        :return: the settings.
        """
        return self.get_conn().call(endpoints.get_account_settings(), request_options)

    def update_account_settings(
        self, billing_policy: Mapping[str, Any], *, request_options: Options = None
    ) -> models.AccountSettings:
        """
        Set the account's billing policy (``account/settings/update``, admin keys).

        :param billing_policy: a mapping with ``type`` and, if wanted, ``reason``, as Diffio documents it.
        :param request_options: for the call.
        :return: the settings after it.
        """
        return self.get_conn().call(endpoints.update_account_settings(billing_policy), request_options)

    def create_api_key(
        self,
        label: str,
        scopes: Collection[str],
        resource_bounds: Mapping[str, Any] | None = None,
        *,
        request_options: Options = None,
    ) -> models.ApiKey:
        """
        Create a scoped API key (``api_keys/create``, admin keys). Sent once, never tried again.

        :param label: 1 to 80 characters.
        :param scopes: such as ``projects:read``.
        :param resource_bounds: such as ``{"projectIds": [...]}``.
        :param request_options: for the call.
        :return: the key; ``key`` holds the plaintext, this once, and is masked in logs. Do not return it from
            a task: XComs are not masked.
        """
        return self.get_conn().call(endpoints.create_api_key(label, scopes, resource_bounds), request_options)

    def list_api_keys(self, *, request_options: Options = None) -> tuple[models.ApiKey, ...]:
        """
        List the account's keys (``api_keys/list``).

        :param request_options: for the call.
        :return: the keys; ``key`` is None in each.
        """
        return self.get_conn().call(endpoints.list_api_keys(), request_options)

    def rotate_api_key(self, key_id: str, *, request_options: Options = None) -> models.ApiKey:
        """
        Replace a key's plaintext (``api_keys/rotate``, admin keys). Sent once, never tried again.

        :param key_id: id of the key.
        :param request_options: for the call.
        :return: the key; ``key`` holds the new plaintext, this once, and is masked in logs.
        """
        return self.get_conn().call(endpoints.rotate_api_key(key_id), request_options)

    def revoke_api_key(self, key_id: str, *, request_options: Options = None) -> models.ApiKey:
        """
        Revoke a key for good (``api_keys/revoke``, admin keys).

        :param key_id: id of the key.
        :param request_options: for the call.
        :return: the key, revoked.
        """
        return self.get_conn().call(endpoints.revoke_api_key(key_id), request_options)

    def get_usage_summary(
        self, api_key_id: str | None = None, *, request_options: Options = None
    ) -> models.UsageSummary:
        """
        Read what a key used (``usage/summary``, scope ``usage:read``).

        :param api_key_id: the key; the calling one when not given.
        :param request_options: for the call.
        :return: the usage by billing period, the newest first.
        """
        usage = self.get_conn().call(endpoints.get_usage_summary(api_key_id), request_options)
        if usage.periods:
            metrics.billed_seconds(usage.periods[0].model_seconds, conn_id=self.diffio_conn_id)
        return usage

    # --- webhooks ------------------------------------------------------------------------------------

    def configure_webhook(
        self,
        url: str,
        event_types: Collection[str],
        *,
        mode: str = "live",
        api_key_id: str | None = None,
        request_options: Options = None,
    ) -> models.WebhookConfiguration:
        """
        Tell Diffio where to deliver events (``webhooks/configure``, admin keys).

        :param url: an https URL.
        :param event_types: of ``generation.queued``, ``.processing``, ``.failed`` and ``.completed``.
        :param mode: ``live`` or ``test``.
        :param api_key_id: the key whose generations are meant; the calling one when not given.
        :param request_options: for the call.
        :return: the configuration. The signing secret is not in it; Diffio's dashboard shows it.
        """

        call = endpoints.configure_webhook(url, event_types, mode=mode, api_key_id=api_key_id)
        return self.get_conn().call(call, request_options)

    def send_webhook_test_event(
        self,
        event_type: str = "generation.completed",
        *,
        mode: str = "live",
        api_key_id: str | None = None,
        sample_payload: Mapping[str, Any] | None = None,
        request_options: Options = None,
    ) -> models.WebhookTestEvent:
        """
        Have Diffio send a test event to the key's endpoints (``webhooks/send_test_event``).

        :param event_type: what the event says.
        :param mode: ``live`` or ``test``.
        :param api_key_id: the key whose endpoints are meant; the calling one when not given.
        :param sample_payload: fields to put into the event.
        :param request_options: for the call.
        :return: the ids of what is sent.
        """

        call = endpoints.send_webhook_test_event(
            event_type, mode=mode, api_key_id=api_key_id, sample_payload=sample_payload
        )
        return self.get_conn().call(call, request_options)

    def verify_webhook(self, payload: bytes | str, headers: Mapping[str, str]) -> models.WebhookEvent:
        """
        Check a delivery against the connection's ``webhook_secret`` and return its event. Calls no endpoint.

        :param payload: the raw body as it arrived.
        :param headers: the delivery's headers, in any case.
        :return: the event.
        :raises DiffioWebhookError: when it is not proven to come from Diffio.
        """

        return webhooks.verify_webhook(payload, headers, self.config.webhook_secret or "")

    # --- sources and destinations --------------------------------------------------------------------

    def locate(
        self,
        path: AnyPath | Location,
        conn_id: str | None = None,
        *,
        connect: bool = True,
    ) -> Location:
        """
        Return where a path leads, without asking Diffio.

        :param path: absolute, a URI, or relative to the root that a connection configures.
        :param conn_id: connection that relative paths and stores are reached through.
        :param connect: False when only the name of the place is wanted: a remote location cannot be read or
            written then.
        :return: the location, to list, read or write.
        :raises DiffioInputError: when it leads nowhere or out of its root.
        """

        if isinstance(path, Location):
            return path
        return storage.resolve(
            read_path(path, "path"),
            conn_id=None if conn_id is None else read_text(conn_id, "the connection id"),
            default_root=self.config.output_path,
            default_root_name=f"extra 'output_path' of connection {self.diffio_conn_id!r}",
            connect=connect,
        )

    def report_upload(self, source: Location, project_id: str) -> None:
        """
        Tell lineage tools again that a project was made from a recording: they see one phase of a task alone.

        :param source: the recording.
        :param project_id: the project.
        """
        lineage.report_upload(self, source, project_id)

    @contextmanager
    def _verification(
        self, verify: Verify | None, source: AnySource | None, source_conn_id: str | None
    ) -> Iterator[Verification | None]:
        """Give what checks a restored file, where it is to be checked."""
        if verify is None:
            yield None
            return
        given: Source | None = None
        try:
            given = None if source is None else self._source(source, _source_name(source), source_conn_id)
        except DiffioError as error:
            # It is paid for, and its source may be tidied away by now.
            self.log.warning("The length of the restored file cannot be compared: %s", error.message)
        with Verification(self.log, given) as verification:
            yield verification

    def _source(
        self,
        source: AnySource,
        file_name: str | None,
        conn_id: str | None,
    ) -> Source:
        from airflow_provider_diffio.api import uploads
        from airflow_provider_diffio.hooks.sources import LocationSource

        if source is None:
            read_path(source, "source")  # says what a source may be
        if isinstance(source, Location) or is_path(source):
            return uploads.source_of(LocationSource(self.locate(cast("Any", source), conn_id)), file_name)
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        if file_name is None and not hasattr(source, "check_unchanged") and not _has_name(source):
            raise DiffioInputError(
                "A recording in memory has no name.",
                advice="Give file_name, such as 'talk.wav': Diffio tells the format by it.",
            )
        return uploads.source_of(cast("Any", source), file_name)


def _source_name(source: Any) -> str | None:
    """Return a name for what has none, since nothing but a message shows it."""
    is_stream = not (isinstance(source, Location) or is_path(source) or hasattr(source, "check_unchanged"))
    return "recording" if isinstance(source, bytes) or (is_stream and not _has_name(source)) else None


def _has_name(stream: Any) -> bool:
    # The name of a file that was opened by its descriptor is a number.
    name = getattr(stream, "name", None)
    return not hasattr(stream, "read") or (isinstance(name, str) and bool(PurePath(name).name))


class _ToldProgress(ProgressLog):
    """Logs what a wait sees, and passes it on to a callback."""

    def __init__(self, log: Any, on_progress: Callable[[models.GenerationProgress], None] | None) -> None:
        super().__init__(log)
        self._on_progress = on_progress

    def progress(self, progress: models.GenerationProgress) -> None:
        super().progress(progress)
        if self._on_progress is not None:
            self._on_progress(progress)
