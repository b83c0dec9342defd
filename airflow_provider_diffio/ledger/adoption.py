"""Files that were there before the ledger: recorded as they are, so that an archive costs nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_diffio.api.media_types import media_type_of
from airflow_provider_diffio.api.models import DownloadedFile
from airflow_provider_diffio.ledger.errors import DiffioLedgerChangedError
from airflow_provider_diffio.ledger.names import Hint, LedgerRequest, Place, Target

if TYPE_CHECKING:
    from airflow_provider_diffio.ledger.changes import ChangedRequest
    from airflow_provider_diffio.ledger.ledger import Ledger
    from airflow_provider_diffio.storage import Location

log = logging.getLogger(__name__)


class Adoption:
    """
    Adopts files for one recording.

    :param ledger: where it is recorded.
    :param request: how the recording would have been restored.
    :param target: the file.
    :param destination: where it is; None where nothing can be adopted.
    """

    def __init__(
        self, ledger: Ledger, request: LedgerRequest, target: Target, destination: Location | None
    ) -> None:
        self._ledger = ledger
        self._request = request
        self._target = target
        self._destination = destination

    def adopt(self, place: Place) -> DownloadedFile:
        """
        Record the file that is at the destination.

        :param place: the recording, which is not read.
        :raises DiffioLedgerError: when it could not be recorded.
        """
        if self._destination is None:
            raise ValueError("There is no destination.")
        file = self._read(self._destination)
        facts = {name: value for name, value in file.to_value().items() if value is not None}
        self._ledger.adopt(place, self._request, self._target, [facts])
        log.info("%s was there before the ledger; it is adopted, and nothing is started.", file.path)
        return file

    def kept(self, hint: Hint, *, download_missing: bool) -> DownloadedFile | None:
        """
        Return a file that was adopted.

        :param hint: the name that says so.
        :param download_missing: return None when the file is there no more.
        :raises DiffioLedgerError: when the ledger could not be read.
        """
        destination = self._destination
        if destination is None:
            return None
        if destination.exists():
            return self._read(destination)
        if download_missing:
            log.warning(
                "%s was adopted and is not there. No generation of it is known: one is started, and billed.",
                destination.uri,
            )
            return None
        (facts, *_) = self._ledger.adopted_files(hint) or [{}]
        return self._file(destination, int(facts.get("size_bytes", 0)), facts.get("sha256"))

    def check_request(self, on_changed_request: ChangedRequest, uri: str | None) -> bool:
        """
        Tell whether a file that was adopted under another request still counts.

        :param on_changed_request: as the task was told.
        :param uri: the recording.
        :raises DiffioLedgerChangedError: for ``fail``.
        """
        what = f"The restored file of {uri} was adopted when the task asked for another request."
        if on_changed_request == "fail":
            raise DiffioLedgerChangedError(
                what,
                advice="Restore the old arguments, or set on_changed_request to 'keep' (that file counts) or"
                " 'start' (a generation is started).",
                money="Nothing was started.",
            )
        if on_changed_request == "start":
            log.warning("%s A generation is started for the new one, and billed.", what)
        return on_changed_request == "keep"

    def _read(self, destination: Location) -> DownloadedFile:
        return self._file(destination, destination.size(), destination.sha256())

    def _file(self, destination: Location, size_bytes: int, sha256: str | None) -> DownloadedFile:
        ((_, download_type), *_) = self._target.files
        unknown = cast("Any", None)  # no generation of ours made it
        return DownloadedFile(
            path=destination.uri,
            size_bytes=size_bytes,
            sha256=sha256 or unknown,
            mime_type=media_type_of(destination.name),
            file_name=destination.name,
            download_type="audio" if download_type == "default" else download_type,
            generation_id=unknown,
            api_project_id=unknown,
        )
