"""The Airflow plugin, registered by the entry point ``airflow.plugins``."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin


class DiffioPlugin(AirflowPlugin):
    """
    Mounts the webhook receiver on Airflow 3's API server: ``POST /diffio/webhooks/{conn_id}``.

    A path prefix in ``[api] base_url`` comes before it. Airflow loads plugins in every process, but only the
    API server asks for the apps, so FastAPI is imported there alone. Airflow 2 does not know the attribute.
    """

    name = "diffio"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The app with its prefix and its name, in the form that Airflow expects."""
        from airflow_provider_diffio.plugins.receiver import make_app

        return [{"app": make_app(), "url_prefix": "/diffio", "name": "Diffio"}]
