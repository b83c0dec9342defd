"""The hook that all Diffio operators use, loaded when it is asked for: ``airflow`` itself comes by here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook

__all__ = ["DiffioHook"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_provider_diffio.hooks import diffio

    return getattr(diffio, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
