"""The record of one restoration, which the task state and the ledger share; it stands below the hook."""

from airflow_provider_diffio.ledger.restoration import (
    SCHEMA,
    Download,
    Fingerprint,
    Restoration,
    Start,
    UnreadableRecordError,
    Upload,
    changed_fields,
    digest,
    fingerprint,
)

__all__ = [
    "SCHEMA",
    "Download",
    "Fingerprint",
    "Restoration",
    "Start",
    "UnreadableRecordError",
    "Upload",
    "changed_fields",
    "digest",
    "fingerprint",
]
