"""What each store does: the table of docs/storage.md. The tests hold the cells against real servers."""

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
    "away for a moment": _same(
        "an error that a retry gets over",
        local="cannot happen",
        s3="an error that a retry gets over (not tried)",
    ),
    "an idle connection is dropped": _same(
        "a new connection", local="cannot happen", s3="a new connection (not tried)"
    ),
    "a silent server": _same(
        "given up after the client's own limits (not tried)",
        local="waits as the mount does (not tried)",
        openssh="given up after 1 to 5 minutes",
        plain_sftp="given up after 1 to 5 minutes",
    ),
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


def render() -> str:
    """Return the table as Markdown."""
    lines = ["| | " + " | ".join(STORES.values()) + " |", "|---" * (len(STORES) + 1) + "|"]
    for row, cells in TABLE.items():
        lines.append(f"| {row} | " + " | ".join(cells[store] for store in STORES) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render())
