"""
What a task remembers over its tries.

Airflow 3.3 keeps a small store for each task instance that retries, crashes and clears leave alone. Each step
records there what it is about to do, or has got, with a fingerprint of its input: an edited input never gets
an old result. On older versions there is no such store and nothing is remembered; the idempotency key and
the upstream XComs protect the purchase all the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError

log = logging.getLogger(__name__)


class DiffioTaskStateError(DiffioError):
    """
    The task's own record could not be read or written.

    It is never taken for *there is none*: what has been paid for could be bought again.
    """

    transient = True
    default_advice = "Nothing was bought. A retry reads it again."


class TaskMemory:
    """
    The records of one task instance.

    :param store: Airflow's accessor (``context["task_state_store"]``), or None where Airflow has none.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskMemory:
        return cls(context.get("task_state_store"))

    def recall(self, step: str, fingerprint: str) -> dict[str, Any]:
        """
        Return what a step recorded for this very input; empty when it recorded nothing or another input.

        :raises DiffioTaskStateError: when the record could not be read.
        """
        record = self._read(step)
        if record and record.get("fingerprint") != fingerprint:
            log.info("The input of this task is not what it was, so its record of %r does not count.", step)
            return {}
        return record

    def has(self, step: str) -> bool:
        """
        Return whether a step has recorded anything, for whichever input.

        :raises DiffioTaskStateError: when the record could not be read.
        """
        return bool(self._read(step))

    def _read(self, step: str) -> dict[str, Any]:
        if self._store is None:
            return {}
        failure = ""
        try:
            record = self._store.get(_key(step))
        except Exception as error:
            # Airflow raises errors of several kinds here; whichever it is, nothing is known.
            failure = type(error).__name__
        if failure:
            raise DiffioTaskStateError(f"The task's record of {step!r} could not be read ({failure}).")
        return dict(record) if isinstance(record, Mapping) else {}

    def intend(self, step: str, fingerprint: str, **facts: Any) -> None:
        """
        Record what is about to happen.

        :raises DiffioTaskStateError: when it could not be written; then it must not happen.
        """
        failure = self._write(step, fingerprint, facts)
        if failure:
            raise DiffioTaskStateError(f"The task's record of {step!r} could not be written ({failure}).")

    def remember(self, step: str, fingerprint: str, **facts: Any) -> None:
        """
        Record what has happened. It has happened whether or not that works, so a failure is only logged.
        """
        failure = self._write(step, fingerprint, facts)
        if failure:
            log.error("Could not record %s of this task (%s); the next try does not know it.", facts, failure)

    def _write(self, step: str, fingerprint: str, facts: Mapping[str, Any]) -> str:
        if self._store is None:
            return ""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        try:
            self._store.set(_key(step), {"fingerprint": fingerprint, **facts}, retention=NEVER_EXPIRE)
        except Exception as error:
            return type(error).__name__
        return ""


def fingerprint(**parts: Any) -> str:
    """
    Return a digest of what identifies an input.

    :raises DiffioInputError: when a part is not plain JSON, and so could not be sent either.
    """
    try:
        text = json.dumps(parts, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DiffioInputError(f"An argument can not be sent as JSON: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _key(step: str) -> str:
    return f"diffio_{step}"
