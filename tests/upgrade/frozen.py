"""
Whatever is stored between two processes, as each version stored it: one folder of JSON for each form.

A folder never changes. When what this version stores has another form than the newest folder, the new form
gets a folder of its own beside it, named by the version, and the older ones are still read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDERS = sorted(path for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name[0].isdigit())
VERSIONS = [path.name for path in FOLDERS]
NEWEST = VERSIONS[-1]


def frozen(version: str, name: str, filled: Mapping[str, Any] | None = None) -> Any:
    """
    Return a stored form.

    :param version: whose.
    :param name: of the file.
    :param filled: what stands in the place of ``{name}``: ids and digests of the test's own.
    """
    text = (Path(__file__).parent / version / f"{name}.json").read_text()
    for place, value in (filled or {}).items():
        if isinstance(value, str):
            text = text.replace(f"{{{place}}}", value)
        else:
            text = text.replace(f'"{{{place}}}"', json.dumps(value))
    return json.loads(text)


def shape(value: Any) -> Any:
    """Return the names in a stored form, whatever the values."""
    if isinstance(value, Mapping):
        return {name: shape(each) for name, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else None
