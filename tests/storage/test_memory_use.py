"""Writing and reading a big file costs a few blocks of memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MIB = 2**20
#: The file; the block that is written, its copies on the way to the socket, and the read-ahead are far below.
FILE_MIB = 256
LIMIT_MIB = 64

_SCRIPT = textwrap.dedent(
    """
    import sys, tracemalloc
    from airflow_provider_diffio.storage import resolve

    path, mebibytes = sys.argv[1], int(sys.argv[2])
    location = resolve(path)
    location.exists()  # loads what has to be loaded
    chunk = bytes(range(256)) * 4096
    tracemalloc.start()
    with location.writer() as writer:
        for _ in range(mebibytes):
            writer.write(chunk)
    assert location.sha256() == writer.sha256
    print("peak", tracemalloc.get_traced_memory()[1])
    """
)


def peak_mib(path: str) -> float:
    command = [sys.executable, "-c", _SCRIPT, path, str(FILE_MIB)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split("peak ")[1]) / MIB


def test_on_the_local_disk(tmp_path: Path) -> None:
    assert peak_mib(str(tmp_path / "a.wav")) < LIMIT_MIB


@pytest.mark.usefixtures("s3_conn_id")
def test_on_s3(s3_conn_id: str, bucket: str) -> None:
    assert peak_mib(f"s3://{s3_conn_id}@{bucket}/a.wav") < LIMIT_MIB
