"""Sandboxes to test, each empty at the start of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_diffio.sandbox import Sandbox
from tests.sandbox.wire import Wire


@pytest.fixture(scope="session")
def edge_sandbox() -> Iterator[Sandbox]:
    with Sandbox(engine="passthrough", processing_seconds=0.1, part_size=1024, max_bytes=8192) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def signed_put_sandbox() -> Iterator[Sandbox]:
    with Sandbox(protocol="signed-put", engine="passthrough", processing_seconds=0.1) as sandbox:
        yield sandbox


@pytest.fixture
def wire(edge_sandbox: Sandbox) -> Wire:
    edge_sandbox.clear()
    return Wire(edge_sandbox)


@pytest.fixture
def old_wire(signed_put_sandbox: Sandbox) -> Wire:
    signed_put_sandbox.clear()
    return Wire(signed_put_sandbox)
