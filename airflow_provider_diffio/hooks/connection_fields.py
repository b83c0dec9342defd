"""
The form of a connection, as data. Every ``airflow`` command reads it, so this imports hardly anything.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_diffio.api.defaults import (
    AUTH_HEADERS,
    DEFAULT_BASE_URL,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MODEL,
    DEFAULT_REQUEST_TIMEOUT,
)

#: Where the form of Airflow 3 shows what few connections need.
HTTP_SECTION = "HTTP"

#: The form as data, which Airflow 3.2 and later read without importing the hook. No field has a default: a
#: form would save it, and the connection would keep it when the provider's own changes.
CONN_FIELDS: dict[str, Any] = {
    "output_path": {
        "label": "Output path",
        "description": (
            "What relative paths are relative to: a local directory, or scheme://conn_id@bucket/prefix, "
            "such as s3://aws_default@restored."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "ledger_path": {
        "label": "Ledger path",
        "description": (
            "Where restorations are recorded, so that a recording is paid for once: a directory, or "
            "scheme://conn_id@bucket/prefix. Empty: no ledger."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "model": {
        "label": "Default model",
        "description": f"For tasks that name none. Empty: {DEFAULT_MODEL}.",
        "schema": {"type": ["string", "null"], "examples": [DEFAULT_MODEL, "diffio-4.6-pro"]},
    },
    "webhook_secret": {
        "label": "Webhook secret",
        "description": "whsec_..., from Diffio's dashboard, for events. Comma-separated while rotating.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout",
        "description": f"Seconds for connecting, and for each read. Empty: {DEFAULT_REQUEST_TIMEOUT:.0f}.",
        "schema": {"type": ["number", "null"], "minimum": 1, "section": HTTP_SECTION},
    },
    "max_attempts": {
        "label": "Attempts",
        "description": (
            f"How often a request that is safe to send again is sent. Empty: {DEFAULT_MAX_ATTEMPTS}."
        ),
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 100, "section": HTTP_SECTION},
    },
    "max_in_flight": {
        "label": "Generations at a time",
        "description": "The most that one batch may have at Diffio at a time. Empty: what the task says.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "section": HTTP_SECTION},
    },
    # Not "auth_header": Airflow takes that for a secret, and its form would show and save "***" instead.
    "key_header": {
        "label": "API key header",
        "description": "Authorization (as a bearer token), X-Api-Key or Xi-Api-Key. Empty: Authorization.",
        "schema": {"type": ["string", "null"], "enum": list(AUTH_HEADERS), "section": HTTP_SECTION},
    },
    "headers": {
        "label": "Further headers",
        "description": 'For the API host alone: a JSON object of strings, such as {"X-Team": "audio"}.',
        "schema": {"type": ["string", "object", "null"], "format": "json", "section": HTTP_SECTION},
    },
    "proxy": {
        "label": "Proxy",
        "description": "An http:// or https:// URL, such as http://user:password@proxy:3128.",
        "schema": {"type": ["string", "null"], "format": "password", "section": HTTP_SECTION},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a CA bundle. Empty: true.",
        "schema": {"type": ["string", "null"], "examples": ["true", "false"], "section": HTTP_SECTION},
    },
    "allow_private_http": {
        "label": "Plain http to private hosts",
        "description": (
            "true lets the API key go over plain http to a host of a private network, such as a sandbox in"
            " another container. Everyone in that network can read it. Empty: false."
        ),
        "schema": {"type": ["string", "null"], "enum": ["true", "false"], "section": HTTP_SECTION},
    },
}

#: How the standard fields look. The port stays: Airflow 3.3 refuses to test a connection without one.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {
        "password": "required: diffio_live_...",
        "host": DEFAULT_BASE_URL,
        "port": "443; needed by the test button of Airflow 3.3",
    },
}
