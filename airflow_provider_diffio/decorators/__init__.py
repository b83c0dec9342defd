"""``@task.diffio_restore``: a function finds the recording, the task restores it."""

from __future__ import annotations

from airflow_provider_diffio.decorators.restore import diffio_restore_task

__all__ = ["diffio_restore_task"]
