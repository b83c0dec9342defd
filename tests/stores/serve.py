"""
Run a store for another process, until the standard input ends.

usage: python -m tests.stores.serve KIND

It prints JSON: the URI of a file in it, the id of the Airflow connection, and what makes that known.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from tests.stores.servers import SERVERS

CONTENT = b"a recording in a store"


def main() -> None:
    """Serve, or say why that cannot be."""
    with tempfile.TemporaryDirectory(prefix="diffio-store-") as home:
        try:
            with SERVERS[sys.argv[1]](Path(home)) as server:
                server.contents.put("a.wav", CONTENT)
                place = {"uri": f"{server.root}a.wav", "conn_id": server.conn_id, "env": server.environment}
                print(json.dumps(place), flush=True)
                sys.stdin.read()
        except pytest.skip.Exception as skipped:
            sys.exit(str(skipped))


if __name__ == "__main__":
    main()
