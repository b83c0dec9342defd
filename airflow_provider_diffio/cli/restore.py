"""``restore``: recordings from the shell, by the hook, with a bar for each."""

from __future__ import annotations

import argparse
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_diffio import _compat
from airflow_provider_diffio.api.errors import DiffioError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from airflow_provider_diffio.api.models import DownloadedFile, GenerationProgress

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def run(arguments: argparse.Namespace) -> None:
    """
    Restore each file, show how far it is, and print what became of it.

    :param arguments: what :data:`~airflow_provider_diffio.cli.commands.COMMANDS` says of ``restore``.
    :raises SystemExit: with 1 when a recording was not restored, with 130 after Ctrl-C.
    """
    if arguments.jobs < 1:
        sys.stderr.write(f"--jobs must be at least 1, not {arguments.jobs}.\n")
        raise SystemExit(2)
    _compat.use_metastore()
    with _bars() as progress:
        restorations = [_Restoration(arguments, source, progress) for source in arguments.files]
        pool = ThreadPoolExecutor(arguments.jobs, thread_name_prefix="restore")
        try:
            restored = list(pool.map(_Restoration.run, restorations))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            progress.stop()
            _tell_of_what_goes_on(restorations)
            # Threads that wait for Diffio must not keep the process.
            _end(130)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if not all(restored):
        raise SystemExit(1)


class _Restoration:
    """One recording on its way."""

    def __init__(self, arguments: argparse.Namespace, source: str, progress: Progress) -> None:
        self.source = source
        self.generation_id: str | None = None
        self._arguments = arguments
        self._progress = progress
        self._bar: TaskID = progress.add_task(_name(source), total=100, stage="waiting")

    def run(self) -> bool:
        """Restore it, and say what became of it. Returns whether it was restored."""
        try:
            file = self._restore()
        except DiffioError as error:
            self._show("failed")
            self._progress.console.print(
                f"{self.source}: {error}", markup=False, highlight=False, style="red"
            )
            return False
        self._progress.update(self._bar, completed=100)
        self._show("done")
        self._progress.console.print(
            f"{self.source} -> {file.path} ({file.size_bytes} bytes, generation {file.generation_id})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return True

    def _restore(self) -> DownloadedFile:
        from airflow_provider_diffio.hooks.diffio import DiffioHook

        given = self._arguments
        self._show("uploading")
        hook = DiffioHook(given.diffio_conn_id)
        try:
            return hook.restore_audio(
                absolute(self.source),
                absolute(given.output).rstrip("/") + "/",
                model=given.model,
                download_type=given.download_type,
                overwrite="replace" if given.overwrite else "error",
                timeout=given.timeout,
                on_progress=self._seen,
            )
        finally:
            hook.close()

    def _seen(self, progress: GenerationProgress) -> None:
        self.generation_id = progress.generation_id
        if progress.percent is not None:
            self._progress.update(self._bar, completed=min(progress.percent, 99))
        self._show(progress.stage or progress.status)

    def _show(self, stage: str) -> None:
        self._progress.update(self._bar, stage=stage)


def _bars() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[stage]}", markup=False),
        TimeElapsedColumn(),
    )
    # Lines that the hook logs, above all the ids, appear above the bars.
    return Progress(*columns)


def _tell_of_what_goes_on(restorations: list[_Restoration]) -> None:
    known = [each for each in restorations if each.generation_id is not None]
    sys.stderr.write("Interrupted. Diffio has no cancel: what was started goes on and is billed once.\n")
    for each in known:
        sys.stderr.write(f"{each.source}: generation {each.generation_id}\n")
    sys.stderr.flush()


def _end(code: int) -> None:
    import os

    os._exit(code)


def absolute(path: str) -> str:
    """Return a path of a shell: relative to the current directory, and not to the connection's root."""
    return path if _URL.match(path) else str(Path.cwd() / path)


def _name(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2][-40:]
