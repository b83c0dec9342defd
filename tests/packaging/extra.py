"""Run by the Python of an environment that has the package with one extra alone: uses what the extra is for.

usage: extra.py stores URI CONN_ID, or extra.py with sandbox RECORDING, audio RECORDING, webhooks, openlineage
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path


def say(result: object) -> None:
    """Tell the result, among all that libraries log."""
    print(f"result: {result}", flush=True)


def stores(uri: str, conn_id: str) -> None:
    """Read a file, check the place, and write the file's double beside it."""
    from airflow_provider_diffio.storage import resolve

    location = resolve(uri, conn_id=conn_id)
    content = location.open_read().read()
    double = resolve(f"{uri}.double", conn_id=conn_id)
    double.check_writable()
    with double.writer() as writer:
        writer.write(content * 2)
    assert double.size() == 2 * len(content)
    say(len(content))


def audio(recording: str) -> None:
    """Decode a recording to its end, as ``verify="audio"`` does."""
    from airflow_provider_diffio.storage.audio import decode

    say(decode(Path(recording)).seconds)


def sandbox(recording: str) -> None:
    """Restore a recording, really."""
    from airflow_provider_diffio.hooks import DiffioHook
    from airflow_provider_diffio.sandbox import start_sandbox_process

    with start_sandbox_process(processing_seconds=0.1) as running, tempfile.TemporaryDirectory() as results:
        os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = json.dumps(running.connection)
        file = DiffioHook().restore_audio(recording, str(Path(results) / "a.mp3"))
        say(file.size_bytes)


def webhooks() -> None:
    """Refuse a delivery that nobody signed, by its signature."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    connection = {"conn_type": "diffio", "password": "key", "extra": {"webhook_secret": secret}}
    os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = json.dumps(connection)
    say(importlib.import_module("bare").receiver()["status"])  # beside this file


def openlineage() -> None:
    """Load what makes OpenLineage's classes."""
    say(importlib.import_module("airflow_provider_diffio.lineage.openlineage").__name__)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
