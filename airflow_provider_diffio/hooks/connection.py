"""An Airflow connection of type ``diffio``: what its fields mean, and how its form looks."""

from __future__ import annotations

import difflib
import ipaddress
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from airflow_provider_diffio.api.endpoints import DEFAULT_MODEL, check_model
from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError
from airflow_provider_diffio.api.results import Secret
from airflow_provider_diffio.api.retry import RetryPolicy
from airflow_provider_diffio.api.settings import (
    DEFAULT_BASE_URL,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_REQUEST_TIMEOUT,
    ClientSettings,
)
from airflow_provider_diffio.api.webhooks import split_secrets
from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS

log = logging.getLogger(__name__)

EXTRA_FIELDS = tuple(CONN_FIELDS)
#: ``auth_header`` is read too; see above why the form calls it ``key_header``.
_KNOWN_EXTRAS = (*EXTRA_FIELDS, "auth_header")

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True)
class DiffioConnection(Secret):
    """
    A Diffio connection, read and checked.

    :ivar settings: where Diffio is, and as whom to talk to it.
    :ivar model: the default model id.
    :ivar output_path: root of relative paths, or None.
    :ivar ledger_path: where restorations are recorded, for tasks that name no ledger; or None.
    :ivar max_in_flight: how many generations one batch may have at Diffio at a time; None for no cap.
    :ivar webhook_secret: the signing secret or secrets as they stand in the connection, or None.
    """

    instead: ClassVar[str] = "the id of the connection"

    settings: ClientSettings
    model: str = DEFAULT_MODEL
    output_path: str | None = None
    ledger_path: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    max_in_flight: int | None = None

    @classmethod
    def read(cls, connection: Any) -> DiffioConnection:
        """
        Read an Airflow connection, wherever it is configured; a URI connection's extras are all strings.

        :param connection: Airflow's Connection object.
        :raises DiffioConfigurationError: when a field is missing or cannot be what it says.
        """
        conn_id = connection.conn_id
        try:
            extra = _read_extra(connection.extra)
            _warn_of_unknown(extra, conn_id)
            settings = ClientSettings(
                api_key=connection.password or "",
                base_url=_base_url(connection),
                auth_header=_text(extra, "key_header") or _text(extra, "auth_header") or "Authorization",
                timeout=_number(extra, "timeout", DEFAULT_REQUEST_TIMEOUT),
                retry=RetryPolicy(max_attempts=_whole(extra, "max_attempts", DEFAULT_MAX_ATTEMPTS)),
                headers=_read_headers(extra.get("headers")),
                proxy=_text(extra, "proxy"),
                verify=_read_verify(extra.get("verify")),
                allow_private_http=_flag(extra, "allow_private_http"),
            )
            return cls(
                settings,
                _read_model(extra),
                output_path=_text(extra, "output_path"),
                ledger_path=_text(extra, "ledger_path"),
                webhook_secret=_text(extra, "webhook_secret"),
                max_in_flight=_read_cap(extra),
            )
        except DiffioConfigurationError as error:
            error.message = f"Connection {conn_id!r}: {error.message}"
            raise

    def mask_secrets(self) -> None:
        """
        Have Airflow mask the connection's secrets in the logs of this process.

        Airflow itself masks the password and the extras whose names it knows, on a worker; the values of
        ``headers`` and whatever else is secret it does not. To be called wherever a connection was read,
        triggers included.
        """
        from airflow.providers.common.compat.sdk import mask_secret

        for secret in self.secrets():
            mask_secret(secret)

    def secrets(self) -> list[str]:
        """Return every secret of the connection, so that it can be masked in logs."""
        found = [self.settings.api_key, *self.settings.headers.values()]
        if self.webhook_secret:
            found += split_secrets(self.webhook_secret)
        if password := _proxy_password(self.settings.proxy):
            # As it stands in the URL, and as it is sent.
            found += dict.fromkeys([password, unquote(password)])
        return found


