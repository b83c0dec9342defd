"""Diffio over HTTP. Knows nothing of Airflow and imports nothing from it."""
