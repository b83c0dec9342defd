"""Uploading a recording into a project once, as far as the record reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api.errors import DiffioNotFoundError, DiffioUploadMissingError
from airflow_provider_diffio.api.models import Project
from airflow_provider_diffio.steps.restoration import RestorationStore, Upload, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.steps.base import UploadingTask


class Recording(NamedTuple):
    """What is to be uploaded, as an operator was told."""

    source: str
    file_name: str | None = None
    content_type: str | None = None
    file_format: str | None = None
    params: Mapping[str, Any] | None = None
    source_conn_id: str | None = None

    @classmethod
    def of_task(cls, task: UploadingTask) -> Recording:
        """Return what an operator was told."""
        return cls(
            source=task.source,
            file_name=task.file_name,
            content_type=task.content_type,
            file_format=task.file_format,
            params=task.project_params,
            source_conn_id=task.source_conn_id,
        )

    def fingerprint(self, *, uri: str, version: str, conn_id: str) -> str:
        """
        Return the digest that tells this upload from any other.

        :param uri: where the recording is.
        :param version: what the store says of its content: size with ETag, generation or time.
        :param conn_id: the Diffio connection.
        """
        return fingerprint(
            source=self.source,
            file_name=self.file_name,
            content_type=self.content_type,
            file_format=self.file_format,
            params=self.params,
            source_conn_id=self.source_conn_id,
            uri=uri,
            version=version,
            conn_id=conn_id,
        )


def create_project(hook: DiffioHook, recording: Recording, store: RestorationStore) -> Project:
    """
    Upload a recording, or return the project that an earlier try uploaded the very same recording into.

    An upload that arrived whole but was not confirmed is confirmed. One that broke off cannot be continued,
    since its token is a secret that is stored nowhere: it starts again, in a new project.

    :param hook: sends it.
    :param recording: what to upload.
    :param store: what earlier tries recorded.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioError: when it did not work.
    """
    location = hook.locate(recording.source, recording.source_conn_id)
    given = recording.fingerprint(
        uri=location.uri, version=location.fingerprint(), conn_id=hook.diffio_conn_id
    )
    known = store.load().upload_of(given)
    if known and known.project:
        hook.log.info("Project %s holds this recording already.", known.project.api_project_id)
        hook.report_upload(location, known.project.api_project_id)
        return known.project

    def begun(created: Project, *, confirmable: bool) -> None:
        # Only the edge protocol has a confirmation that could be missing.
        if confirmable:
            store.save_result(store.load().upload_begun(given, created))

    project = _confirm(hook, known)
    if project is None:
        upload = hook.prepare_upload(
            location,
            file_name=recording.file_name,
            content_type=recording.content_type,
            file_format=recording.file_format,
            params=recording.params,
        )
        project = upload.run(on_created=begun)
    # Without this record, the next try would not know the project: it would bill again, for another one.
    store.save_intent(store.load().uploaded(given, project))
    return project


def _confirm(hook: DiffioHook, known: Upload | None) -> Project | None:
    """Confirm what an earlier try began, if it did and all of it arrived."""
    if known is None or known.begun is None:
        return None
    begun = known.begun
    try:
        confirmation = hook.complete_project_upload(begun.api_project_id)
    except (DiffioUploadMissingError, DiffioNotFoundError):
        hook.log.warning(
            "The upload into project %s broke off; it starts again in a new one.", begun.api_project_id
        )
        return None
    if confirmation.size_bytes not in (None, begun.size_bytes):
        return None
    hook.log.info("Project %s had been uploaded by an earlier try; confirmed it.", begun.api_project_id)
    return Project(**{**begun.to_value(), "status": confirmation.status})
