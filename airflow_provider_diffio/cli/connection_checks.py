"""Whether the connection exists and its fields make sense. Nothing is sent."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_diffio.api.errors import DiffioConfigurationError
from airflow_provider_diffio.cli.findings import Finding
from airflow_provider_diffio.hooks.connection import DiffioConnection, unknown_extras

_KEY_PREFIX = "diffio_"
#: Where a request's timeout begins to be of no use.
_LONG_TIMEOUT = 900.0


def find_connection(conn_id: str) -> tuple[Any, list[Finding]]:
    """
    Return Airflow's connection and what is to be said of where it is.

    :param conn_id: the connection's id.
    :return: None with a problem when there is no such connection.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        if variable in os.environ:
            # Airflow passes over what it cannot read.
            return None, [_unreadable(conn_id, f"the environment variable {variable} is none")]
        return None, [
            Finding(
                "connection",
                "problem",
                f"There is no connection {conn_id!r}: neither in {variable}, nor in a secrets backend, nor in"
                " Airflow's database.",
                "Create it with: airflow connections add --conn-type diffio --conn-password KEY"
                f" {conn_id}; or give doctor the id that your DAGs use.",
            )
        ]
    except Exception as error:
        return None, [_unreadable(conn_id, type(error).__name__)]
    return connection, _check_type(connection)


def _unreadable(conn_id: str, reason: str) -> Finding:
    return Finding(
        "connection",
        "problem",
        f"The connection {conn_id!r} cannot be read: {reason}.",
        'An environment variable must be the JSON or the URI of a connection: \'{"conn_type": "diffio",'
        ' "password": "KEY"}\'. Otherwise look at the secrets backend.',
    )


def _check_type(connection: Any) -> list[Finding]:
    if connection.conn_type == "diffio":
        return []
    return [
        Finding(
            "connection",
            "problem",
            f"The connection is of the type {connection.conn_type!r}, not 'diffio'.",
            "Set its type to Diffio. If Airflow does not offer that, this provider is not installed where"
            " Airflow runs.",
        )
    ]


def check_fields(connection: Any) -> tuple[DiffioConnection | None, list[Finding]]:
    """
    Read the connection's fields.

    :param connection: Airflow's connection.
    :return: the connection as it was read, or None; and what is wrong with it.
    """
    try:
        config = DiffioConnection.read(connection)
    except DiffioConfigurationError as error:
        message = error.message.removeprefix(f"Connection {connection.conn_id!r}: ")
        return None, [*_check_extras(connection), Finding("connection", "problem", message, error.advice)]
    key = config.settings.auth_header
    found = [
        Finding("connection", "ok", f"{config.settings.base_url}, with an API key in the header {key}."),
        *_check_extras(connection),
        *_check_key(config.settings.api_key),
        *_check_values(config),
    ]
    return config, found


def _check_extras(connection: Any) -> list[Finding]:
    return [
        Finding(
            "connection",
            "problem",
            f"The extra {name!r:.80} is unknown and ignored.",
            f"Write {near!r}." if near else "Remove it, or see the documentation for the name that is meant.",
        )
        for name, near in unknown_extras(connection.extra)
    ]


def _check_key(key: str) -> list[Finding]:
    if key.lower().startswith("bearer"):
        return [
            Finding(
                "key",
                "problem",
                "The password begins with the word Bearer, which is no part of a key.",
                "Put the key alone into the connection's password.",
            )
        ]
    if key.startswith("whsec_"):
        return [
            Finding(
                "key",
                "problem",
                "The password is a webhook's signing secret, not an API key.",
                "Put it into the extra webhook_secret, and the API key into the password.",
            )
        ]
    if not key.startswith(_KEY_PREFIX):
        return [
            Finding("key", "note", f"The API key does not begin with {_KEY_PREFIX}, as Diffio's keys do.")
        ]
    return []


def _check_values(config: DiffioConnection) -> list[Finding]:
    found = []
    settings = config.settings
    if settings.verify is False:
        found.append(
            Finding(
                "TLS",
                "problem",
                "The extra 'verify' is false: anybody on the way can read the API key and the recordings.",
                "Remove it, or give it the path of your own CA's bundle.",
            )
        )
    if settings.timeout > _LONG_TIMEOUT or settings.timeout < 1:
        found.append(
            Finding(
                "connection",
                "note",
                f"The extra 'timeout' is {settings.timeout:g} s for each read of each request.",
                "Some seconds up to some minutes are usual; it is not the time for a whole restoration.",
            )
        )
    return found


def secrets_in(connection: Any) -> list[str]:
    """
    Return whatever may be secret in a connection, also in one that cannot be read.

    :param connection: Airflow's connection.
    """
    found = [connection.password or ""]
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = {}
    if isinstance(extra, dict):
        found += str(extra.get("webhook_secret") or "").split(",")
        headers = extra.get("headers")
        if isinstance(headers, str):
            try:
                headers = json.loads(headers)
            except ValueError:
                headers = {"": headers}
        found += [str(value) for value in headers.values()] if isinstance(headers, dict) else []
        found += _password_of(str(extra.get("proxy") or ""))
    found += _password_of(str(connection.host or ""))
    return [text for secret in found for text in (secret, secret.strip()) if text]


def _password_of(url: str) -> list[str]:
    try:
        password = urlsplit(url if "://" in url else f"http://{url}").password or ""
    except ValueError:
        return [url]
    return [password, unquote(password)]
