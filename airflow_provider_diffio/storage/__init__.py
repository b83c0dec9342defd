"""
Where bytes come from and go to: resolve a path through a connection, write all or nothing.

Importing this costs nothing: the libraries of a store are loaded when a path of its kind is resolved.
"""

from airflow_provider_diffio.storage.file_names import safe_file_name
from airflow_provider_diffio.storage.location import Location
from airflow_provider_diffio.storage.paths import resolve
from airflow_provider_diffio.storage.writer import Writer

__all__ = ["Location", "Writer", "checksum_sha256", "resolve", "safe_file_name"]


def checksum_sha256(location: Location) -> str:
    """
    Read a whole file and give its SHA-256 in hexadecimal.

    :param location: the file.
    :raises DiffioError: when it can not be read.
    """
    return location.sha256()
