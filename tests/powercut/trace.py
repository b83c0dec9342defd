"""The system calls of a process, as strace writes them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: All calls that change what a disk holds, or that say which file a descriptor stands for.
CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,truncate,ftruncate,fallocate,"
    "mkdir,mkdirat,rmdir,rename,renameat,renameat2,link,linkat,unlink,unlinkat,symlink,symlinkat,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,mmap,copy_file_range,sendfile"
)
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?|0x\w+)")
_UNFINISHED = re.compile(r"^(?P<pid>\d+) +(?P<head>\w+\(.*?),? *<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<tail>.*)$")
_TEXT = re.compile(r'^"((?:\\x[0-9a-f]{2})*)"$')


@dataclass(frozen=True)
class Call:
    """
    One call that succeeded.

    :ivar started: the number of calls that had ended when this one began.
    """

    name: str
    arguments: tuple[str, ...]
    result: int
    started: int

    def text(self, number: int) -> bytes:
        """An argument that is a text or some bytes."""
        found = _TEXT.match(self.arguments[number])
        assert found, f"cut, or no text: {self.arguments[number][:80]}"
        return bytes.fromhex(found[1].replace("\\x", ""))

    def path(self, number: int) -> Path:
        """An argument that is a path."""
        return Path(self.text(number).decode())


def record(command: Sequence[str], log: Path, content: bytes) -> list[Call]:
    """
    Run a command under strace.

    :param command: what to run.
    :param log: where strace writes.
    :param content: for its standard input.
    """
    tracer = ["strace", "-f", "-xx", "-s", str(2**20), "-e", f"trace={CALLS}", "-o", str(log), *command]
    subprocess.run(tracer, input=content, check=True, stdout=subprocess.DEVNULL, timeout=120)
    return list(read(log.read_text().splitlines()))


def read(lines: list[str]) -> Iterator[Call]:
    """Read strace's output. A call of one thread may be interrupted by lines of others."""
    heads: dict[str, tuple[str, int]] = {}
    ended = 0
    for raw in lines:
        line, started = raw, ended
        if head := _UNFINISHED.match(raw):
            heads[head["pid"]] = (head["head"], ended)
            continue
        if tail := _RESUMED.match(raw):
            begun, started = heads.pop(tail["pid"])
            line = f"{tail['pid']} {begun}{tail['tail']}"
        found = _LINE.match(line)
        if found is None or not found["result"].isdigit():
            continue  # a signal, the end of a process, or a call that failed
        ended += 1
        arguments = tuple(each.strip() for each in found["arguments"].split(", "))
        yield Call(found["name"], arguments, int(found["result"]), started)