def _base_url(connection: Any) -> str:
    host = (connection.host or "").strip()
    schema = (connection.schema or "").strip().strip("/")
    if not host:
        return DEFAULT_BASE_URL
    # The schema field may be the URL's scheme, or, in a connection written as a URI, its path.
    scheme, path = (schema.lower(), "") if schema.lower() in ("http", "https") else ("https", schema)
    if "://" in host:
        scheme, _, host = host.partition("://")
    name, _, rest = host.partition("/")
    if _is_ipv6(name):
        # Airflow takes the brackets off the host of a URI.
        name = f"[{name}]"
    # The last colon of [::1] belongs to the address.
    has_port = ":" in name.rpartition("]")[2]
    port = f":{connection.port}" if connection.port and not has_port else ""
    rest = rest.strip("/")
    if path and path == rest:
        path = ""
    return "/".join(part for part in (f"{scheme}://{name}{port}", rest, path) if part)


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


def unknown_extras(extra: str | None) -> list[tuple[str, str | None]]:
    """
    Return the names in a connection's extra that nothing reads, above all misspelled ones.

    :param extra: the extra as it stands in the connection; one that is no JSON object has no names.
    :return: each with the known name that is nearest, if one is near.
    """
    try:
        return _unknown_in(_read_extra(extra))
    except DiffioConfigurationError:
        return []


def _unknown_in(extra: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    unknown = [name for name in extra if name not in _KNOWN_EXTRAS]
    return [
        (name, next(iter(difflib.get_close_matches(name.lower(), _KNOWN_EXTRAS, n=1)), None))
        for name in unknown
    ]


def _warn_of_unknown(extra: Mapping[str, Any], conn_id: str) -> None:
    for name, near in _unknown_in(extra):
        log.warning(
            "Connection %r: the extra %.80r is unknown and ignored.%s",
            conn_id,
            name,
            f" Is {near!r} meant?" if near else "",
        )


def _proxy_password(proxy: str | None) -> str | None:
    if not proxy:
        return None
    try:
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}").password
    except ValueError:
        return None


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        # The value is not shown, since some of these are secrets.
        raise DiffioConfigurationError(f"extra '{name}' must be a string, not {type(value).__name__}.")
    return (value or "").strip() or None


def _read_model(extra: Mapping[str, Any]) -> str:
    try:
        return check_model(_text(extra, "model") or DEFAULT_MODEL)
    except DiffioConfigurationError:
        raise
    except DiffioInputError as error:
        raise DiffioConfigurationError(f"extra 'model': {error.message}") from None


def _read_cap(extra: Mapping[str, Any]) -> int | None:
    cap = _whole(extra, "max_in_flight", 0)
    if cap < 0 or (cap == 0 and extra.get("max_in_flight") not in (None, "")):
        raise DiffioConfigurationError(f"extra 'max_in_flight' must be at least 1, not {cap}.")
    return cap or None


def _read_extra(extra: str | None) -> dict[str, Any]:
    if not extra:
        return {}
    try:
        decoded = json.loads(extra)
    except ValueError:
        raise DiffioConfigurationError("The extra field is not JSON.") from None
    if decoded is None:
        return {}
    if not isinstance(decoded, dict):
        raise DiffioConfigurationError("The extra field is not a JSON object.")
    return decoded


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DiffioConfigurationError(f"extra '{name}' must be a number, not {value!r:.40}.")
    return number


def _whole(extra: Mapping[str, Any], name: str, default: int) -> int:
    number = _number(extra, name, default)
    if number != int(number):
        raise DiffioConfigurationError(f"extra '{name}' must be a whole number, not {number!r}.")
    return int(number)


def _flag(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    word = str(value).strip().lower()
    if value is None or word == "" or word in _FALSE:
        return False
    if isinstance(value, (bool, str)) and word in _TRUE:
        return True
    raise DiffioConfigurationError(f"extra '{name}' must be true or false, not {value!r:.40}.")


def _read_verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise DiffioConfigurationError("extra 'verify' must be true, false, or the path of a CA bundle.")
    word = value.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    return value


def _read_headers(value: Any) -> dict[str, str]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        # The value is not shown, since a header may hold a credential.
        raise DiffioConfigurationError("extra 'headers' must be a JSON object of strings.")
    return value
