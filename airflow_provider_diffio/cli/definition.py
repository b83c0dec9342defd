"""``airflow diffio``, as Airflow 3.2 and later ask for it. Every ``airflow`` command imports this."""

from __future__ import annotations

from typing import Any

from airflow_provider_diffio.cli.commands import COMMANDS, Command


def get_commands() -> list[Any]:
    """Return the group ``diffio`` in the form of Airflow's command line."""
    from airflow.cli.cli_config import GroupCommand

    return [
        GroupCommand(
            name="diffio",
            help="Diffio: find problems, restore recordings",
            subcommands=tuple(_in_airflow(command) for command in COMMANDS),
        )
    ]


def _in_airflow(command: Command) -> Any:
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

    if command.commands:
        return GroupCommand(
            name=command.name,
            help=command.help,
            subcommands=tuple(_in_airflow(each) for each in command.commands),
        )
    return ActionCommand(
        name=command.name,
        help=command.help,
        func=lazy_load_command(command.run),
        args=tuple(Arg(argument.flags, **argument.options) for argument in command.arguments),
    )
