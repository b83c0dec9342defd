# ruff: noqa: PTH102, PTH104, PTH108, PTH208
"""
A filesystem (FUSE) that shows a directory and has one quirk, as some network mounts do.

usage: python quirks.py DIRECTORY MOUNT_POINT QUIRK
"""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import mfusepy

QUIRKS = (
    "no rename of open files",
    "no rename",
    "no fsync",
    "full at write",
    "full at close",
    "no hard links",
    "no locks",
)


class Quirky(mfusepy.Operations):
    """Passes everything on to a directory, but for what the quirk forbids."""

    use_ns = True

    def __init__(self, root: str, quirk: str) -> None:
        self.root = root
        self.quirk = quirk
        self.open_files: Counter[str] = Counter()
        self.paths: dict[int, str] = {}

    def _real(self, path: str) -> str:
        return self.root + path

    def _refuse(self, quirk: str, number: int) -> None:
        if self.quirk == quirk:
            raise mfusepy.FuseOSError(number)

    def getattr(self, path: str, fh: int | None = None) -> Mapping[str, Any]:
        found = os.lstat(self._real(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
        times = {name: getattr(found, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {**{name: getattr(found, name) for name in names}, **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._real(path), mode)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._real(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._refuse("no rename", errno.ENOTSUP)
        if self.open_files[old]:
            self._refuse("no rename of open files", errno.EBUSY)
        os.rename(self._real(old), self._real(new))
        return 0

    def link(self, target: str, source: str) -> int:
        self._refuse("no hard links", errno.EPERM)
        self._refuse("no rename", errno.EPERM)
        if self.open_files[source]:
            self._refuse("no rename of open files", errno.EBUSY)
        os.link(self._real(source), self._real(target))
        return 0

    def _opened(self, path: str, descriptor: int) -> int:
        self.open_files[path] += 1
        self.paths[descriptor] = path
        return descriptor

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self._opened(path, os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode))

    def open(self, path: str, flags: int) -> int:
        return self._opened(path, os.open(self._real(path), flags & ~os.O_APPEND))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._refuse("full at write", errno.ENOSPC)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._real(path), length)
        return 0

    def flush(self, path: str, fh: int) -> int:
        if os.fstat(fh).st_size:
            self._refuse("full at close", errno.EDQUOT)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._refuse("no fsync", errno.EINVAL)
        os.fsync(fh)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._refuse("no fsync", errno.EINVAL)
        return 0

    def release(self, path: str, fh: int) -> int:
        self.open_files[self.paths.pop(fh)] -= 1
        os.close(fh)
        return 0

    def statfs(self, path: str) -> Mapping[str, int]:
        found = os.statvfs(self._real(path))
        return {
            name: getattr(found, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")
        }

    def flock(self, path: str, fh: int, op: int) -> int:
        raise mfusepy.FuseOSError(errno.ENOSYS)


if __name__ == "__main__":
    root, mount_point, quirk = sys.argv[1:]
    operations = Quirky(root, quirk)
    if quirk != "no locks":
        del Quirky.flock  # the kernel then keeps the locks itself
    mfusepy.FUSE(operations, mount_point, foreground=True, nothreads=True)
