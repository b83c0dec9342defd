"""Uploading a recording once, as far as Airflow remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api.errors import DiffioNotFoundError, DiffioUploadMissingError
from airflow_provider_diffio.api.models import CreatedProject, EdgeUpload, Project
from airflow_provider_diffio.steps.task_state import TaskMemory, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook

_STEP = "project"


class Recording(NamedTuple):
    """What is to be uploaded, as an operator was told."""

    source: str
    file_name: str | None = None
    content_type: str | None = None
    file_format: str | None = None
    params: Mapping[str, Any] | None = None
    source_conn_id: str | None = None

    @classmethod
    def of_task(cls, task: Any) -> Recording:
        """Return what an operator was told."""
        return cls(
            source=task.source,
            file_name=task.file_name,
            content_type=task.content_type,
            file_format=task.file_format,
            params=task.project_params,
            source_conn_id=task.source_conn_id,
        )


def upload_once(hook: DiffioHook, recording: Recording, memory: TaskMemory) -> Project:
    """
    Upload a recording, or return the project that an earlier try uploaded the very same recording into.

    An upload that arrived whole but was not confirmed is confirmed. One that broke off can not be continued,
    since its token is a secret and kept nowhere: it starts again, in a new project.

    :param hook: sends it.
    :param recording: what to upload.
    :param memory: what earlier tries recorded.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioError: when it did not work.
    """
    from airflow_provider_diffio.hooks.lineage import report_upload

    location = hook.locate(recording.source, recording.source_conn_id)
    mark = fingerprint(
        **recording._asdict(), uri=location.uri, version=location.fingerprint(), conn_id=hook.diffio_conn_id
    )
    record = memory.recall(_STEP, mark)
    if record.get("project"):
        known = Project(**record["project"])
        hook.log.info("Project %s holds this recording already.", known.api_project_id)
        report_upload(hook, location, known.api_project_id)
        return known

    def begun(created: CreatedProject, unconfirmed: Project) -> None:
        # Only the edge protocol has a confirmation that could be missing.
        if isinstance(created.upload, EdgeUpload):
            memory.remember(_STEP, mark, begun=unconfirmed.to_value())

    project = _confirm(hook, record) or hook.create_project(
        location,
        file_name=recording.file_name,
        content_type=recording.content_type,
        file_format=recording.file_format,
        params=recording.params,
        on_created=begun,
    )
    # Nothing is bought for a project that the next try would not know: it would buy again, for another one.
    memory.intend(_STEP, mark, project=project.to_value())
    return project


def _confirm(hook: DiffioHook, record: Mapping[str, Any]) -> Project | None:
    """Confirm what an earlier try began, if it did and all of it arrived."""
    if not record.get("begun"):
        return None
    begun = Project(**record["begun"])
    try:
        confirmation = hook.complete_project_upload(begun.api_project_id)
    except (DiffioUploadMissingError, DiffioNotFoundError):
        hook.log.warning(
            "The upload into project %s broke off; starting again in a new one.", begun.api_project_id
        )
        return None
    if confirmation.size_bytes not in (None, begun.size_bytes):
        return None
    hook.log.info("Project %s had been uploaded by an earlier try; confirmed it.", begun.api_project_id)
    return Project(**{**begun.to_value(), "status": confirmation.status})
