"""Restoring a collection in one task. Loaded when such a task runs, and not when a DAG is parsed."""
