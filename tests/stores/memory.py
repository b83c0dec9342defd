"""
Write a file and read it back, and tell how much memory that took.

usage: python memory.py URI CONN_ID MIB

It prints JSON: for "write" and "read" the most MiB beyond what the process held before, seconds, and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

MIB = 2**20


def main() -> None:
    """Transfer a little, so that all is loaded; then measure."""
    uri, conn_id, mib = sys.argv[1:]
    from airflow_provider_diffio.storage import resolve

    location = resolve(uri, conn_id=conn_id or None)
    block = os.urandom(MIB)

    def write(count: int) -> str:
        with location.writer() as writer:
            for number in range(count):
                writer.write(number.to_bytes(4, "big") + block[4:])
            return writer.sha256

    def read() -> str:
        digest = hashlib.sha256()
        with location.open_read() as file:
            while piece := file.read(MIB):
                digest.update(piece)
        return digest.hexdigest()

    write(2)
    read()
    print(json.dumps({"write": measured(lambda: write(int(mib))), "read": measured(read)}))


def measured(act: Callable[[], str]) -> dict[str, object]:
    """Run something; the kernel keeps the highest resident size since its mark is set back (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before, started = highest_kib(), time.monotonic()
    digest = act()
    grown = (highest_kib() - before) / 1024
    return {"mib": grown, "seconds": time.monotonic() - started, "sha256": digest}


def highest_kib() -> int:
    """The highest resident size."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


if __name__ == "__main__":
    main()
