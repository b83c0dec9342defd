"""Many small recordings through one hook in one process: the last ones cost what the first ones did."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_provider_diffio.sandbox.process import child_environment, start_sandbox_process
from benchmarks.environment import REPOSITORY

SIZE = 200_000
BLOCK = 50
#: Restored before anything is measured: the first ones import what all need.
_WARM_UP = 10


def measure(count: int) -> dict[str, Any]:
    """
    Restore that many recordings of 200 KB in a process of its own.

    :param count: a multiple of 50.
    :return: CPU in milliseconds for each file, by blocks of 50, and of 50 more where no secret is masked; and
        how memory grew after the first block.
    """
    with (
        tempfile.TemporaryDirectory(prefix="diffio-bench-") as folder,
        start_sandbox_process(engine="passthrough", processing_seconds=0.01) as sandbox,
    ):
        environment = {
            **child_environment(),
            "AIRFLOW_HOME": folder,
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(sandbox.connection),
        }
        command = [sys.executable, "-m", "benchmarks.restorations", folder, str(count)]
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, check=True, capture_output=True, text=True
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _restore_all(folder: Path, count: int) -> dict[str, Any]:
    from airflow_provider_diffio.hooks import DiffioHook

    hook = DiffioHook()
    recording = folder / "recording.wav"
    recording.write_bytes(b"RIFF" + bytes(SIZE))
    for _ in range(_WARM_UP):
        _restore(hook, recording, folder / "restored.mp3")
    blocks: list[float] = []
    memory: list[float] = []
    for _ in range(count // BLOCK):
        blocks.append(_block(hook, recording, folder))
        memory.append(_resident_mib())
    hook.close()
    with (
        patch("airflow_provider_diffio.hooks.diffio.mask_secret"),
        patch("airflow_provider_diffio.api.client.keep_out_of_logs"),
        contextlib.closing(DiffioHook()) as unmasked,
    ):
        plain = _block(unmasked, recording, folder)
    return {"count": count, "cpu_ms": blocks, "unmasked_cpu_ms": plain, "grown_mib": memory[-1] - memory[0]}


def _block(hook: Any, recording: Path, folder: Path) -> float:
    """Return the CPU of one restoration, in milliseconds."""
    began = time.process_time()
    for _ in range(BLOCK):
        _restore(hook, recording, folder / "restored.mp3")
    return 1000 * (time.process_time() - began) / BLOCK


def _restore(hook: Any, recording: Path, target: Path) -> None:
    project = hook.create_project(recording).api_project_id
    generation = hook.create_generation(project, idempotency_key=project).generation_id
    # The sandbox takes a hundredth of a second; polling at once would measure the wait.
    time.sleep(0.05)
    hook.wait_for_generation(generation, project, poll_interval=0.1)
    hook.download(generation, project, target)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    print(json.dumps(_restore_all(Path(sys.argv[1]), int(sys.argv[2]))))
