"""A local Diffio API: develop and test against it without an account, a network or a bill.

Start one with ``python -m airflow_provider_diffio.sandbox``, or inside a test::

    with Sandbox(processing_seconds=0.2) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(sandbox.connection))

Importing this is cheap; what serves and what restores audio is loaded when it is needed.
"""

from __future__ import annotations

from airflow_provider_diffio.sandbox.embedded import Sandbox
from airflow_provider_diffio.sandbox.process import SandboxProcess, start_sandbox_process
from airflow_provider_diffio.sandbox.remote import RemoteSandbox
from airflow_provider_diffio.sandbox.settings import Settings

__all__ = ["RemoteSandbox", "Sandbox", "SandboxProcess", "Settings", "start_sandbox_process"]
