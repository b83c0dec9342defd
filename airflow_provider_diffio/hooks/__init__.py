"""The hook that all Diffio operators use."""

from __future__ import annotations

from airflow_provider_diffio.hooks.diffio import DiffioHook

__all__ = ["DiffioHook"]
