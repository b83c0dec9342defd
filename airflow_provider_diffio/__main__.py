"""``python -m airflow_provider_diffio``: the provider's commands, on every Airflow."""

from __future__ import annotations

from airflow_provider_diffio.cli.main import main

if __name__ == "__main__":
    main()
