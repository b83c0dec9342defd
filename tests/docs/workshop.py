"""
Runs what a page shows, block by block, as a reader would.

What a reader has and a test has not is put in its place: the sandbox for Diffio, a directory of this test for
``/data``, a server on loopback for S3. Everything else is taken as it stands.
"""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from airflow import __version__ as airflow_version

from airflow_provider_diffio.sandbox import Sandbox
from tests.docs.blocks import ROOT, Block

AIRFLOW = tuple(int(part) for part in airflow_version.split(".")[:2])
AIRFLOW_3 = AIRFLOW >= (3,)
#: Seconds that a page's shell may take for one block, on a busy machine.
PATIENCE = 240.0
#: Settings that Airflow does not know of, since they are this package's.
OUR_OPTIONS = {("diffio", "wake_up")}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Workshop:
    """
    What one page's blocks run in. They share it: a variable that is set in one is there in the next.

    :param folder: an empty directory.
    :param dags: Airflow's DAG folder.
    :param sandbox: stands for Diffio.
    :param read_output: returns what was written to stdout and stderr since it was last called.
    """

    def __init__(self, folder: Path, dags: Path, sandbox: Sandbox, read_output: Callable[[], str]) -> None:
        self._folder = folder
        self._dags = dags
        self._sandbox = sandbox
        self._read_output = read_output
        self._names: dict[str, Any] = {"__name__": "docs"}
        self._output = ""
        self._values: list[dict[str, Any]] = []
        self._make_tools()

    def run(self, block: Block) -> None:
        """
        Run a block.

        :raises AssertionError: when it does not do what it says, or nobody knows how to run it.
        """
        kinds: Mapping[str, Callable[[Block], None]] = {
            "python": self._python,
            "bash": self._bash,
            "text": self._text,
            "json": self._json,
            "ini": self._ini,
            "yaml": self._yaml,
            "dockerfile": self._dockerfile,
            "nginx": self._nginx,
            "jsonc": lambda block: json.loads(block.text),
            "py": self._python_to_read,
            "requirements": self._requirements,
        }
        assert block.kind in kinds, f"nobody runs a block of the kind {block.kind!r}"
        if block.needs and tuple(map(int, block.needs.split("."))) > AIRFLOW:
            self._has_to_fail(kinds[block.kind], block)
            return
        self._read_output()
        kinds[block.kind](block)
        if block.kind in ("python", "bash"):
            self._output = self._read_output() + WRITTEN.take()

    def _has_to_fail(self, run: Callable[[Block], None], block: Block) -> None:
        """What is said to need a newer Airflow must not work on this one, or the page says too much."""
        try:
            run(block)
        except (Exception, SystemExit):
            return
        raise AssertionError(f"it is said to need Airflow {block.needs}, and works on {airflow_version}")

    # --- what is not here ------------------------------------------------------------------------------

    def _local(self, text: str) -> str:
        """Put what is here in the place of what a reader has."""
        text = text.replace("/data/", f"{self._folder}/data/").replace(
            "http://127.0.0.1:8788", self._sandbox.api_url
        )
        text = text.replace("/tmp/diffio/", f"{self._folder}/diffio/")
        if not AIRFLOW_3:
            # As the page on compatibility tells readers.
            text = text.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
        return text

    def _adopt(self, environment: Mapping[str, str]) -> None:
        """Take over the Airflow settings that a shell has exported, for all that follows."""
        for name, value in environment.items():
            # What begins with AIRFLOW_CTX_ was left by the task that ran last.
            ours = name.startswith("AIRFLOW") and not name.startswith("AIRFLOW_CTX_")
            if ours and os.environ.get(name) != value:
                _check_setting(name, value)
                if name.startswith("AIRFLOW_CONN_"):
                    value = self._lead_to_the_sandbox(value)
                os.environ[name] = value

    def _lead_to_the_sandbox(self, value: str) -> str:
        from airflow.models.connection import Connection

        connection = Connection.from_json(value) if value.startswith("{") else Connection(uri=value)
        if connection.conn_type != "diffio":
            return value
        fields = {"conn_type": "diffio", "host": self._sandbox.api_url, "password": self._sandbox.api_key}
        return json.dumps({**fields, "extra": connection.extra_dejson})

    # --- python ----------------------------------------------------------------------------------------

    def _python(self, block: Block) -> None:
        text = self._local(block.text)
        if block.title == "conftest.py":
            (self._folder / block.title).write_text(text)
        elif re.search(r"^def test_", text, re.MULTILINE):
            self._run_tests(text)
        elif re.search(r"\bDAG\(|^@dag", text, re.MULTILINE):
            self._run_dags(block, text)
        else:
            code = compile("\n" * block.line + text, block.page, "exec")
            exec(code, self._names)  # noqa: S102 - our own words

    def _python_to_read(self, block: Block) -> None:
        """Code that is shown for comparison has to be code."""
        compile(block.text, block.page, "exec")

    def _run_tests(self, text: str) -> None:
        path = self._folder / "test_of_a_reader.py"
        path.write_text(text)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            ".",
            path.name,
        ]
        ended = subprocess.run(
            command,
            cwd=self._folder,
            env={**self._environment_of_tests(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        sys.stdout.write(ended.stdout)

    def _environment_of_tests(self) -> dict[str, str]:
        """Return nothing of this Airflow to a reader whose conftest.py makes one."""
        alone = (self._folder / "conftest.py").exists()
        return {
            name: value for name, value in os.environ.items() if not (alone and name.startswith("AIRFLOW"))
        }

    def _run_dags(self, block: Block, text: str) -> None:
        name = Path(block.title).name or f"line_{block.line}.py"
        path = self._dags / name
        path.write_text(text)
        beside_tests = self._folder / "dags" / name
        beside_tests.parent.mkdir(exist_ok=True)
        beside_tests.write_text(text)
        for dag in load(path):
            run = dag.test()
            states = {f"{ti.task_id}[{ti.map_index}]": str(ti.state) for ti in run.get_task_instances()}
            assert str(getattr(run.state, "value", run.state)) == "success", states
            self._values += _values(run)

    # --- bash ------------------------------------------------------------------------------------------

    def _bash(self, block: Block) -> None:
        self._shell(self._local(block.text))

    def _shell(self, script: str) -> None:
        _forget_streams()
        exported = self._folder / "exported"
        environment = {
            **os.environ,
            "DOCS_AIRFLOW_SOCKET": str(self._folder / "airflow.sock"),
            "DOCS_PATH": os.environ["PATH"],
            "DOCS_ROOT": str(ROOT),
            "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        whole = f"trap 'env -0 > {exported}' EXIT\n{script}"
        written = self._folder / "written"
        with socket.socket(socket.AF_UNIX) as listener, written.open("w") as output:
            listener.bind(environment["DOCS_AIRFLOW_SOCKET"])
            listener.listen()
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", whole],
                cwd=self._folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            _serve_airflow(listener, process, self._adopt)
        Path(environment["DOCS_AIRFLOW_SOCKET"]).unlink()
        assert process.returncode == 0, f"it ended with {process.returncode}: {written.read_text()}"
        sys.stdout.write(written.read_text())
        sys.stdout.flush()
        pairs = (pair.partition("=") for pair in exported.read_text().split("\0") if pair)
        self._adopt({name: value for name, _, value in pairs})

    def _make_tools(self) -> None:
        tools = self._folder / "bin"
        tools.mkdir()
        for name in ("airflow", "pip", "make", "python", "python3"):
            path = tools / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/docs/shim.py {name} "$@"\n')
            path.chmod(0o755)

    # --- what is only read -----------------------------------------------------------------------------

    def _text(self, block: Block) -> None:
        """Lines that the block before must have written, in this order; ``...`` is anything."""
        said = _ANSI.sub("", self._output)
        at = 0
        lines = [line for line in self._local(block.text).splitlines() if line.strip()]
        assert lines, "it says nothing"
        for line in lines:
            pattern = ".*?".join(re.escape(part) for part in line.strip().split("..."))
            found = re.compile(pattern).search(said, at)
            assert found, f"the block before did not write {line.strip()!r}, but:\n{said[at:][-4000:]}"
            at = found.end()

    def _json(self, block: Block) -> None:
        content = json.loads(self._local(block.text))
        if isinstance(content, dict) and "conn_type" in content:
            _check_connection(content)
        elif isinstance(content, dict) and content and all(_is_connection(v) for v in content.values()):
            for connection in content.values():
                _check_connection(connection)
        else:
            shapes = [sorted(value) for value in self._values]
            assert isinstance(content, dict), "it is no connection and no value"
            assert sorted(content) in shapes, f"no task of this page returned {sorted(content)}, but {shapes}"

    def _requirements(self, block: Block) -> None:
        for line in block.text.splitlines():
            self._shell(f"pip install '{line}'")

    def _ini(self, block: Block) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(block.text)
        assert parser.sections(), "it sets nothing"
        for section in parser.sections():
            for option in parser.options(section):
                _check_option(section, option)

    def _yaml(self, block: Block) -> None:
        content = yaml.safe_load(block.text)
        assert isinstance(content, dict), "it sets nothing"
        for name, value in _settings_in(content):
            _check_setting(name, value)

    def _dockerfile(self, block: Block) -> None:
        instructions = [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]
        base = re.fullmatch(r"FROM apache/airflow:(\S+)", instructions[0])
        assert base, "it begins with no Airflow"
        assert (ROOT / ".ci" / f"constraints-{base[1]}.txt").exists(), f"{base[1]} is not tested"
        for instruction in instructions[1:]:
            word, _, rest = instruction.partition(" ")
            assert word == "RUN", f"nobody runs {word}"
            self._shell(rest)

    def _nginx(self, block: Block) -> None:
        from airflow_provider_diffio.plugins.receiver import MAX_BODY

        lines = [re.sub(r"\s*#.*", "", line).strip() for line in block.text.splitlines()]
        found = re.fullmatch(
            r"limit_req_zone \$binary_remote_addr zone=(?P<made>\w+):\d+m rate=\d+r/s;\n"
            r"server \{\n"
            r"listen \d+;\n"
            r"location (?P<prefix>/\S*) \{\n"
            r"proxy_pass http://127\.0\.0\.1:\d+;\n"
            r"client_max_body_size (?P<size>\d+)k;\n"
            r"limit_req zone=(?P<used>\w+) burst=\d+;\n"
            r"\}\n\}",
            "\n".join(line for line in lines if line),
        )
        assert found, "that is no file for nginx that is known here"
        assert found["made"] == found["used"], "it limits by a zone that is another"
        assert found["prefix"] == "/diffio/webhooks/", "the receiver is somewhere else"
        assert int(found["size"]) * 1024 == MAX_BODY, f"the receiver takes {MAX_BODY} bytes"
        self._check_with_nginx(block.text)

    def _check_with_nginx(self, text: str) -> None:
        """Have nginx itself read the file, where it is installed."""
        nginx = shutil.which("nginx")
        if nginx is None:
            return
        whole = self._folder / "nginx.conf"
        whole.write_text(
            f"pid {self._folder}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n"
        )
        command = [nginx, "-t", "-e", str(self._folder / "nginx.log"), "-c", str(whole)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr


def _forget_streams() -> None:
    """Take away what an earlier ``dag.test()`` of Airflow 2 has left: a log that goes to its own output."""
    tasks = logging.getLogger("airflow.task")
    for handler in [each for each in tasks.handlers if type(each) is logging.StreamHandler]:
        tasks.removeHandler(handler)


# --- Airflow -----------------------------------------------------------------------------------------------


def load(path: Path) -> list[Any]:
    """Read a DAG file as Airflow does."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag

    bag = DagBag(str(path))
    assert bag.import_errors == {}, "\n".join(bag.import_errors.values())
    assert bag.dags, "it has no DAG"
    # Older ones' dag.test() does not make the assets of tasks known, as their DAG processor does.
    if not AIRFLOW_3:
        bag.sync_to_db()
    elif AIRFLOW == (3, 0):
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        DagBundlesManager().sync_bundles_to_db()
        bag.sync_to_db("dags-folder", None)
    return list(bag.dags.values())


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have less patience than a reader, who has minutes, and try nothing twice."""
    from airflow.providers.common.compat.sdk import DAG

    from airflow_provider_diffio.hooks import DiffioHook
    from airflow_provider_diffio.steps.wait import check_waiting

    test = DAG.test

    def test_at_once(dag: Any, *arguments: Any, **options: Any) -> Any:
        for task in dag.tasks:
            fields = task.partial_kwargs if hasattr(task, "partial_kwargs") else vars(task)
            fields["retries"] = 0
            for name in ("poke_interval", "poll_interval"):
                if name in fields:
                    fields[name] = 0.1
        return test(dag, *arguments, **options)

    def begin_soon(task: Any) -> None:
        task.poll_interval = 0.1
        check_waiting(task)

    wait = partialmethod(DiffioHook.wait_for_generation, poll_interval=0.1)
    monkeypatch.setattr(DiffioHook, "wait_for_generation", wait)
    monkeypatch.setattr(DAG, "test", test_at_once)
    monkeypatch.setattr("airflow_provider_diffio.steps.wait.check_waiting", begin_soon)
    monkeypatch.setattr("airflow_provider_diffio.steps.wait.MIN_DEFERRAL", 0.0)


def keep_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the API of ``dag.test()`` up while it is asked: Airflow 3.2 asks early, and lets go of it."""
    if AIRFLOW != (3, 2):
        return
    from airflow.sdk.execution_time import supervisor

    submit, make = asyncio.run_coroutine_threadsafe, supervisor.in_process_api_server
    kept: list[Any] = []

    def submit_and_wait(coroutine: Any, loop: Any) -> Any:
        future = submit(coroutine, loop)
        if coroutine.__name__ == "start_lifespan":
            future.result(60)
        return future

    def make_and_keep() -> Any:
        kept.append(make())
        return kept[-1]

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", submit_and_wait)
    monkeypatch.setattr(supervisor, "in_process_api_server", make_and_keep)


def _values(run: Any) -> list[dict[str, Any]]:
    """Return the values that the tasks of a run returned, which are mappings."""
    found = []
    for ti in run.get_task_instances():
        value = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key="return_value")
        if isinstance(value, dict):
            found.append(value)
    return found


def _check_setting(name: str, value: Any) -> None:
    """See that an environment variable of Airflow's means something."""
    if name.startswith("AIRFLOW_CONN_"):
        text = str(value)
        if text.startswith("{"):
            _check_connection(json.loads(text))
        else:
            _check_connection_uri(text)
    elif option := re.fullmatch(r"AIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)", name):
        _check_option(option[1].lower(), option[2].lower())
    else:
        assert name == "AIRFLOW_HOME", f"Airflow does not read {name}"


def _check_option(section: str, option: str) -> None:
    from airflow.configuration import conf

    known = (section, option) in OUR_OPTIONS or option in conf.configuration_description.get(section, {}).get(
        "options", {}
    )
    assert known, f"Airflow {airflow_version} has no option {option!r} in [{section}]"


def _is_connection(value: Any) -> bool:
    return isinstance(value, dict) and "conn_type" in value


def _check_connection(fields: Mapping[str, Any]) -> None:
    from airflow.models.connection import Connection

    _check_read(Connection.from_json(json.dumps(fields), conn_id="shown"))


def _check_connection_uri(uri: str) -> None:
    from airflow.models.connection import Connection

    _check_read(Connection(conn_id="shown", uri=uri))


def _check_read(connection: Any) -> None:
    from airflow_provider_diffio.hooks.connection import EXTRA_FIELDS, DiffioConnection

    if connection.conn_type != "diffio":
        assert connection.conn_type in {"aws", "fs", "sftp", "google_cloud_platform", "wasb"}
        return
    unknown = set(connection.extra_dejson) - set(EXTRA_FIELDS)
    assert not unknown, f"a Diffio connection has no {', '.join(unknown)}"
    assert DiffioConnection.read(connection).settings.api_key


def _settings_in(content: Any) -> Iterator[tuple[str, Any]]:
    """Find environment variables of Airflow's, as a mapping or as a list of names and values."""
    if isinstance(content, list):
        for item in content:
            yield from _settings_in(item)
    if not isinstance(content, dict):
        return
    if str(content.get("name", "")).startswith("AIRFLOW"):
        yield content["name"], content.get("value", "")
    for name, value in content.items():
        if str(name).startswith("AIRFLOW"):
            yield name, value
        else:
            yield from _settings_in(value)


def _serve_airflow(
    listener: socket.socket, process: subprocess.Popen[str], adopt: Callable[[Mapping[str, str]], None]
) -> None:
    """
    Serve Airflow's command line to a shell, until it ends, without the seconds that each start takes.

    In this very thread, since Airflow sets signal handlers.
    """
    listener.settimeout(0.05)
    give_up = time.monotonic() + PATIENCE
    while process.poll() is None:
        if time.monotonic() > give_up:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(TimeoutError):
            line, _ = listener.accept()
            with line:
                with line.makefile("rb") as request:
                    arguments, settings = json.loads(request.read())
                line.sendall(json.dumps(_airflow(arguments, settings, adopt)).encode())


class Written(io.TextIOBase):
    """Takes what Airflow's commands write. There is one for ever, since loggers keep what they were given."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str, /) -> int:
        self._text += text
        return len(text)

    def take(self) -> str:
        """Return what was written since the last call."""
        text, self._text = self._text, ""
        return text


WRITTEN = Written()


def _airflow(
    arguments: list[str], settings: Mapping[str, str], adopt: Callable[[Mapping[str, str]], None]
) -> tuple[int, str, str]:
    """Run one command of Airflow's in this process."""
    from airflow.cli.cli_parser import get_parser

    code, err = 0, io.StringIO()
    WRITTEN.take()
    with mock.patch.object(sys, "argv", ["airflow", *arguments]):
        try:
            adopt(settings)
            with contextlib.redirect_stdout(WRITTEN), contextlib.redirect_stderr(err):
                options = get_parser().parse_args(arguments)
                options.func(options)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            err.write("" if isinstance(end.code, int | None) else str(end.code))
        except Exception as error:
            code = 1
            err.write(f"{type(error).__name__}: {error}")
    return code, WRITTEN.take(), err.getvalue()
