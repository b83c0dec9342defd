"""Writing a restored file once, as far as Airflow remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.models import DownloadedFile
from airflow_provider_diffio.steps.task_state import TaskMemory, fingerprint

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage import Location

_STEP = "file"

#: What to do with a file that is there: replace it; keep it when it is the one that an earlier try of this
#: task wrote, and replace it otherwise; or fail, unless it is that one.
Overwrite = Literal["replace", "skip", "error"]


class Destination(NamedTuple):
    """Where a restored file is to go, as an operator was told."""

    path: str
    download_type: str | None = None
    output_conn_id: str | None = None
    overwrite: Overwrite = "replace"

    def check(self, hook: DiffioHook, memory: TaskMemory) -> Location:
        """
        Refuse what could not be written, without asking Diffio and before anything is bought.

        :raises DiffioInputError: when a part of it can not work, or there is a file that must not be replaced
            and that no earlier try of this task can have written.
        """
        if self.overwrite not in ("replace", "skip", "error"):
            raise DiffioInputError(
                f"overwrite must be 'replace', 'skip' or 'error', not {self.overwrite!r:.40}."
            )
        target = hook.check_download(self.path, self.download_type, self.output_conn_id)
        if self.overwrite == "error" and target.exists() and not memory.has(_STEP):
            raise DiffioInputError(f"{target.uri} exists already, and overwrite is 'error'.")
        return target


def save_once(
    hook: DiffioHook,
    generation_id: str,
    project_id: str,
    destination: Destination,
    memory: TaskMemory,
    *,
    ready_timeout: float = 120.0,
) -> DownloadedFile:
    """
    Download a restored file, or return the one that an earlier try wrote.

    :param hook: fetches it.
    :param destination: where it goes.
    :param memory: what earlier tries recorded.
    :param ready_timeout: seconds to wait for a file that Diffio is still putting in place.
    :raises DiffioInputError: before anything is asked, when the destination can not work.
    :raises DiffioError: when it did not work; nothing incomplete is left.
    """
    target = destination.check(hook, memory)
    mark = fingerprint(generation_id=generation_id, download_type=destination.download_type, uri=target.uri)
    record = memory.recall(_STEP, mark)
    if destination.overwrite != "replace" and (kept := _kept(target, record)):
        hook.log.info("%s is the whole file already; nothing is fetched.", kept.path)
        return kept
    # What an earlier try began to write, where there was nothing before, is ours to replace.
    refuse = destination.overwrite == "error" and not record.get("begun")
    if refuse and target.exists():
        raise DiffioInputError(f"{target.uri} exists already, and overwrite is 'error'.")
    memory.remember(_STEP, mark, begun=True)
    file = hook.download(
        generation_id,
        project_id,
        target,
        destination.download_type,
        overwrite="error" if refuse else "replace",
        ready_timeout=ready_timeout,
    )
    memory.remember(_STEP, mark, begun=True, file=file.to_value())
    return file


def _kept(target: Location, record: Mapping[str, Any]) -> DownloadedFile | None:
    """Return the recorded file, if it is still there with the recorded size and digest."""
    if not record.get("file"):
        return None
    file = DownloadedFile(**record["file"])
    location = target.file(file.file_name)
    if not location.exists() or location.size() != file.size_bytes or location.sha256() != file.sha256:
        return None
    return file
