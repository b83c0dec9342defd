"""What tasks tell lineage tools: which files, projects and generations they read and wrote."""

from __future__ import annotations

from airflow_provider_diffio.lineage.dataset import Dataset, Lineage
from airflow_provider_diffio.lineage.mixin import LineageTask, restored_files

__all__ = ["Dataset", "Lineage", "LineageTask", "restored_files"]
