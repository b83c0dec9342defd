"""Uploading a recording into a project once, as far as the record reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_diffio.api.errors import (
    DiffioInputError,
    DiffioNotFoundError,
    DiffioUploadMissingError,
)
from airflow_provider_diffio.api.models import Project
from airflow_provider_diffio.steps.changes import ChangedInput, report_change
from airflow_provider_diffio.steps.create_generation import check_limit
from airflow_provider_diffio.steps.restoration import Fingerprint, Upload, changed_fields, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.hooks.uploads import ProjectUpload
    from airflow_provider_diffio.ledger.restoration import RestorationStore
    from airflow_provider_diffio.steps.base import UploadingTask
    from airflow_provider_diffio.storage import Location


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

    def fingerprint(self, *, uri: str, conn_id: str) -> Fingerprint:
        """
        Return what tells this upload from any other, but for the content.

        :param uri: where the recording is.
        :param conn_id: the Diffio connection.
        """
        return fingerprint(
            source=uri,
            file_name=self.file_name,
            content_type=self.content_type,
            file_format=self.file_format,
            project_params=self.params,
            diffio_conn_id=conn_id,
        )


def create_project(
    hook: DiffioHook,
    recording: Recording,
    store: RestorationStore,
    *,
    on_changed_input: ChangedInput = "warn",
    before_upload: Callable[[ProjectUpload], None] | None = None,
    max_generations: int | None = None,
) -> Project:
    """
    Upload a recording, or return the project that an earlier try uploaded the very same content into.

    An upload that arrived whole but was not confirmed is confirmed. One that broke off cannot be continued,
    since its token is a secret that is stored nowhere: it starts again, in a new project. A recording that is
    gone by now is not needed once it has been uploaded.

    :param hook: sends it.
    :param recording: what to upload.
    :param store: what earlier tries recorded.
    :param on_changed_input: what to do about another recording than the one that a generation was started
        for.
    :param before_upload: may refuse an upload that is about to begin.
    :param max_generations: how many generations the task instance may start; None where it starts none. A
        changed recording that no generation may be started for is not uploaded: the record goes on telling
        of the one before, whose restored file can then still be collected.
    :raises DiffioInputError: before anything is sent.
    :raises DiffioGenerationLimitError: before anything is sent.
    :raises DiffioError: when it did not work.
    """
    location = hook.locate(recording.source, recording.source_conn_id)
    given = recording.fingerprint(uri=location.uri, conn_id=hook.diffio_conn_id)
    known = store.load().upload
    now = _upload_now(hook, location, given, known)
    if known and not _is_same(location, known, now):
        changes = changed_fields(known.given, given) or ["the recording's content"]
        if max_generations is not None:
            restoration = store.load()
            check_limit(restoration, len(restoration.starts), max_generations)
        report_change(hook.log, store, changes, on_changed_input)
        known = None
    if known and known.project:
        hook.log.info("Project %s holds this recording already.", known.project.api_project_id)
        hook.report_upload(location, known.project.api_project_id)
        return known.project
    project, content = _confirm(hook, known) or _upload(hook, location, recording, now, store, before_upload)
    # Without this record, the next try would not know the project: it would bill again, for another one.
    store.save_intent(store.load().uploaded(now._replace(content=content, project=project)))
    return project


def _upload_now(hook: DiffioHook, location: Location, given: Fingerprint, known: Upload | None) -> Upload:
    """Return what there is to upload now; what was uploaded before, where that is gone."""
    try:
        return Upload(given, location.fingerprint())
    except DiffioInputError:
        if known is None or known.project is None or known.given != given or location.exists():
            raise
        hook.log.warning("%s is gone; what an earlier try uploaded of it is used.", location.uri)
        return known


def _is_same(location: Location, known: Upload, now: Upload) -> bool:
    """Tell whether the same content was uploaded; it is read where only its time or ETag is another one."""
    if known.given != now.given:
        return False
    if known.version == now.version:
        return True
    if known.content is None or known.project is None or location.size() != known.project.size_bytes:
        return False
    from airflow_provider_diffio.hooks.sources import content_digest

    return known.content == content_digest(location)


def _upload(
    hook: DiffioHook,
    location: Location,
    recording: Recording,
    now: Upload,
    store: RestorationStore,
    before_upload: Callable[[ProjectUpload], None] | None,
) -> tuple[Project, str | None]:
    def begun(created: Project, *, confirmable: bool) -> None:
        # Only the edge protocol has a confirmation that could be missing.
        if confirmable:
            store.save_result(store.load().upload_begun(now._replace(begun=created)))

    upload = hook.prepare_upload(
        location,
        file_name=recording.file_name,
        content_type=recording.content_type,
        file_format=recording.file_format,
        params=recording.params,
    )
    if before_upload is not None:
        before_upload(upload)
    return upload.run(on_created=begun), upload.content_digest


def _confirm(hook: DiffioHook, known: Upload | None) -> tuple[Project, None] | None:
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
    return Project(**{**begun.to_value(), "status": confirmation.status}), None
