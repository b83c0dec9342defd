"""Writing a restored file once, as far as the record reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_diffio.api.arguments import read_choice
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.models import DownloadedFile
from airflow_provider_diffio.api.money import after_start
from airflow_provider_diffio.api.polling import DEFAULT_READY_TIMEOUT
from airflow_provider_diffio.steps.base import Overwrite
from airflow_provider_diffio.steps.restoration import Download, Fingerprint, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.hooks.verification import Verify
    from airflow_provider_diffio.ledger.restoration import RestorationStore
    from airflow_provider_diffio.steps.base import WritingTask
    from airflow_provider_diffio.storage import Location


class Destination(NamedTuple):
    """Where a restored file is to go, as an operator was told."""

    path: str
    download_type: str | None = None
    output_conn_id: str | None = None
    overwrite: Overwrite = "replace"
    verify: Verify | None = None

    @classmethod
    def of_task(cls, task: WritingTask) -> Destination:
        """Return what an operator was told."""
        return cls(
            path=task.path,
            download_type=task.download_type,
            output_conn_id=task.output_conn_id,
            overwrite=task.overwrite,
            verify=task.verify,
        )

    def check(self, hook: DiffioHook, store: RestorationStore) -> Location:
        """
        Refuse what could not be written, without asking Diffio and before a generation is started.

        :raises DiffioInputError: when a part of it cannot work, or there is a file that must not be replaced
            and that no earlier try of this task has written.
        """
        read_choice(self.overwrite, "overwrite", ("replace", "skip", "error"))
        target = hook.check_download(self.path, self.download_type, self.output_conn_id, verify=self.verify)
        if self.overwrite == "error" and target.exists() and not _kept(target, store.load().download):
            raise DiffioInputError(f"{target.uri} exists already, and overwrite is 'error'.")
        return target

    def check_before_start(self, hook: DiffioHook, store: RestorationStore) -> None:
        """
        Refuse what could not be written, and try whether this place can be, while nothing is paid for yet.

        :raises DiffioInputError: as for :meth:`check`, and when nothing can be written there.
        :raises DiffioTransferError: when that may be possible later.
        """
        target = self.check(hook, store)
        # Once a generation exists, the download itself finds out, and says what became of the money.
        if not store.load().starts:
            target.check_writable()

    def fingerprint(self, generation_id: str, uri: str) -> Fingerprint:
        """
        Return what tells this file at this place from any other.

        :param generation_id: what is downloaded.
        :param uri: where the path leads.
        """
        return fingerprint(generation_id=generation_id, download_type=self.download_type, path=uri)


def download(
    hook: DiffioHook,
    generation_id: str,
    project_id: str,
    destination: Destination,
    store: RestorationStore,
    *,
    ready_timeout: float = DEFAULT_READY_TIMEOUT,
    source: str | None = None,
    source_conn_id: str | None = None,
) -> DownloadedFile:
    """
    Download a restored file, or return the one that an earlier try wrote.

    :param hook: fetches it.
    :param generation_id: a complete generation.
    :param project_id: its project.
    :param destination: where it goes.
    :param store: what earlier tries recorded.
    :param ready_timeout: seconds to wait for a file that Diffio is still putting in place; 120 by default.
    :param source: the recording, where it is known, to compare the length of a file that is verified.
    :param source_conn_id: connection that the source is reached through.
    :raises DiffioInputError: when the destination cannot work.
    :raises DiffioVerificationError: when the file does not pass ``verify``.
    :raises DiffioError: when it did not work; nothing incomplete is left.
    """
    with after_start(generation_id, project_id):
        target = destination.check(hook, store)
        given = destination.fingerprint(generation_id, target.uri)
        known = store.load().download_of(given)
        if destination.overwrite != "replace" and (kept := _kept(target, known)):
            hook.log.info("%s is the whole file already; nothing is fetched.", kept.path)
            return kept

        def about_to_publish(file: DownloadedFile) -> None:
            # Only what it holds tells a file of ours from somebody else's, should this process die now.
            store.save_result(store.load().download_ready(given, file))

        file = hook.download(
            generation_id,
            project_id,
            target,
            destination.download_type,
            overwrite="error" if destination.overwrite == "error" else "replace",
            ready_timeout=ready_timeout,
            about_to_publish=about_to_publish,
            verify=destination.verify,
            source=source,
            source_conn_id=source_conn_id,
        )
        store.save_result(store.load().downloaded(given, file))
        return file


def _kept(target: Location, known: Download | None) -> DownloadedFile | None:
    """Return the file that an earlier try wrote, if it is still there with its size and digest."""
    if known is None:
        return None
    file = known.file
    location = target.file(file.file_name)
    if not location.exists() or location.size() != file.size_bytes or location.sha256() != file.sha256:
        return None
    return file
