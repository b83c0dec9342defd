"""What commands that start real processes have in common: a folder of their own, and an orderly end."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn


class FolderInUseError(RuntimeError):
    """The same command is running in the same folder."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """An empty ``folder`` that no other run of the command uses."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(f"another run is going on in {folder.name}/") from None
        for old in folder.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
            elif old.name != "lock":
                old.unlink()
        yield


def end_like_ctrl_c() -> None:
    """Have the other ways to be ended raise ``KeyboardInterrupt`` too, so that everything is stopped."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signum, _interrupted)


def _interrupted(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
