"""The commands as data, of which both command lines are made. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_ROOM = "airflow_provider_diffio.cli"


class Argument(NamedTuple):
    """
    One argument, in the words of :mod:`argparse`.

    :ivar flags: its flags, or its name.
    :ivar options: ``help``, ``default``, ``nargs``, ...
    """

    flags: tuple[str, ...]
    options: Mapping[str, Any]


class Command(NamedTuple):
    """
    One command, or a group of them.

    :ivar name: what is typed.
    :ivar help: one sentence.
    :ivar run: path of the function that takes the parsed arguments; empty for a group.
    :ivar arguments: what it takes.
    :ivar commands: those of a group.
    """

    name: str
    help: str
    run: str = ""
    arguments: tuple[Argument, ...] = ()
    commands: tuple[Command, ...] = ()


def _argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


_CONN_ID = _argument(
    "--diffio-conn-id", default="diffio_default", help="id of the Diffio connection (diffio_default)"
)

_LEDGER = (
    _argument("--ledger", help="the ledger's path or URL; the connection's ledger_path if not given"),
    _CONN_ID,
)
_YES = _argument("--yes", action="store_true", help="ask no question")

COMMANDS = (
    Command(
        "doctor",
        "Find out what keeps a Diffio connection from working; sends no recording and costs nothing",
        f"{_ROOM}.doctor.run",
        (
            _argument(
                "diffio_conn_id",
                nargs="?",
                default="diffio_default",
                help="id of the Diffio connection (diffio_default)",
            ),
            _argument("--json", action="store_true", help="print the findings as JSON"),
        ),
    ),
    Command(
        "restore",
        "Restore recordings; each one is uploaded and billed",
        f"{_ROOM}.restore.run",
        (
            _argument("files", nargs="+", metavar="FILE", help="path or URI of a recording"),
            _argument(
                "-o",
                "--output",
                default=".",
                help="directory or URI for the restored files; the current directory if not given",
            ),
            _CONN_ID,
            _argument("--model", help="model id; the connection's if not given"),
            _argument(
                "--download-type",
                choices=("audio", "video", "transcript"),
                help="what to write; the audio, or the video of a video recording, if not given",
            ),
            _argument("--overwrite", action="store_true", help="replace files that are there"),
            _argument("--timeout", type=float, default=6 * 3600.0, help="seconds for each recording (21600)"),
            _argument("--jobs", type=int, default=4, help="recordings at a time (4)"),
        ),
    ),
    Command(
        "ledger",
        "What is recorded of restorations",
        commands=(
            Command(
                "show",
                "List the records, or those of one recording, file, generation or project",
                f"{_ROOM}.ledger.show",
                (
                    _argument(
                        "text", nargs="?", help="path or URL of a recording or restored file, or an id"
                    ),
                    _argument(
                        "--state",
                        choices=("claimed", "released", "started", "failed", "done"),
                        help="only those in this state",
                    ),
                    *_LEDGER,
                ),
            ),
            Command(
                "verify",
                "Check that every recorded file is there and as long as it was",
                f"{_ROOM}.ledger.verify",
                (_argument("--digests", action="store_true", help="read each file and compare it"), *_LEDGER),
            ),
            Command(
                "forget",
                "Forget records; the next restoration of such a recording is billed again",
                f"{_ROOM}.ledger.forget",
                (
                    _argument("text", help="path or URL of a recording or restored file, or an id"),
                    _YES,
                    *_LEDGER,
                ),
            ),
            Command(
                "prune",
                "Forget finished records that are old",
                f"{_ROOM}.ledger.prune",
                (
                    _argument("--days", type=float, required=True, help="not written to for so many days"),
                    _argument("--dry-run", action="store_true", help="only count them"),
                    _YES,
                    *_LEDGER,
                ),
            ),
            Command(
                "export",
                "Write the ledger as CSV",
                f"{_ROOM}.ledger.export",
                (
                    _argument("-o", "--output", help="file to write; standard output if not given"),
                    *_LEDGER,
                ),
            ),
        ),
    ),
)
