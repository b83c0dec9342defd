"""``doctor``: what keeps a Diffio connection from working, each with its cause and its fix."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_diffio import _compat
from airflow_provider_diffio.cli import findings
from airflow_provider_diffio.cli.airflow_checks import check_airflow, check_webhooks
from airflow_provider_diffio.cli.connection_checks import check_fields, find_connection, secrets_in
from airflow_provider_diffio.cli.findings import Finding
from airflow_provider_diffio.cli.service_checks import check_service
from airflow_provider_diffio.cli.store_checks import check_stores
from airflow_provider_diffio.hooks.connection import DiffioConnection

Check = Callable[[], Iterable[Finding]]

#: Seconds for all checks together, which run side by side.
BUDGET = 4.0


def run(arguments: argparse.Namespace) -> None:
    """
    Print what was found.

    :param arguments: ``diffio_conn_id`` and ``json``.
    :raises SystemExit: with 1 when there is a problem.
    """
    conn_id = arguments.diffio_conn_id
    found = examine(conn_id)
    show = findings.as_json if arguments.json else findings.as_text
    sys.stdout.write(show(conn_id, found) + "\n")
    if any(finding.level == "problem" for finding in found):
        raise SystemExit(1)


def examine(conn_id: str) -> list[Finding]:
    """
    Return what there is to say about a connection and the Airflow around it, in at most some seconds.

    :param conn_id: id of the Diffio connection.
    """
    _compat.use_metastore()
    connection, found = find_connection(conn_id)
    if connection is None:
        return [*found, *_side_by_side({"airflow": check_airflow})]
    secrets = secrets_in(connection)
    config, fields = check_fields(connection)
    found += fields
    checks: dict[str, Check] = {"airflow": check_airflow}
    if config is not None:
        checks = {**_checks_of(conn_id, config), **checks}
    found += _side_by_side(checks)
    return findings.without_secrets(found, secrets)


def _checks_of(conn_id: str, config: DiffioConnection) -> dict[str, Check]:
    return {
        "service": lambda: check_service(config, BUDGET),
        "stores": lambda: check_stores(config, conn_id),
        "webhooks": lambda: check_webhooks(conn_id, config),
    }


def _side_by_side(checks: dict[str, Check]) -> list[Finding]:
    """Run checks in threads, and leave those behind that hang, such as a store that is away."""
    results: dict[str, list[Finding]] = {name: [] for name in checks}
    threads = [
        threading.Thread(target=_keep, args=(name, check, results[name]), daemon=True)
        for name, check in checks.items()
    ]
    deadline = time.monotonic() + BUDGET
    for thread in threads:
        thread.start()
    found: list[Finding] = []
    for (name, result), thread in zip(results.items(), threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        found += list(result)
        if thread.is_alive():
            found.append(
                Finding(
                    name,
                    "problem",
                    f"Checking this took longer than {BUDGET:g} s.",
                    "Something does not respond: look at the network between this machine and it.",
                )
            )
    return found


def _keep(name: str, check: Check, result: list[Any]) -> None:
    try:
        # One by one, so that what was found before it hangs is not lost.
        for finding in check():
            result.append(finding)  # noqa: PERF402
    except Exception as error:
        result.append(
            Finding(name, "unknown", f"This could not be checked: {type(error).__name__}: {error!s:.300}")
        )
