"""Processes that are started for a test and certainly ended after it, grandchildren included.

No single sign finds them all. The list of children loses those whose parent was killed; the session loses
those that began a session of their own; a mark in the environment, which every descendant inherits, is
overwritten by those that change their title. Each tree is therefore started with a session and a mark of its
own, and whatever shows either of them, or descends from something that does, belongs to the tree.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

MARK = "LOCAL_PROCESS_TREE"
TAIL_LINES = 40
CLOCK_SLACK_SECONDS = 2.0
"""The kernel counts a start in ticks since boot, and tells the time of boot in whole seconds: a process may
seem a second and a tick older than it is."""


class ProcessTree:
    """A command and all that it starts, with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._mark = f"{name}-{uuid.uuid4()}"
        self._env = {**env, MARK: self._mark}
        self._main: subprocess.Popen[bytes] | None = None
        self._watched = False
        self.started_at = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} pid={self._main.pid if self._main else None}>"

    def start(self) -> None:
        """Start the command; its output is appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started_at = time.time()  # before it is, for on a busy machine starting takes seconds
        with self.log.open("ab") as output:
            self._main = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is the owner's to handle
            )
        self._watched = True
        # For an owner that is torn down half-way, or interrupted a second time while it ends things.
        atexit.register(self.end)

    @property
    def exit_code(self) -> int | None:
        """The main process's exit code, or None while it runs."""
        return self._main.poll() if self._main else None

    def check(self) -> None:
        """Raise if the main process ended although nobody asked it to."""
        if self._watched and self.exit_code is not None:
            raise ProcessDiedError(f"{self.name} ended with exit code {self.exit_code}:\n{self.tail()}")

    def kill(self, signum: int) -> None:
        """Signal the main process alone, as an operator or the kernel would. It may die of it."""
        self._watched = False
        if self._main and self._main.poll() is None:
            self._main.send_signal(signum)

    def wait(self, timeout: float) -> bool:
        """Whether the main process ended within the time."""
        if self._main is None:
            return True
        try:
            self._main.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """End every process of the tree at once, also those that were born meanwhile."""
        self._watched = False
        while members := self.members():
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(members, timeout=5)
        self.wait(5)
        atexit.unregister(self.end)

    def members(self) -> list[psutil.Process]:
        """Every living process that descends from the command."""
        found: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self._bears_sign(process):
                    found |= {process, *process.children(recursive=True)}
        return [process for process in found if _is_alive(process)]

    def _bears_sign(self, process: psutil.Process) -> bool:
        if self._main is None or process.create_time() < self.started_at - CLOCK_SLACK_SECONDS:
            return False
        return os.getsid(process.pid) == self._main.pid or process.environ().get(MARK) == self._mark

    def tail(self) -> str:
        """The last lines of the output."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])


class ProcessDiedError(RuntimeError):
    """A process that should be running is gone."""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_all(trees: Sequence[ProcessTree], patience: float = 5.0) -> None:
    """Ask all trees to end, at the same time, and end by force what is left after the patience."""
    for tree in trees:
        tree.kill(signal.SIGTERM)
    deadline = time.monotonic() + patience
    for tree in trees:
        tree.wait(max(deadline - time.monotonic(), 0.1))
    for tree in trees:
        tree.end()


def inherited_environment(dropped_prefixes: Sequence[str]) -> dict[str, str]:
    """This process's environment without the variables that begin in certain ways."""
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(dropped_prefixes))}
