"""The object that says of a directory that it is a ledger, in which form, and which one."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from typing import Any

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.ledger.chain import ledger_failures
from airflow_provider_diffio.ledger.errors import DiffioLedgerError, DiffioLedgerFaultError
from airflow_provider_diffio.ledger.names import MARKER
from airflow_provider_diffio.storage.object_directory import ObjectDirectory

log = logging.getLogger(__name__)

#: The form of a ledger as a whole. Higher ones are refused, and never written to.
SCHEMA = 1


def open_marker(objects: ObjectDirectory) -> bytes:
    """
    Return the marker of a ledger, which is begun where there is none.

    :param objects: the ledger's directory.
    :raises DiffioInputError: for a store whose exclusive creation does not hold.
    :raises DiffioLedgerError: when it cannot be read or written, or is a newer version's.
    """
    with ledger_failures():
        marker = objects.read(MARKER)
    if marker is None:
        marker = _begin(objects)
    _check(objects, marker)
    return marker


def check_marker(objects: ObjectDirectory, marker: bytes) -> None:
    """
    Make sure that the ledger is still there: a directory whose mount is gone has no records, either.

    :param objects: the ledger's directory.
    :param marker: what :func:`open_marker` returned.
    :raises DiffioLedgerError: when it is not.
    """
    with ledger_failures():
        found = objects.read(MARKER)
    if found != marker:
        raise DiffioLedgerError(
            f"{objects.uri}{MARKER} is gone, or another one than when the ledger was opened.",
            advice="Nothing was started. Check that the ledger's disk or bucket is the right one.",
        )


def _begin(objects: ObjectDirectory) -> bytes:
    """Try whether the store is fit for a ledger, and begin one."""
    marker = to_json({"schema": SCHEMA, "id": uuid.uuid4().hex, "made_by": "airflow-provider-diffio"})
    with ledger_failures():
        objects.check_exclusive()
        if objects.create(MARKER, marker):
            log.warning("A new ledger begins at %s: no recording is known in it yet.", objects.uri)
            return marker
        found = objects.read(MARKER)
    if found is None:
        raise DiffioLedgerError(f"{objects.uri}{MARKER} exists, and cannot be read.")
    return found


def _check(objects: ObjectDirectory, marker: bytes) -> None:
    try:
        schema = int(json.loads(marker)["schema"])
    except (KeyError, TypeError, ValueError):
        raise DiffioLedgerError(f"{objects.uri}{MARKER} is damaged, or not a ledger's.") from None
    if schema > SCHEMA:
        raise DiffioLedgerFaultError(
            f"The ledger {objects.uri} has schema {schema}, of a newer version of the provider.",
            advice="Nothing was started. Install the provider's newest version on this worker.",
        )


def to_json(value: Any) -> bytes:
    """Return a value as it is stored."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")


def refuse_event_loop() -> None:
    """
    Refuse to be used where it would block everybody else.

    :raises DiffioInputError: on an event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise DiffioInputError(
        "A ledger cannot be used on an event loop, which it would block.",
        advice="Use it in a task or a thread.",
    )
