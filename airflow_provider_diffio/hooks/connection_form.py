"""The connection form of Airflow before 3.2, made from the same description as the newer one."""

from __future__ import annotations

from typing import Any

from airflow_provider_diffio.api.defaults import (
    AUTH_HEADERS,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MODEL,
    DEFAULT_REQUEST_TIMEOUT,
)
from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS, UI_FIELD_BEHAVIOUR

#: What Airflow 2 shows in empty fields; Airflow 3 can do that for the standard fields alone.
PLACEHOLDERS = {
    "port": "443",
    "output_path": "s3://aws_default@restored",
    "ledger_path": "s3://aws_default@restored/.diffio-ledger",
    "model": DEFAULT_MODEL,
    "webhook_secret": "whsec_...",
    "timeout": f"{DEFAULT_REQUEST_TIMEOUT:.0f}",
    "max_attempts": str(DEFAULT_MAX_ATTEMPTS),
    "max_in_flight": "500",
    "key_header": AUTH_HEADERS[0],
    "headers": '{"X-Team": "audio"}',
    "proxy": "http://user:password@proxy:3128",
    "verify": "true",
    "allow_private_http": "false",
}

#: What Airflow 2 takes for "as it is stored", when a connection is saved.
UNCHANGED = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"


def connection_form_widgets() -> dict[str, Any]:
    """Return one WTForms field for each of the connection's extras."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional, any_of

    class SecretWidget(BS3PasswordFieldWidget):
        """Stars in the place of a stored secret: Airflow 2 forgets one whose field comes back empty."""

        def __init__(self) -> None:
            super().__init__()
            self.hide_value = False

        def __call__(self, field: Any, **attributes: Any) -> Any:
            if field.data:
                attributes["value"] = UNCHANGED
            return super().__call__(field, **attributes)

    widgets: dict[str, Any] = {}
    for name, conn_field in CONN_FIELDS.items():
        schema = conn_field["schema"]
        secret = schema.get("format") == "password"
        kind, widget = (PasswordField, SecretWidget()) if secret else (StringField, BS3TextFieldWidget())
        # Airflow 3.0 and 3.1 make a list to choose from of this; an empty field is one of another type, too.
        choices = [any_of(schema["enum"])] if "enum" in schema else []
        widgets[name] = kind(
            lazy_gettext(conn_field["label"]),
            widget=widget,
            description=conn_field["description"],
            validators=[Optional(), *choices],
        )
    return widgets


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the fields look, in the older spelling."""
    return {
        "hidden_fields": list(UI_FIELD_BEHAVIOUR["hidden-fields"]),
        "relabeling": dict(UI_FIELD_BEHAVIOUR["relabeling"]),
        "placeholders": UI_FIELD_BEHAVIOUR["placeholders"] | PLACEHOLDERS,
    }
