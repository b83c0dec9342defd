"""
The record of a restoration in the task instance's own state store (Airflow 3.3 and later).

Airflow keeps it over retries, crashes and clears. Before 3.3 there is no such store: a record lasts for one
try, and the idempotency key and the upstream XComs alone protect against a second bill.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_diffio import _compat
from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.steps.restoration import Restoration, UnreadableRecordError

log = logging.getLogger(__name__)

#: The key of the record, as Airflow's UI shows it.
KEY = "diffio_restoration"


class DiffioTaskStateError(DiffioError):
    """
    The task's own record could not be read or written.

    This is never taken for *nothing was recorded*: that could start, and bill, a second generation.
    """

    transient = True
    default_advice = "Nothing was started. A retry reads the record again."


class TaskState:
    """
    The record of one task instance: a
    :class:`~airflow_provider_diffio.ledger.restoration.RestorationStore`.

    :param store: Airflow's accessor (``context["task_state_store"]``), or None where Airflow has none.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._current: Restoration | None = None
        self._stored: Restoration | None = None

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskState:
        """Return the record of the task instance that runs in ``context``."""
        return cls(_compat.task_state_store(context))

    @property
    def outlives_the_try(self) -> bool:
        """Whether a later try finds what this one stores."""
        return self._store is not None

    def load(self) -> Restoration:
        """
        Return the record; an empty one where nothing was recorded.

        :raises DiffioTaskStateError: when it could not be read.
        """
        if self._current is None:
            self._current = self._stored = Restoration() if self._store is None else self._read()
        return self._current

    def of_earlier_tries(self) -> Restoration:
        """
        Return the record as earlier tries left it.

        :raises DiffioTaskStateError: when it could not be read.
        """
        self.load()
        return self._stored or Restoration()

    def save_intent(self, restoration: Restoration) -> None:
        """
        Store what is about to happen.

        :raises DiffioTaskStateError: when that did not work; then it must not happen.
        """
        failure = self._write(restoration)
        if failure:
            raise DiffioTaskStateError(f"The task's record {KEY!r} could not be written ({failure}).")

    def save_result(self, restoration: Restoration) -> None:
        """Store what has happened; a failure is only logged."""
        failure = self._write(restoration)
        if failure:
            log.error(
                "The task's record %r could not be written (%s). A retry will not know of %s.",
                KEY,
                failure,
                restoration.to_record(),
            )

    def _read(self) -> Restoration:
        failure, advice = "", None
        try:
            record = self._store.get(KEY)
        except Exception as error:
            # Airflow raises errors of several kinds here; whichever it is, nothing is known.
            failure = type(error).__name__
        else:
            try:
                return Restoration.from_record(record)
            except UnreadableRecordError as error:
                failure = str(error)
                advice = (
                    "Nothing was started. Install the provider's newest version on this worker, or delete the"
                    f" record (the task's page, Task State Store, {KEY}): the next try then starts anew."
                )
        raise DiffioTaskStateError(
            f"The task's record {KEY!r} could not be read: {failure}.",
            advice=advice,
            may_be_billed=True,
            money="This try started no generation; one that an earlier try started is billed once.",
        )

    def _write(self, restoration: Restoration) -> str:
        if self._store is not None:
            try:
                _compat.store_task_state(self._store, KEY, restoration.to_record())
            except Exception as error:
                return type(error).__name__
        self._current = restoration
        return ""
