"""A pytest plugin: the fixture ``diffio_sandbox``, a local Diffio for the tests of your own DAGs.

pytest finds it by itself where this package is installed. Nothing is imported or started for tests that do
not ask for the fixture::

    def test_restores(diffio_sandbox, tmp_path):
        (tmp_path / "talk.wav").write_bytes(b"RIFF of a recording")
        DiffioHook().restore_audio("talk.wav", "talk.mp3")
        assert diffio_sandbox.ledger()["totals"]["generations"] == 1
"""

# No "from __future__ import annotations": a user's test run loads this file before everything else, and it
# imports nothing but pytest.

import pytest

__all__ = [
    "diffio_conn_id",
    "diffio_connection_extra",
    "diffio_sandbox",
    "diffio_sandbox_server",
    "diffio_sandbox_settings",
]


@pytest.fixture(scope="session")
def diffio_sandbox_settings():  # type: ignore[no-untyped-def]
    """What the sandbox is started with: fields of ``airflow_provider_diffio.sandbox.Settings``.

    Override it in your ``conftest.py`` with a fixture of the scope ``session``. By default a generation takes
    no time and returns what was uploaded, which needs none of the audio libraries.
    """
    return {"engine": "passthrough", "processing_seconds": 0.0}


@pytest.fixture(scope="session")
def diffio_sandbox_server(diffio_sandbox_settings):  # type: ignore[no-untyped-def]
    """The sandbox of this test process, as it is; ``diffio_sandbox`` is what a test wants."""
    from airflow_provider_diffio.sandbox import Sandbox

    try:
        sandbox = Sandbox(**diffio_sandbox_settings)
    except ValueError as error:
        pytest.fail(f"The Diffio sandbox cannot start: {error}", pytrace=False)
    with sandbox:
        yield sandbox


@pytest.fixture
def diffio_conn_id():  # type: ignore[no-untyped-def]
    """The id of the connection that ``diffio_sandbox`` sets: ``diffio_default``, unless overridden."""
    return "diffio_default"


@pytest.fixture
def diffio_connection_extra(tmp_path):  # type: ignore[no-untyped-def]
    """The extra of that connection; by default relative paths lead into the test's ``tmp_path``."""
    return {"output_path": str(tmp_path)}


@pytest.fixture
def diffio_sandbox(diffio_sandbox_server, diffio_conn_id, diffio_connection_extra, monkeypatch):  # type: ignore[no-untyped-def]
    """A running sandbox that knows nothing yet, and an Airflow connection to it.

    The connection is an environment variable, so neither a database nor a secrets backend is needed, and one
    of the same id in your own Airflow is hidden for the length of the test. The sandbox forgets projects,
    generations, keys, webhooks, faults and requests after each test.

    :return: an ``airflow_provider_diffio.sandbox.Sandbox``: ``ledger()``, ``requests()``, ``add_fault()``,
        ``add_key()``, ``connection``, ...
    """
    import json

    fields = {**diffio_sandbox_server.connection, "extra": dict(diffio_connection_extra)}
    monkeypatch.setenv(f"AIRFLOW_CONN_{diffio_conn_id.upper()}", json.dumps(fields))
    diffio_sandbox_server.clear()
    yield diffio_sandbox_server
    diffio_sandbox_server.clear()
