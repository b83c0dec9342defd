"""
What each store does: the table of docs/storage.md.

The tests hold the cells against real servers. Each says by its marker ``row`` which ones, and at their end
the table is printed with those cells that held.
"""

from __future__ import annotations

from collections.abc import Mapping

STORES: Mapping[str, str] = {
    "local": "local disk",
    "s3": "S3",
    "google": "Google Cloud Storage",
    "azure": "Azure Blob Storage",
    "openssh": "SFTP (OpenSSH)",
    "plain_sftp": "SFTP without `posix-rename`",
}


#: How the tests of a cell ended, by row and store.
Cells = dict[tuple[str, str], set[str]]


def _same(text: str, **others: str) -> Mapping[str, str]:
    return {store: others.get(store, text) for store in STORES}


TABLE: Mapping[str, Mapping[str, str]] = {
    "upload from it": _same("whole, same SHA-256"),
    "download to it": _same("whole, same SHA-256"),
    "replace a file": _same("in one step", plain_sftp="in two renames: for an instant no file"),
    "refuse to replace (`error`)": _same(
        "by the store itself", google="by the store itself (not shown by the emulator)"
    ),
    "a transfer that breaks": _same("the old file stays, nothing is left"),
    "a worker killed while it writes": _same(
        "the old file stays; a `.part` file, removed by the retry",
        s3="the old file stays; an invisible unfinished upload",
        google="the old file stays; an invisible unfinished upload",
        azure="the old file stays; invisible blocks, which Azure drops after a week",
        openssh="the old file stays; a `.part` file, removed by the next writer after 15 minutes",
        plain_sftp="the old file stays; a `.part` file, removed by the next writer after 15 minutes",
    ),
    "killed again and again, at any moment": _same(
        "the old file or a whole new one",
        plain_sftp="the old file or a whole new one, or none until the retry",
    ),
    "away for a moment": _same("an error that a retry gets over", local="cannot happen"),
    "an idle connection is dropped": _same("a new connection", local="cannot happen"),
    "a silent server": _same(
        "`execution_timeout` ends the task within seconds; without it the client's own limits, minutes",
        local="a mount waits for its server as it was mounted to (`soft`, `timeo`)",
        openssh="given up after 1 to 5 minutes; `execution_timeout` ends the task within seconds",
        plain_sftp="given up after 1 to 5 minutes; `execution_timeout` ends the task within seconds",
    ),
    "memory for 1 GiB": _same("below 160 MiB"),
    "names with `# % + [ ] @ ? & =`, spaces, emoji": _same("as they are"),
    "NFC and NFD": _same("two names"),
    "a name of 255 bytes": _same("yes"),
    "check before money is spent": _same(
        "the bucket, and that an upload may begin",
        local="a hidden file is written, renamed and removed",
        azure="the container",
        openssh="a hidden file is written, renamed and removed",
        plain_sftp="a hidden file is written, renamed and removed",
    ),
}


#: Cells that no test can hold: nothing lies between a worker and its own disk.
UNTRIED = frozenset(
    {
        ("away for a moment", "local"),
        ("an idle connection is dropped", "local"),
        ("a silent server", "local"),
    }
)


def render(outcomes: Cells | None = None) -> str:
    """
    Return the table as Markdown.

    :param outcomes: how tests ended; a cell that none of them held says so.
    """
    lines = ["| | " + " | ".join(STORES.values()) + " |", "|---" * (len(STORES) + 1) + "|"]
    for row, cells in TABLE.items():
        shown = [_shown(cells[store], row, store, outcomes) for store in STORES]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _shown(text: str, row: str, store: str, outcomes: Cells | None) -> str:
    if outcomes is None or (row, store) in UNTRIED:
        return text
    seen = outcomes.get((row, store))
    if not seen:
        return "(not tried in this run)"
    return text if seen == {"passed"} else f"**FAILED**: {text}"


if __name__ == "__main__":
    print(render())
