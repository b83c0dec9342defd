"""One recording on its way into a new project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_diffio.api import endpoints, media_types, models, uploads
from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError, DiffioUploadRefusedError
from airflow_provider_diffio.api.readable import readable_size
from airflow_provider_diffio.api.transfer_log import TransferLog
from airflow_provider_diffio.hooks import lineage, metrics
from airflow_provider_diffio.hooks.sources import LocationSource, stream_digest

if TYPE_CHECKING:
    import logging

    from airflow_provider_diffio.api.client import DiffioClient, Options


class UploadingHook(Protocol):
    """What an upload needs of a hook."""

    reports_lineage: bool
    routine_level: int

    @property
    def log(self) -> logging.Logger: ...

    @property
    def diffio_conn_id(self) -> str: ...

    def get_conn(self) -> DiffioClient: ...

    def complete_project_upload(
        self, project_id: str, *, request_options: Options = None
    ) -> models.UploadConfirmation: ...


class OnCreated(Protocol):
    """Is told of a project before anything is uploaded into it."""

    def __call__(self, project: models.Project, /, *, confirmable: bool) -> None:
        """
        :param project: the project as it will be, with the status ``uploading``.
        :param confirmable: whether its protocol has a confirmation that could be missing later.
        """


class ProjectUpload:
    """
    Creates a project, uploads a recording into it, and confirms the upload. Made by
    :meth:`DiffioHook.prepare_upload`, which has sent nothing yet.

    :param hook: sends the requests.
    :param recording: what to upload.
    :param content_type: media type, kept as ``content_type``; when None, what name, store or content show.
    :param file_format: short label of the format, or None.
    :param params: stored with the project, or None.
    :param options: for each of the calls.
    :raises DiffioInputError: when an argument cannot work, or the file is no recording.
    """

    def __init__(
        self,
        hook: UploadingHook,
        recording: uploads.Source,
        *,
        content_type: str | None,
        file_format: str | None,
        params: Mapping[str, Any] | None,
        options: Options,
    ) -> None:
        self._hook = hook
        self._recording = recording
        self._options = options
        self.content_type = content_type or _content_type_of(recording)
        self._call = endpoints.create_project(
            recording.name,
            content_type=self.content_type,
            content_length=recording.size_bytes,
            file_format=file_format,
            params=params,
        )

    def check_download_type(self, download_type: str | None) -> None:
        """
        Refuse what Diffio cannot make of this recording, before it is uploaded.

        :param download_type: what is to be downloaded later.
        :raises DiffioInputError: for the video of a recording that is sound alone.
        """
        if download_type == "video" and self.content_type.lower().startswith("audio/"):
            raise DiffioInputError(
                f"download_type is 'video', and {self._recording.name} is sound alone ({self.content_type}).",
                advice="Ask for 'audio', or leave download_type out. Nothing was sent.",
            )

    @property
    def source(self) -> uploads.Source:
        """What is uploaded."""
        return self._recording

    @property
    def content_digest(self) -> str | None:
        """The digest of what was uploaded, where it is known afterwards."""
        return self._recording.content_digest if isinstance(self._recording, LocationSource) else None

    def read_digest(self) -> str:
        """Return the digest of the content, which is read where the upload has not done so."""
        return self.content_digest or stream_digest(self._recording.open())

    def run(self, on_created: OnCreated | None = None) -> models.Project:
        """
        Do it. When the upload's permission is refused or runs out, it is tried once more, in a new project.

        :param on_created: told of each project that is created.
        :return: the project, with ``size_bytes`` and ``status``.
        :raises DiffioError: when a step did not work; it carries the ``project_id``.
        """
        try:
            project = self._into_new_project(on_created)
        except DiffioUploadRefusedError as error:
            # A slow upload can outlive its permission, and only a new project comes with a new one.
            self._hook.log.warning("%s Trying once more.", error)
            project = self._into_new_project(on_created)
        metrics.count(metrics.BYTES_UPLOADED, self._recording.size_bytes, conn_id=self._hook.diffio_conn_id)
        if isinstance(self._recording, LocationSource):
            lineage.report_upload(self._hook, self._recording.location, project.api_project_id)
        return project

    def _into_new_project(self, on_created: OnCreated | None) -> models.Project:
        created = self._hook.get_conn().call(self._call, self._options)
        recording = self._recording
        self._hook.log.log(
            self._hook.routine_level,
            "Created project %s; uploading %s (%s).",
            created.api_project_id,
            recording.name,
            readable_size(recording.size_bytes),
        )
        transfer = TransferLog(self._hook.log, "Uploaded", recording.name, recording.size_bytes)
        project = models.Project(
            api_project_id=created.api_project_id,
            file_name=recording.name,
            content_type=self.content_type,
            size_bytes=recording.size_bytes,
            status="uploading",
        )
        if on_created is not None:
            on_created(project, confirmable=isinstance(created.upload, models.EdgeUpload))
        try:
            uploads.upload(
                self._hook.get_conn(),
                created,
                recording,
                self.content_type,
                options=self._options,
                moved=transfer.add,
            )
            confirmed = replace(project, status=self._confirm(created))
        except DiffioError as error:
            error.project_id = created.api_project_id
            raise
        self._hook.log.log(self._hook.routine_level, "Uploaded %s in %s.", recording.name, transfer.elapsed)
        return confirmed

    def _confirm(self, created: models.CreatedProject) -> str:
        if isinstance(created.upload, models.SignedPutUpload):
            # This generation of the protocol has no such call: the store itself tells Diffio.
            return "uploaded"
        confirmation = self._hook.complete_project_upload(
            created.api_project_id, request_options=self._options
        )
        uploads.check_stored(self._recording, confirmation.size_bytes)
        return confirmation.status


def _content_type_of(recording: uploads.Source) -> str:
    """
    Return the media type of a recording: by its name, else by what the store was told, else by its content.

    :raises DiffioInputError: when all that is known says that it is neither sound nor video.
    """
    location = recording.location if isinstance(recording, LocationSource) else None
    names = [recording.name, *([location.name] if location else [])]
    for name in names:
        if named := media_types.media_type_of(name):
            return named
    stored = location.media_type() if location else None
    if stored and media_types.is_recording(stored):
        return stored
    with recording.open() as stream:
        found = media_types.media_type_of_content(stream.read(media_types.BEGINNING_BYTES))
    if found is None:
        return media_types.DEFAULT_CONTENT_TYPE
    if media_types.is_recording(found):
        return found
    if all(media_types.is_foreign_name(name) for name in names):
        raise DiffioInputError(
            f"{names[-1]} is no recording: neither its name nor its content ({found}) is of sound or video.",
            advice=(
                "If it is one all the same, give its media type as content_type, such as 'audio/wav'."
                " Nothing was sent."
            ),
        )
    return media_types.DEFAULT_CONTENT_TYPE
