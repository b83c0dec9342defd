"""``ledger``: show, verify, forget, prune and export what is recorded of restorations."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_diffio import _compat
from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError
from airflow_provider_diffio.cli.restore import absolute
from airflow_provider_diffio.hooks.diffio import DiffioHook
from airflow_provider_diffio.ledger import maintenance
from airflow_provider_diffio.ledger.ledger import Ledger
from airflow_provider_diffio.ledger.record import Record


def show(arguments: argparse.Namespace) -> None:
    """
    Print a line for each record, or all of those that a text names.

    :param arguments: ``text``, ``state``, ``ledger`` and ``diffio_conn_id``.
    :raises SystemExit: with 1 when nothing is found by the text, or the ledger cannot be read.
    """
    with _opened(arguments) as (ledger, _):
        if arguments.text is None:
            found = 0
            for record in maintenance.list_records(ledger, state=arguments.state):
                _say(_line(record))
                found += 1
            _say(f"Records: {found}.")
            return
        records = _found(ledger, arguments.text)
        for record in records:
            _say(_line(record))
            for written in record.files:
                _say(f"    file {written.file.path} ({written.file.size_bytes} bytes)")
            if record.error:
                _say(f"    error: {record.error}")


def verify(arguments: argparse.Namespace) -> None:
    """
    Check that every recorded file is there, and print those that are not as they were.

    :param arguments: ``digests``, ``ledger`` and ``diffio_conn_id``.
    :raises SystemExit: with 1 when a file is missing, changed or unreadable.
    """
    with _opened(arguments) as (ledger, hook):
        counts: dict[str, int] = {}
        for checked in maintenance.verify(ledger, hook.locate, digests=arguments.digests):
            counts[checked.status] = counts.get(checked.status, 0) + 1
            if checked.status != "ok":
                reason = f": {checked.reason}" if checked.reason else ""
                _say(f"{checked.status} {checked.file.path}{reason}")
        _say(f"Files: {', '.join(f'{number} {status}' for status, number in counts.items()) or 'none'}.")
        if set(counts) - {"ok"}:
            raise SystemExit(1)


def forget(arguments: argparse.Namespace) -> None:
    """
    Remove the records that a text names.

    :param arguments: ``text``, ``yes``, ``ledger`` and ``diffio_conn_id``.
    :raises SystemExit: with 1 when nothing is found by it, or nobody agreed.
    """
    with _opened(arguments) as (ledger, _):
        records = _found(ledger, arguments.text)
        for record in records:
            _say(_line(record))
        _agree(
            arguments.yes, f"Forget {len(records)}? The next restoration starts, and pays for, another one."
        )
        for record in records:
            maintenance.forget(ledger, record)
        _say(f"Forgot {len(records)}.")


def prune(arguments: argparse.Namespace) -> None:
    """
    Remove finished records that nobody has written to for some days.

    :param arguments: ``days``, ``dry_run``, ``yes``, ``ledger`` and ``diffio_conn_id``.
    :raises SystemExit: with 1 when nobody agreed.
    """
    with _opened(arguments) as (ledger, _):
        if arguments.days < 0:
            raise DiffioInputError(f"--days must not be negative, not {arguments.days:g}.")
        age = dt.timedelta(days=arguments.days)
        old = maintenance.prune(ledger, older_than=age, dry_run=True)
        if arguments.dry_run or not old:
            _say(f"Records to forget: {old}.")
            return
        _agree(arguments.yes, f"Forget {old}? What turns up again is restored, and billed, again.")
        _say(f"Forgot {maintenance.prune(ledger, older_than=age)}.")


def export(arguments: argparse.Namespace) -> None:
    """
    Write the ledger as CSV.

    :param arguments: ``output``, ``ledger`` and ``diffio_conn_id``.
    """
    with _opened(arguments) as (ledger, _):
        if arguments.output is None:
            maintenance.export_csv(ledger, sys.stdout)
            return
        with Path(arguments.output).open("w", newline="", encoding="utf-8") as stream:
            rows = maintenance.export_csv(ledger, stream)
        _say(f"Wrote {rows} rows to {arguments.output}.")


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple[Ledger, DiffioHook]]:
    """Open the ledger that is named, or the connection's; say in a sentence what does not work."""
    _compat.use_metastore()
    hook = DiffioHook(arguments.diffio_conn_id)
    try:
        place = absolute(arguments.ledger) if arguments.ledger else hook.config.ledger_path
        if not place:
            raise DiffioInputError(
                f"The connection {arguments.diffio_conn_id!r} has no ledger_path.",
                advice="Give the ledger: --ledger s3://aws_default@restored/.diffio-ledger/",
            )
        location = hook.locate(place)
        if not location.child("ledger.json").exists():
            # To open it would begin a new one, and a mistyped path has none.
            raise DiffioInputError(f"There is no ledger at {location.uri}.", advice="Correct its path.")
        with Ledger.open(location) as ledger:
            yield ledger, hook
    except DiffioError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    finally:
        hook.close()


def _found(ledger: Ledger, text: str) -> list[Record]:
    records = maintenance.find_records(ledger, text)
    if not records:
        raise DiffioInputError(
            f"No record names {text!r:.200}.",
            advice="Give the path of a recording or restored file, or the id of a generation or project.",
        )
    return records


def _agree(yes: bool, question: str) -> None:
    if yes:
        return
    try:
        agreed = input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        agreed = False
    if not agreed:
        sys.stderr.write("Nothing was changed. Add --yes to agree without a question.\n")
        raise SystemExit(1)


def _line(record: Record) -> str:
    sources = ", ".join(place.uri for place in record.sources) or record.content
    return f"{record.state:<8} {record.request.model:<18} {record.generation_id or '-':<36} {sources}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
