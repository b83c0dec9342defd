"""
The ledger: the second store behind the restoration's state machine, by recording, in any store.

Its parts stand below the hook, in the room ``ledger``, since ``DiffioHook.restore_audio`` uses them, too.
"""

from airflow_provider_diffio.ledger.changes import ChangedRequest
from airflow_provider_diffio.ledger.errors import (
    DiffioLedgerChangedError,
    DiffioLedgerError,
    DiffioLedgerFaultError,
)
from airflow_provider_diffio.ledger.index import Known, LedgerIndex
from airflow_provider_diffio.ledger.jobs import MissingOutput
from airflow_provider_diffio.ledger.ledger import Ledger
from airflow_provider_diffio.ledger.maintenance import (
    Verified,
    export_csv,
    find_records,
    forget,
    forget_adopted,
    list_adopted,
    list_records,
    prune,
    verify,
)
from airflow_provider_diffio.ledger.names import Chain, Hint, LedgerRequest, Place, Target
from airflow_provider_diffio.ledger.record import Record, WrittenFile
from airflow_provider_diffio.ledger.starting import (
    DEFAULT_MAX_GENERATIONS_PER_RECORDING,
    Held,
    StartBounds,
    has_generation,
)

__all__ = [
    "DEFAULT_MAX_GENERATIONS_PER_RECORDING",
    "Chain",
    "ChangedRequest",
    "DiffioLedgerChangedError",
    "DiffioLedgerError",
    "DiffioLedgerFaultError",
    "Held",
    "Hint",
    "Known",
    "Ledger",
    "LedgerIndex",
    "LedgerRequest",
    "MissingOutput",
    "Place",
    "Record",
    "StartBounds",
    "Target",
    "Verified",
    "WrittenFile",
    "export_csv",
    "find_records",
    "forget",
    "forget_adopted",
    "has_generation",
    "list_adopted",
    "list_records",
    "prune",
    "verify",
]
