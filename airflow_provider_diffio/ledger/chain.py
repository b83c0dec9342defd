"""
The entries of a ledger's records: read whole, made by exclusive creation, never changed.

Whoever has read entry *n* moves a record on by creating *n + 1*. Of several that try, one succeeds, and the
others learn that they lost. That needs no compare-and-swap and no clock that two machines share.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.ledger.errors import DiffioLedgerError, DiffioLedgerFaultError, LostError
from airflow_provider_diffio.ledger.names import RECORDS, Chain, read_entries
from airflow_provider_diffio.ledger.record import Record
from airflow_provider_diffio.ledger.restoration import UnreadableRecordError
from airflow_provider_diffio.storage.object_directory import ObjectDirectory

#: How often a record is read again that others move on meanwhile.
_MOST_READINGS = 20


class Chains:
    """
    Reads and writes entries.

    :param objects: the ledger's directory.
    :param owner: a text that no other process has.
    :param written_by: the task instance, for people who read the record.
    """

    def __init__(self, objects: ObjectDirectory, owner: str, written_by: Mapping[str, Any]) -> None:
        self._objects = objects
        self._owner = owner
        self._written_by = dict(written_by)

    def heads(self, content_key: str) -> dict[Chain, int]:
        """
        Return the highest entry of each record of a content.

        :param content_key: the content's digest at its API.
        :raises DiffioLedgerError: when it cannot be told.
        """
        with ledger_failures():
            names = self._objects.names(f"{RECORDS}/{content_key}")
        heads, unknown = read_entries(content_key, names)
        if unknown:
            raise DiffioLedgerError(
                f"{self._objects.uri}{RECORDS}/{content_key}/{unknown[0]} is an entry that this version of"
                " the provider does not know.",
                advice="Nothing was started. Install the provider's newest version on this worker, or remove"
                " the object if nothing of the ledger wrote it.",
            )
        return heads

    def read(self, chain: Chain, number: int) -> Record:
        """
        Return one entry.

        :raises LostError: when it is gone.
        :raises DiffioLedgerError: when it cannot be read.
        """
        name = chain.entry(number)
        with ledger_failures():
            data = self._objects.read(name)
        if data is None:
            raise LostError(name)
        try:
            record = Record.from_bytes(data)
        except UnreadableRecordError as error:
            raise _unreadable(self._objects.uri + name, str(error)) from None
        if record.chain != chain or record.number != number:
            raise _unreadable(self._objects.uri + name, "it is the record of another restoration")
        return record

    def head(self, chain: Chain) -> Record | None:
        """
        Return the last entry of a record; None where there is none.

        :raises DiffioLedgerError: when it cannot be read.
        """
        for _ in range(_MOST_READINGS):
            number = self.heads(chain.content).get(chain)
            if number is None:
                return None
            try:
                return self.read(chain, number)
            except LostError:
                continue  # taken away by a maintenance function between the two requests
        raise DiffioLedgerError(f"{self._objects.uri}{chain.directory} is listed, and cannot be read.")

    def append(self, record: Record, after: int) -> Record:
        """
        Write the next entry of a record.

        :param record: what it is to say.
        :param after: the number of the entry that it follows; 0 for none.
        :return: the entry.
        :raises LostError: when another process was first.
        :raises DiffioLedgerError: when it could not be written; it may have been written all the same.
        """
        entry = replace(
            record,
            number=after + 1,
            owner=self._owner,
            written_by=self._written_by,
            written_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
        name = entry.chain.entry(entry.number)
        with ledger_failures():
            created = self._objects.create(name, entry.to_bytes())
        if not created:
            raise LostError(name)
        return entry


@contextmanager
def ledger_failures() -> Iterator[None]:
    """Say of what goes wrong with the store that it is the ledger's, and that nothing was started."""
    try:
        yield
    except DiffioLedgerError:
        raise
    except DiffioError as error:
        message = f"The ledger cannot be used. {error.message}"
        kind = DiffioLedgerError if error.transient else DiffioLedgerFaultError
        raise kind(message, advice=f"Nothing was started. {error.advice}".strip()) from error


def _unreadable(place: str, reason: str) -> DiffioLedgerError:
    return DiffioLedgerError(
        f"The ledger's entry {place} could not be read: {reason}.",
        advice="Nothing was started. If a newer version of the provider wrote it, install that on this"
        " worker. If it is damaged, see 'forget' in the ledger's documentation.",
    )
