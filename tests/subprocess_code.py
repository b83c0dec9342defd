"""Code that is run where nothing has been imported yet."""

from __future__ import annotations

import subprocess
import sys


def lines_printed_by(code: str) -> list[str]:
    """Run Python code in a process of its own, which has to succeed, and return what it prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()
