"""
How much memory a large transfer takes: a recording of 1 GiB through the hook, up and down again.

Each transfer runs in a process of its own, against a sandbox in another one, and reports by how much its
resident memory rose above what it was just before. Run by ``make bench``; figures are ratios and bounds, and
the seconds are those of this machine alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
LIMIT_MIB = 160


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--mib", type=int, default=1024, help="size of the recording")
    parser.add_argument("--transfer", nargs=2, metavar=("KIND", "JSON"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.transfer:
        print(json.dumps(transfer(arguments.transfer[0], json.loads(arguments.transfer[1]))))
        return 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="diffio-bench-") as folder:
        recording = make_recording(Path(folder) / "recording.wav", arguments.mib)
        for protocol in ("edge", "signed-put"):
            rows += measure(protocol, recording, Path(folder))
    print(f"\n{arguments.mib} MiB through the hook; resident memory above the start, limit {LIMIT_MIB} MiB\n")
    for row in rows:
        print(f"{row['protocol']:<11}{row['kind']:<10}+{row['grown_mib']:6.1f} MiB   {row['seconds']:6.1f} s")
    return int(any(row["grown_mib"] >= LIMIT_MIB for row in rows))


def make_recording(path: Path, mib: int) -> Path:
    """Write bytes that do not repeat within a part, so that mixed-up parts would be noticed."""
    with path.open("wb") as file:
        for number in range(mib):
            file.write(hashlib.shake_128(number.to_bytes(4, "big")).digest(MIB))
    return path


def measure(protocol: str, recording: Path, folder: Path) -> list[dict[str, Any]]:
    from airflow_provider_diffio.sandbox import start_sandbox_process

    model = "diffio-4.6-flash" if protocol == "edge" else "diffio-4.0-flash"
    with start_sandbox_process(
        protocol=protocol, engine="passthrough", processing_seconds=0.1, data_dir=str(folder / protocol)
    ) as sandbox:
        connection = {**sandbox.connection, "extra": {"model": model}}
        upload = run("upload", {"source": str(recording)}, connection)
        written = folder / f"{protocol}.mp3"
        download = run("download", {**upload, "path": str(written)}, connection)
        if digest(written) != digest(recording):
            raise SystemExit(f"{protocol}: what came back is not what was sent")
        written.unlink()
    return [{**result, "protocol": protocol} for result in (upload, download)]


def run(kind: str, arguments: Mapping[str, object], connection: Mapping[str, object]) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--transfer", kind, json.dumps(arguments)]
    environment = {**os.environ, "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(connection)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "kind": kind}


def transfer(kind: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Do one transfer in this process, with everything imported and the connection made before."""
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    from airflow_provider_diffio import storage
    from airflow_provider_diffio.api import downloads, uploads
    from airflow_provider_diffio.hooks import DiffioHook

    del storage, downloads, uploads
    # Airflow has loaded this before a task runs, and it takes longer than a transfer.
    get_hook_lineage_collector()
    hook = DiffioHook()
    hook.test_connection()
    with Watch() as watch:
        if kind == "upload":
            project = hook.create_project(arguments["source"]).api_project_id
        else:
            hook.download(arguments["generation"], arguments["project"], arguments["path"])
            project = arguments["project"]
    result: dict[str, Any] = {"grown_mib": watch.grown_mib, "seconds": watch.seconds, "project": project}
    if kind == "upload":
        generation = hook.create_generation(project)
        hook.wait_for_generation(generation.generation_id, poll_interval=0.2, timeout=120)
        result["generation"] = generation.generation_id
    return result


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Watch:
    """Samples this process's resident memory every few milliseconds."""

    def __enter__(self) -> Watch:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._start = self._peak = self._resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._over.set()
        self._thread.join()
        self.grown_mib = (self._peak - self._start) / MIB

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * self._page


if __name__ == "__main__":
    sys.exit(main())
