"""
Uploads and downloads through the hook, against curl at the speed of loopback, and against the official SDK
with latency. Each transfer is a process of its own, and so is the server, which does nothing with the bytes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.environment import REPOSITORY
from benchmarks.transfer_memory import make_recording, run

LATENCY = 0.04
SDK = "0.3.10"


def measure(mib: int) -> dict[str, Any]:
    """Move a recording of that many mebibytes in all ways."""
    with tempfile.TemporaryDirectory(prefix="diffio-bench-") as name:
        folder = Path(name)
        recording = make_recording(folder / "recording.wav", mib)
        with _server(mib, 0.0) as address:
            uploads = [
                (_ours("upload", address, recording, mib), _curl_up(address, recording, mib))
                for _ in range(5)
            ]
            written = folder / "restored.mp3"
            downloads, synced = [], []
            for _ in range(7):
                ours = _ours("download", address, written, mib)
                pause = ours["starting"]
                downloads.append((ours, _curl_down(address, written, mib, "curl", pause)))
                synced.append((ours, _curl_down(address, written, mib, "curl and sync", pause)))
        with _server(mib, LATENCY) as address:
            latent = [
                (_ours("upload", address, recording, mib), _sdk(address, recording, mib)) for _ in range(3)
            ]
    return {
        "upload": _row(uploads, "curl"),
        "download": _row(downloads, "curl"),
        "download to the disk": _row(synced, "curl"),
        "latency": _row(latent, "sdk"),
    }


def _row(pairs: list[tuple[dict[str, float], float]], other: str) -> dict[str, float]:
    return {
        "speed": statistics.median(ours["speed"] for ours, _ in pairs),
        f"{other}_speed": statistics.median(theirs for _, theirs in pairs),
        # Taken pair by pair, so that a machine that changes its speed does not matter.
        f"of_{other}": statistics.median(ours["speed"] / theirs for ours, theirs in pairs),
        "grown_mib": max(ours["grown_mib"] for ours, _ in pairs),
    }


def _ours(kind: str, address: str, path: Path, mib: int) -> dict[str, float]:
    print(f"  this provider: {kind}", file=sys.stderr)
    connection = {"conn_type": "diffio", "host": address, "password": "diffio_live_benchmark"}
    arguments = {"source": str(path)}
    if kind == "download":
        path.unlink(missing_ok=True)
        arguments = {"project": "project", "generation": "generation", "path": str(path)}
    began = time.perf_counter()
    result = run(kind, arguments, connection)
    starting = time.perf_counter() - began - result["seconds"]
    return {"speed": mib / result["seconds"], "grown_mib": result["grown_mib"], "starting": starting}


def _curl_up(address: str, recording: Path, mib: int) -> float:
    return mib / _timed("curl", "-s", "-o", "/dev/null", "-T", str(recording), f"{address}/raw")


def _curl_down(address: str, path: Path, mib: int, way: str, pause: float) -> float:
    """
    Fetch by curl, which leaves it to chance when the bytes reach the disk; or see to it, as we do.

    :param pause: seconds between the removal of the file before and the first byte: as many as ours takes
        to start. The pages of a removed file are there for whoever writes at once; a bit later a virtual
        machine has given them back to its host, and getting them again costs more than curl itself.
    """
    path.unlink(missing_ok=True)
    time.sleep(pause)
    script = {"curl": 'curl -s -o "$0" "$1"', "curl and sync": 'curl -s -o "$0" "$1" && sync "$0"'}[way]
    return mib / _timed("sh", "-c", script, str(path), f"{address}/raw")


def _timed(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, timeout=300)
    return time.perf_counter() - began


def _sdk(address: str, recording: Path, mib: int) -> float:
    sys.path.insert(0, str(REPOSITORY))
    from tests.conformance.environments import sdk_python

    print("  official SDK: upload", file=sys.stderr)
    script = REPOSITORY / "benchmarks" / "sdk_upload.py"
    command = [str(sdk_python(SDK)), str(script), f"{address}/v1", str(recording)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return mib / float(done.stdout)


@contextmanager
def _server(mib: int, latency: float) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.byte_server", str(mib), str(latency)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()
