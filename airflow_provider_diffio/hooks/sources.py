"""A recording in a store, as the upload protocols read it."""

from __future__ import annotations

from typing import IO, cast

from airflow_provider_diffio.api.errors import DiffioSourceChangedError
from airflow_provider_diffio.storage import Location


class LocationSource:
    """
    A file at a location, opened as often as there are readers.

    :param location: where it is, kept as ``location``.
    :raises DiffioInputError: when there is no readable file.
    """

    def __init__(self, location: Location) -> None:
        self.name = location.name
        self.size_bytes = location.size()
        self.location = location
        self._fingerprint = location.fingerprint()

    def open(self) -> IO[bytes]:
        return cast("IO[bytes]", self.location.open_read())

    def check_unchanged(self) -> None:
        if self.location.fingerprint() != self._fingerprint:
            raise DiffioSourceChangedError(f"{self.location.uri} changed while it was read.")
