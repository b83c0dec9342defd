"""
Stands for ``airflow``, ``pip``, ``make`` and ``python`` in the shell that runs a page's commands.

``airflow`` is Airflow's own command line, run by the test's process, which has Airflow imported already.
``pip install`` installs nothing and checks that what is named can be. ``make`` says what it would do. The
sandbox is started, on a port of its own, and interrupted as soon as it answers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

CONSTRAINTS = re.compile(
    r"https://raw\.githubusercontent\.com/apache/airflow/constraints-[0-9.]+/constraints-3\.\d+\.txt"
)


def airflow(arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["DOCS_AIRFLOW_SOCKET"])
        settings = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}
        line.sendall(json.dumps([arguments, settings]).encode())
        line.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    code, out, err = json.loads(answer)
    sys.stdout.write(out)
    sys.stderr.write(err)
    return int(code)


def pip(arguments: list[str]) -> int:
    command, *rest = arguments
    assert command == "install", f"pip {command} is not looked at"
    found = 0
    while rest:
        word = rest.pop(0)
        if word == "--constraint":
            assert CONSTRAINTS.fullmatch(rest.pop(0)), "these constraints are nobody's"
        elif word not in {"--no-cache-dir", "--upgrade"}:
            _check_requirement(word)
            found += 1
    assert found, "nothing would be installed"
    return 0


def _check_requirement(text: str) -> None:
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    if wanted.name == "apache-airflow":
        assert not wanted.extras
        return
    assert wanted.name == "airflow-provider-diffio", f"who is {wanted.name}?"
    project = tomllib.loads(Path(os.environ["DOCS_ROOT"], "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert wanted.extras <= extras, f"there is no extra {', '.join(wanted.extras - extras)}"


def make(arguments: list[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["/usr/bin/env", f"PATH={os.environ['DOCS_PATH']}", "make", "-n", *arguments]
    return subprocess.run(command, cwd=os.environ["DOCS_ROOT"], env=environment, check=False).returncode


def python3(arguments: list[str]) -> int:
    """Make what stands for a virtual environment: this one is active already."""
    module, name, folder = arguments
    assert (module, name) == ("-m", "venv"), f"python3 {module} {name} is not looked at"
    activate = Path(folder, "bin", "activate")
    activate.parent.mkdir(parents=True)
    activate.touch()
    return 0


def python(arguments: list[str]) -> int:
    if arguments[:3] == ["-m", "airflow_provider_diffio", "doctor"]:
        # What other tests left in Airflow's database is not the reader's: no triggerer runs there.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{folder}/none.db"
            return subprocess.run([sys.executable, *arguments], check=False).returncode
    if arguments[:2] != ["-m", "airflow_provider_diffio.sandbox"]:
        return subprocess.run([sys.executable, *arguments], check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        command = [sys.executable, *arguments, "--port", "0", "--ready-file", str(ready)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.environ["DOCS_ROOT"]})
        for _ in range(1500):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        return process.wait(30)


if __name__ == "__main__":
    tools = {"airflow": airflow, "pip": pip, "make": make, "python": python, "python3": python3}
    sys.exit(tools[sys.argv[1]](sys.argv[2:]))
