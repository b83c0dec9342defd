"""Filesystems that lack what S3 has, as real ones do."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.memory import MemoryFileSystem


class LooseFileSystem(MemoryFileSystem):
    """
    Shows a file from the moment it is opened; ``commit`` and ``discard`` of its files change nothing.

    It can be told to break when it copies, and to lose a byte.
    """

    protocol = "loose"
    store: dict[str, Any] = {}
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.copy_error: Exception | None = None
        self.loses_bytes = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped = str(path).removeprefix(f"{cls.protocol}://").strip("/")
        return f"/{stripped}" if stripped else ""

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        if self.copy_error is not None:
            raise self.copy_error
        super().cp_file(path1, path2, **options)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().info(path, **options)
        return {**found, "size": found["size"] - 1} if self.loses_bytes and "part" in path else found

    def contents(self) -> dict[str, bytes]:
        """Everything that a reader could see."""
        return {key: file.getvalue() for key, file in self.store.items()}


class StubbornFileSystem(LooseFileSystem):
    """Renames, but not onto a file that exists, and asks for directories first, as SFTP servers do."""

    protocol = "stubborn"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.refused = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "w" in mode and self._parent(path) not in self.pseudo_dirs:
            raise FileNotFoundError(path)
        return super()._open(path, mode, **options)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        if path2 in self.store:
            self.refused += 1
            raise OSError("Failure")
        self.store[path2] = self.store.pop(path1)


class CuttingFileSystem(LooseFileSystem):
    """Cuts a name at a question mark, as filesystems do that parse every path as a URL."""

    protocol = "cutting"
    store: dict[str, Any] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path).partition("?")[0]
