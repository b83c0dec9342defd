"""One restored file on its way to a place, or into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_diffio import storage
from airflow_provider_diffio.api import downloads, models
from airflow_provider_diffio.api.errors import DiffioVerificationError
from airflow_provider_diffio.api.json_fields import presentable
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.api.readable import readable_size
from airflow_provider_diffio.api.transfer_log import TransferLog
from airflow_provider_diffio.hooks import lineage, metrics

if TYPE_CHECKING:
    import logging

    from airflow_provider_diffio.api.client import DiffioClient, Options
    from airflow_provider_diffio.hooks.verification import Verification

_SUFFIXES = {"video": "mp4", "transcript": "json"}


class DownloadingHook(Protocol):
    """What a download needs of a hook."""

    reports_lineage: bool
    routine_level: int

    @property
    def log(self) -> logging.Logger: ...

    @property
    def diffio_conn_id(self) -> str: ...

    def get_conn(self) -> DiffioClient: ...


class FileDownload:
    """
    Asks for a link, waiting for a file that is still being put in place, and fetches all of it.

    :param hook: sends the requests.
    :param generation_id: a complete generation.
    :param project_id: its project.
    :param download_type: which of its files; Diffio's choice when None.
    :param ready_timeout: seconds to wait for the file.
    :param options: for each request.
    """

    def __init__(
        self,
        hook: DownloadingHook,
        generation_id: str,
        project_id: str,
        download_type: str | None,
        ready_timeout: float,
        options: Options,
    ) -> None:
        self._hook = hook
        self._generation_id = generation_id
        self._project_id = project_id
        self._download_type = download_type
        self._ready_timeout = ready_timeout
        self._options = options

    def to(
        self,
        target: storage.Location,
        *,
        overwrite: bool,
        about_to_publish: Callable[[models.DownloadedFile], None] | None,
        verification: Verification | None = None,
    ) -> models.DownloadedFile:
        """
        Write the file, whole or not at all.

        :param target: where to; a directory gets the file's own name.
        :param overwrite: whether a file that is there may be replaced.
        :param about_to_publish: told what has arrived, right before it appears.
        :param verification: checks what has arrived, before it appears; a transcript is not checked.
        :raises DiffioVerificationError: when it does not pass; it is kept beside its place then.
        :raises DiffioError: when there is no such file, or it did not arrive whole; nothing is left behind.
        """
        with after_start(self._generation_id, self._project_id):
            return self._write(target, overwrite, about_to_publish, verification)

    def content(self, verification: Verification | None = None) -> bytes:
        """
        Return all bytes of the file.

        :param verification: checks them; a transcript is not checked.
        :raises DiffioVerificationError: when they do not pass.
        :raises DiffioError: when there is no such file, or it did not arrive whole.
        """
        content = bytearray()
        with after_start(self._generation_id, self._project_id):
            link = self._link()
            taken = self._fetch(link, self._generation_id, content.extend)
            if verification is not None and link.download_type != "transcript":
                verification.write(content)
                verification.check(link.file_name or self._generation_id)
        self._count(len(content))
        size = readable_size(len(content))
        self._hook.log.log(
            self._hook.routine_level, "Fetched generation %s (%s) in %s.", self._generation_id, size, taken
        )
        return bytes(content)

    def _write(
        self,
        target: storage.Location,
        overwrite: bool,
        about_to_publish: Callable[[models.DownloadedFile], None] | None,
        verification: Verification | None,
    ) -> models.DownloadedFile:
        link = self._link()
        checked = None if link.download_type == "transcript" else verification
        suffix = _SUFFIXES.get(link.download_type, "mp3")
        file_name = storage.safe_file_name(link.file_name, f"{self._generation_id}.{suffix}")
        target = target.file(file_name)

        def arrived(writer: storage.Writer) -> models.DownloadedFile:
            return models.DownloadedFile(
                path=writer.uri,
                size_bytes=writer.size_bytes,
                sha256=writer.sha256,
                mime_type=link.mime_type,
                file_name=file_name,
                download_type=link.download_type,
                generation_id=self._generation_id,
                api_project_id=self._project_id,
            )

        with _kept_when_refused(checked, target), target.writer(overwrite=overwrite) as writer:
            taken = self._fetch(
                link,
                file_name,
                writer.write if checked is None else checked.beside(writer.write),
                expect_size=lambda size: writer.expect(size_bytes=size),
                written_sha256=lambda: writer.sha256,
            )
            writer.verify()
            if checked is not None:
                checked.check(target.name)
            if about_to_publish is not None:
                about_to_publish(arrived(writer))
        self._count(writer.size_bytes)
        kind = presentable(link.mime_type or link.download_type)
        size = readable_size(writer.size_bytes)
        self._hook.log.log(
            self._hook.routine_level, "Wrote %s (%s, %s) in %s.", target.uri, size, kind, taken
        )
        lineage.report_download(self._hook, self._project_id, self._generation_id, target)
        return arrived(writer)

    def _count(self, size_bytes: int) -> None:
        metrics.count(metrics.BYTES_DOWNLOADED, size_bytes, conn_id=self._hook.diffio_conn_id)

    def _link(self) -> models.GenerationDownload:
        return downloads.get_link(
            self._hook.get_conn(),
            self._generation_id,
            self._project_id,
            self._download_type,
            ready_timeout=self._ready_timeout,
            options=self._options,
        )

    def _fetch(
        self,
        link: models.GenerationDownload,
        name: str,
        write: Callable[[bytes], Any],
        **of_the_destination: Any,
    ) -> str:
        """Fetch the file, and return how long that took, for the log."""
        transfer = TransferLog(self._hook.log, "Downloaded", name)
        fetch = downloads.Fetch(
            self._hook.get_conn(),
            self._link,
            write,
            options=self._options,
            moved=transfer.add,
            **of_the_destination,
        )
        fetch.run(link)
        return transfer.elapsed


@contextmanager
def _kept_when_refused(verification: Verification | None, target: storage.Location) -> Iterator[None]:
    """Keep a file that does not pass, once its place is left as it was."""
    try:
        yield
    except DiffioVerificationError as error:
        if verification is not None:
            verification.keep(error, target)
        raise
