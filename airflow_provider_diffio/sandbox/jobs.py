"""Hands recordings to the processes that restore them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from airflow_provider_diffio.sandbox.process import child_environment
from airflow_provider_diffio.sandbox.settings import Settings
from airflow_provider_diffio.sandbox.state import Asset, Generation

_WORKER: Final = "airflow_provider_diffio.sandbox.worker"
#: A worker whose output has closed is about to end.
_SECONDS_TO_END: Final = 10.0


class RestorationError(Exception):
    """A recording that could not be restored: what a failed generation says about it."""

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


@dataclass(frozen=True)
class Restored:
    """The files a generation made."""

    assets: dict[str, Asset]
    has_video: bool
    duration: float | None
    #: Why there is no video although the recording has pictures.
    video_error: str | None = None


class Jobs:
    """Restores recordings, in worker processes of its own.

    A process, not a thread: signal processing holds the interpreter's lock for long enough to be
    noticed by a thousand pollers, and a decoder that crashes must not take the server with it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.workers)
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()

    async def restore(self, generation: Generation) -> Restored:
        """Make the results of one generation."""
        stored = generation.project.stored
        if stored is None:
            raise RestorationError("The recording is gone.")
        if self._settings.engine == "passthrough":
            files = await asyncio.to_thread(_pass_through, stored.path, generation)
            return _restored(generation, files, generation.project.has_video, None)
        result = await self._ask({"source": str(stored.path), "folder": str(generation.folder)})
        if "error" in result:
            raise RestorationError(result["error"], result.get("details"))
        files = {name: Path(path) for name, path in result["files"].items()}
        restored = _restored(generation, files, result["hasVideo"], result["duration"])
        return replace(restored, video_error=result.get("videoError"))

    async def close(self) -> None:
        """End the workers."""
        for process in self._all:
            _kill(process)
        await asyncio.gather(*(process.wait() for process in self._all))
        self._all.clear()
        self._idle.clear()

    async def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        async with self._slots:
            process = self._idle_worker() or await self._spawn()
            if process.stdin is None or process.stdout is None:
                raise RestorationError("The restoration worker cannot be reached.")
            try:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
            except ConnectionError:
                line = b""
            except BaseException:
                # A job that was given up keeps its process busy; a new one is cheaper than waiting.
                _kill(process)
                raise
            if not line:
                raise RestorationError("The recording could not be restored.", await _end_of(process))
            self._idle.append(process)
            result: dict[str, Any] = json.loads(line)
            return result

    def _idle_worker(self) -> asyncio.subprocess.Process | None:
        """One that is still there: the system may have ended it meanwhile."""
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._all.discard(process)
        return None

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _WORKER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
        )
        self._all.add(process)
        return process


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def _end_of(process: asyncio.subprocess.Process) -> str:
    """How a worker ended that brought no result."""
    # Killing a process that has just ended takes its status away from whoever waits for it.
    try:
        status = await asyncio.wait_for(process.wait(), _SECONDS_TO_END)
    except TimeoutError:
        _kill(process)
        status = await process.wait()
    if status < 0:
        return f"The decoder crashed on this recording ({signal.Signals(-status).name})."
    return f"The decoder ended on this recording with status {status}."


def _pass_through(source: Path, generation: Generation) -> dict[str, Path]:
    """The recording itself as every result: a link where the disk allows it, so that size costs nothing."""
    names = {"audio": "restored.mp3"}
    if generation.project.has_video:
        names["video"] = "restored.mp4"
    files = {name: generation.folder / file_name for name, file_name in names.items()}
    for path in files.values():
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)
    files["transcript"] = generation.folder / "word_timestamps.json"
    files["transcript"].write_text('{"segments": []}')
    return files


def _restored(
    generation: Generation, files: dict[str, Path], has_video: bool, duration: float | None
) -> Restored:
    stem = Path(generation.project.file_name).stem or "recording"
    names = {
        "audio": (f"{stem}_restored.mp3", "audio/mpeg"),
        "video": (f"{stem}_restored.mp4", "video/mp4"),
        "transcript": ("word_timestamps.json", "application/json"),
    }
    prefix = generation.project.object_path.split("/original/")[0]
    assets = {
        name: Asset(
            path=path,
            file_name=names[name][0],
            mime_type=names[name][1],
            storage_path=f"{prefix}/generations/{generation.generation_id}/{path.name}",
        )
        for name, path in files.items()
    }
    return Restored(assets, has_video, duration)
