"""
Write one file by the local sink, to be traced.

usage: python writing.py PATH replace|error|check|record [FAULT]

The content comes from the standard input. A fault takes one promise of the sink back; the check must find it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from airflow_provider_diffio.storage import local, resolve
from airflow_provider_diffio.storage.objects import objects_at

PUBLISHED = b"published"
FAULTS = ("only the leaf directory is synced", "no directory is synced", "the file is not synced", "in place")


def break_promise(fault: str) -> None:
    """Have the sink do what it must not."""
    if fault == "only the leaf directory is synced":
        local.sync_directories = local._sync_directory
    elif fault == "no directory is synced":
        local.sync_directories = lambda directory: None  # noqa: ARG005 -- called by position, named for mypy
    elif fault == "the file is not synced":

        class Unsynced(local.LocalSink):
            def _finish(self) -> None:
                self._handle.flush()

        local.LocalSink = Unsynced  # type: ignore[misc]
    elif fault == "in place":

        class InPlace(local.LocalSink):
            def publish(self) -> None:
                super()._finish()
                self._target.write_bytes(self._part.read_bytes())
                descriptor = os.open(self._target, os.O_RDONLY)
                os.fsync(descriptor)
                local.sync_directories(self._target.parent)

        local.LocalSink = InPlace  # type: ignore[misc]


def main() -> None:
    """Write, and say so."""
    path, mode, *faults = sys.argv[1:]
    content = sys.stdin.buffer.read()
    for fault in faults:
        break_promise(fault)
    local._SYNC_BYTES = 40 * 2**10  # so that the bytes begin to be synced while they are written
    location: Any = resolve(path)
    if mode == "check":
        location.check_writable()
    elif mode == "record":
        assert objects_at(resolve(f"{Path(path).parent}/")).create(Path(path).name, content)
    else:
        with location.writer(overwrite=mode == "replace") as writer:
            for start in range(0, len(content), 32 * 2**10):
                writer.write(content[start : start + 32 * 2**10])
    os.write(1, PUBLISHED)
    assert mode == "check" or Path(path).read_bytes() == content


if __name__ == "__main__":
    main()
