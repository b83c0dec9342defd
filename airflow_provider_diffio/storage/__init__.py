"""
Where bytes come from and go to: resolve a path through a connection, write all or nothing.

Importing this is cheap: a store's library is loaded when a path of its kind is resolved.
"""

from airflow_provider_diffio.storage.file_names import safe_file_name
from airflow_provider_diffio.storage.location import Location
from airflow_provider_diffio.storage.paths import resolve
from airflow_provider_diffio.storage.writer import Writer

__all__ = ["Location", "Writer", "resolve", "safe_file_name"]
