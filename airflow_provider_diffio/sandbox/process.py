"""A sandbox in a process of its own, for tests that kill and restart what talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_provider_diffio.sandbox.remote import RemoteSandbox

_START_SECONDS = 30.0


class SandboxProcess(RemoteSandbox):
    """A running ``python -m airflow_provider_diffio.sandbox``; ends with its ``with`` block."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any]) -> None:
        super().__init__(
            ready["api_url"],
            ready["media_url"],
            ready["api_key"],
            ready["webhook_secret"],
            public_url=ready["public_url"],
            control_token=ready["control_token"],
        )
        self.process = process
        self.pid: int = ready["pid"]

    def stop(self) -> None:
        """End it, kindly first."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def child_environment() -> dict[str, str]:
    """An environment in which a child finds the modules this process finds, wherever it was started."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def start_sandbox_process(*arguments: str, **options: Any) -> SandboxProcess:
    """Start a sandbox process and wait until it listens.

    ``options`` are the command's options with underscores: ``processing_seconds=0.2``,
    ``engine="passthrough"``, ``accept_4_5=True``; ``arguments`` are passed on as they are. Any free port
    unless told otherwise, and no access log.
    """
    command = [sys.executable, "-m", __package__ or "airflow_provider_diffio.sandbox", *arguments]
    for name, value in {"port": 0, "quiet": True, **options}.items():
        if value is not False:
            command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    with tempfile.TemporaryDirectory(prefix="diffio-sandbox-ready-") as folder:
        ready_file = Path(folder, "ready.json")
        process = subprocess.Popen(  # noqa: S603 - our own module and the caller's options
            [*command, "--ready-file", str(ready_file)],
            stdout=subprocess.DEVNULL,
            env=child_environment(),
        )
        deadline = time.monotonic() + _START_SECONDS
        while not ready_file.exists():
            if process.poll() is not None:
                raise RuntimeError(f"the sandbox ended with status {process.returncode} before it listened")
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise RuntimeError(f"the sandbox did not listen within {_START_SECONDS:.0f} s")
            time.sleep(0.02)
        return SandboxProcess(process, json.loads(ready_file.read_text()))
