"""What can go wrong with a ledger."""

from __future__ import annotations

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError


class DiffioLedgerError(DiffioError):
    """
    The ledger could not be read or written.

    This is never taken for *nothing was recorded*: that could start, and bill, a second generation.
    """

    transient = True
    default_advice = "Nothing was started. A retry reads the ledger again."


class DiffioLedgerFaultError(DiffioLedgerError):
    """The ledger's store refuses: a missing permission, a read-only disk, no such bucket."""

    transient = False
    final = True
    default_advice = "Nothing was started. Fix the ledger's permissions or its path, then clear the task."


class DiffioLedgerChangedError(DiffioInputError):
    """A recording was restored under another request, and ``on_changed_request`` is ``fail``."""


class LostError(Exception):
    """Another process has written the entry first."""
