"""Run a command, and when it ends, is interrupted or takes too long, end everything that it started.

usage: python3 .ci/run_with_timeout.py SECONDS COMMAND [ARGUMENT ...]

Exit code: the command's, or 124 when its time was over. Standard library only: it runs before anything is
installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_SECONDS = 20
TIME_IS_OVER = 124


def main() -> int:
    """Run the command, and end all that is left of it."""
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    adopt_orphans()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupted)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"{command[0]}: not done after {seconds:.0f} s", file=sys.stderr)  # noqa: T201
        return TIME_IS_OVER
    finally:
        end(process)


def interrupted(signum: int, _frame: FrameType | None) -> NoReturn:
    """Leave by the ``finally`` above, with the exit code a shell would report."""
    raise SystemExit(128 + signum)


def adopt_orphans() -> None:
    """Have the kernel hand us every descendant whose parent died, so that none can slip away (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the command to stop if it still runs, then end whatever is left of it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        bury_children()


def bury_children() -> None:
    """Collect the exit codes of dead children, adopted ones included: until then they count as processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def descendants(ancestor: int) -> list[int]:
    """Every process below one (Linux; elsewhere the process group has to do)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (any name, brackets too) state parent ..."
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(ancestor, []))
    for pid in found:
        found += children.get(pid, [])
    return found


if __name__ == "__main__":
    sys.exit(main())
