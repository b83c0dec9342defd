"""
The first screen of the README and of the documentation, copied line by line into two terminals.

There is nothing but Python: a home of its own, and the index from which pip installs, which has the package.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks
from tests.e2e.processes import inherited_environment
from tests.packaging.conftest import ROOT, Built

if "DIFFIO_PACKAGE" not in os.environ:
    pytest.skip("needs the network and some minutes: run `make package`", allow_module_level=True)

TRY = Path("/tmp/diffio")
PORT = 8788
#: Seconds from the first line to the restored file, where the machine does nothing else.
PROMISED = 180


@dataclass
class Reader:
    """Somebody who copies lines into terminals."""

    env: dict[str, str]

    def type_into(self, script: str) -> subprocess.Popen[str]:
        """Run lines in a terminal of their own."""
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.env,
            cwd=self.env["HOME"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def reader(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with socket.socket() as probe:
        if TRY.exists() or probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"somebody uses {TRY} or port {PORT} here")
    home = tmp_path_factory.mktemp("home")
    tools = home / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
    env = {
        **inherited_environment(("AIRFLOW", "PYTHON", "VIRTUAL_ENV")),
        "HOME": str(home),
        "PATH": os.pathsep.join([str(tools), "/usr/local/bin", "/usr/bin", "/bin"]),
        # Until it is released, the index has to be told of the package.
        "PIP_FIND_LINKS": str(built.wheel.parent),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    yield Reader(env)
    shutil.rmtree(TRY, ignore_errors=True)


@contextlib.contextmanager
def first_terminal(reader: Reader, script: str) -> Iterator[None]:
    """Run the first block, which does not end by itself, until the sandbox listens."""
    terminal = reader.type_into(script)
    try:
        for _ in range(9000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                    break
            if terminal.poll() is not None:
                raise AssertionError(terminal.communicate()[0])
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(terminal.pid, signal.SIGTERM)
        terminal.communicate(timeout=60)


def first_screen(page: Path) -> list[Block]:
    """Return the blocks up to the log of the first restoration."""
    found = list(blocks(page))
    end = next(at for at, block in enumerate(found) if block.kind == "text" and "Wrote " in block.text)
    return found[: end + 1]


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_it_ends_with_a_restored_file(name: str, reader: Reader) -> None:
    first, *others = first_screen(ROOT / name)
    began = time.monotonic()
    with first_terminal(reader, first.text):
        lines = []
        for block in others:
            if block.kind == "python":
                path = Path(block.title.replace("~", reader.env["HOME"]))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.kind == "bash":
                lines.append(block.text)
        terminal = reader.type_into("\n".join(lines))
        said = terminal.communicate(timeout=900)[0]
    taken = time.monotonic() - began
    assert terminal.returncode == 0, said
    for line in others[-1].text.splitlines():
        assert re.search(".*?".join(map(re.escape, line.split("..."))), said), said
    (restored,) = (TRY / "restored").rglob("interview.mp3")
    assert restored.stat().st_size > 10_000
    shutil.rmtree(TRY / "restored")
    print(f"{name}: {taken:.0f} s")
    idle = os.getloadavg()[1] < 2 * (os.cpu_count() or 1)
    assert not idle or taken < PROMISED
