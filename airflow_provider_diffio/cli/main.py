"""The same commands without Airflow's command line, which has none for providers before 3.2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from airflow_provider_diffio import __version__
from airflow_provider_diffio.cli.commands import COMMANDS, Command


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run one command.

    :param arguments: the words after the program's name; those of this process when not given.
    :raises SystemExit: with the command's exit code: 0, 1 when something is wrong, 2 for a wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_diffio", description="Diffio: find problems, restore recordings."
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add(parser, COMMANDS)
    given = parser.parse_args(arguments)
    module, _, function = given.run.rpartition(".")
    getattr(import_module(module), function)(given)


def _add(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        own = parsers.add_parser(command.name, help=command.help, description=f"{command.help}.")
        for argument in command.arguments:
            own.add_argument(*argument.flags, **argument.options)
        if command.commands:
            _add(own, command.commands)
        else:
            own.set_defaults(run=command.run)
