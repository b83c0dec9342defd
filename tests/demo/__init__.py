"""The demo: a noisy recording restored by a real Airflow against the sandbox, and measured."""
