"""The package's description for Airflow. A mistake here stops every ``airflow`` command, so it is tested."""

from __future__ import annotations

from typing import Any

#: How Airflow reads the URIs of ``diffio://`` assets, and names them for OpenLineage.
_ASSET_URIS = [
    {
        "schemes": ["diffio"],
        "handler": "airflow_provider_diffio.hooks.lineage.sanitize_uri",
        "to_openlineage_converter": "airflow_provider_diffio.hooks.lineage.convert_asset_to_openlineage",
    }
]


#: The section of Airflow's configuration, see :mod:`airflow_provider_diffio.config`.
_CONFIG = {
    "diffio": {
        "description": "Settings of the Diffio provider.",
        "options": {
            "wake_up": {
                "description": (
                    "Experimental. Whether a webhook resumes the deferred task that waits for its generation."
                    " Set it on the API server and on the workers. Tasks then poll every five minutes."
                ),
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            }
        },
    }
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in the form of Airflow's runtime schema."""
    from airflow_provider_diffio import __version__
    from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS, UI_FIELD_BEHAVIOUR

    return {
        "package-name": "airflow-provider-diffio",
        "name": "Diffio",
        "description": "Restore speech recordings with Diffio: upload, restore, wait, download.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Diffio",
                "external-doc-url": "https://api.diffio.ai/v1",
                "logo": "/docs/integration-logos/diffio.svg",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "Diffio",
                "python-modules": [
                    "airflow_provider_diffio.operators.project",
                    "airflow_provider_diffio.operators.generation",
                    "airflow_provider_diffio.operators.download",
                    "airflow_provider_diffio.operators.restore",
                    "airflow_provider_diffio.operators.batch",
                    "airflow_provider_diffio.operators.webhook",
                    "airflow_provider_diffio.operators.account",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Diffio",
                "python-modules": ["airflow_provider_diffio.sensors.generation"],
            }
        ],
        "hooks": [{"integration-name": "Diffio", "python-modules": ["airflow_provider_diffio.hooks.diffio"]}],
        "triggers": [
            {
                "integration-name": "Diffio",
                "python-modules": [
                    "airflow_provider_diffio.triggers.generation",
                    "airflow_provider_diffio.triggers.batch",
                    "airflow_provider_diffio.triggers.events",
                ],
            }
        ],
        "connection-types": [
            {
                "connection-type": "diffio",
                "hook-class-name": "airflow_provider_diffio.hooks.diffio.DiffioHook",
                "hook-name": "Diffio",
                "conn-fields": CONN_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "task-decorators": [
            {
                "name": "diffio_restore",
                "class-name": "airflow_provider_diffio.decorators.restore.diffio_restore_task",
            }
        ],
        "cli": ["airflow_provider_diffio.cli.definition.get_commands"],
        "config": _CONFIG,
        "extra-links": [
            "airflow_provider_diffio.links.DiffioRecordingLink",
            "airflow_provider_diffio.links.DiffioRestoredFileLink",
            "airflow_provider_diffio.links.DiffioManifestLink",
        ],
        "asset-uris": _ASSET_URIS,
        "dataset-uris": _ASSET_URIS,  # Airflow 2's word
    }
