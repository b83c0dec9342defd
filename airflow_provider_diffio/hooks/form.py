"""The connection form of Airflow before 3.2, made from the same description as the newer one."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_diffio.hooks.connection import CONN_FIELDS, UI_FIELD_BEHAVIOUR


def connection_form_widgets() -> dict[str, Any]:
    """Return one WTForms field for each of the connection's extras."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import PasswordField, StringField

    widgets: dict[str, Any] = {}
    for name, conn_field in CONN_FIELDS.items():
        secret = conn_field["schema"].get("format") == "password"
        kind, widget = (
            (PasswordField, BS3PasswordFieldWidget()) if secret else (StringField, BS3TextFieldWidget())
        )
        default = conn_field["schema"].get("default")
        widgets[name] = kind(
            lazy_gettext(conn_field["label"]),
            widget=widget,
            description=conn_field.get("description", ""),
            default=None if default is None else str(default),
        )
    return widgets


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the standard fields look, in the older spelling."""
    behaviour = {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}
    return json.loads(json.dumps(behaviour))  # type: ignore[no-any-return]
