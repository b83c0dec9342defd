"""The command line: ``airflow diffio`` (Airflow 3.2 and later) and ``python -m airflow_provider_diffio``."""
