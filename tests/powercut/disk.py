"""
What POSIX lets a disk hold after a power cut.

A write survives for sure once its file was synced, a change of a directory once that directory was.
Everything else may be there or not, in any combination: bytes may be missing, cut, or zeros. That is more
than any one filesystem does, and all that a program may rely on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.powercut.trace import Call

#: Nothing that changes a disk may pass unseen.
NOT_MODELLED = frozenset(
    {"mmap", "copy_file_range", "sendfile", "writev", "pwrite64", "fallocate", "ftruncate"}
)
Tree = Mapping[str, bytes | None]  #: by path; None is a directory


@dataclass
class Node:
    """A file or directory, whatever its names are."""

    number: int
    is_directory: bool
    content: bytes = b""


@dataclass
class Event:
    """
    One change of the disk.

    :ivar node: the file or directory.
    :ivar durable_at: the number of calls after which it survives for sure.
    """

    node: Node
    ended: int
    durable_at: float = field(default=float("inf"), kw_only=True)


@dataclass
class Write(Event):
    """Some bytes of a file; None cuts the file to the offset."""

    offset: int
    data: bytes | None


@dataclass
class Change(Event):
    """Names in one directory: which node each stands for afterwards, None for none."""

    names: dict[str, Node | None]


class Disk:
    """
    Follows the calls of one process.

    :param root: the directory of interest. Everything in it is durable at the start.
    :param unsynced: directories in it that were made, but whose names were never synced.
    :param marker: what the process prints after success.
    """

    def __init__(self, root: Path, marker: bytes, unsynced: Sequence[Path] = ()) -> None:
        self.root = root
        self.marker = marker
        self.events: list[Event] = []
        self.succeeded_at = float("inf")
        self.calls = 0
        self._numbers = itertools.count()
        self._nodes: dict[Path, Node] = {root: self._node(True)}
        self._open: dict[int, tuple[Node, list[int]]] = {}
        for path in sorted(root.rglob("*")):
            node = self._node(path.is_dir(), b"" if path.is_dir() else path.read_bytes())
            self._change(path, node, durable_at=float("inf") if path in unsynced else 0)
            self._nodes[path] = node

    def _node(self, is_directory: bool, content: bytes = b"") -> Node:
        return Node(next(self._numbers), is_directory, content)

    def _change(self, path: Path, node: Node | None, durable_at: float = float("inf")) -> None:
        parent = self._nodes[path.parent]
        self.events.append(Change(parent, self.calls, {path.name: node}, durable_at=durable_at))

    def follow(self, calls: Sequence[Call]) -> None:
        """Take in what a process did."""
        for call in calls:
            self.calls += 1
            getattr(self, f"_{call.name.rstrip('0123456789')}", self._ignored)(call)

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def _ignored(self, call: Call) -> None:
        if call.name in NOT_MODELLED:
            number = 4 if call.name == "mmap" else 0
            descriptor = call.arguments[number]
            shown = "PROT_WRITE" in call.arguments[2] and "MAP_SHARED" in call.arguments[3:4]
            if call.name != "mmap" or shown:
                assert not descriptor.isdigit() or int(descriptor) not in self._open, call.name

    def _openat(self, call: Call) -> None:
        path, flags = call.path(1), call.arguments[2]
        if not self._is_ours(path):
            self._open.pop(call.result, None)
            return
        if path not in self._nodes:
            assert "O_CREAT" in flags
            self._nodes[path] = self._node(False)
            self._change(path, self._nodes[path])
        node = self._nodes[path]
        if "O_TRUNC" in flags:
            self.events.append(Write(node, self.calls, 0, None))
        self._open[call.result] = node, [0]

    def _close(self, call: Call) -> None:
        self._open.pop(int(call.arguments[0]), None)

    def _dup(self, call: Call) -> None:
        if int(call.arguments[0]) in self._open:
            self._open[call.result] = self._open[int(call.arguments[0])]

    def _fcntl(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._dup(call)

    def _write(self, call: Call) -> None:
        if call.arguments[0] == "1" and call.text(1) == self.marker:
            self.succeeded_at = self.calls
        if int(call.arguments[0]) in self._open:
            node, position = self._open[int(call.arguments[0])]
            self.events.append(Write(node, self.calls, position[0], call.text(1)[: call.result]))
            position[0] += call.result

    def _mkdir(self, call: Call) -> None:
        if self._is_ours(path := call.path(0)):
            self._nodes[path] = self._node(True)
            self._change(path, self._nodes[path])

    def _unlink(self, call: Call) -> None:
        if self._is_ours(path := call.path(0)):
            del self._nodes[path]
            self._change(path, None)

    def _rename(self, call: Call) -> None:
        old, new = call.path(0), call.path(1)
        if self._is_ours(old):
            assert old.parent == new.parent, "two directories: no single step"
            node = self._nodes[new] = self._nodes.pop(old)
            names = {old.name: None, new.name: node}
            self.events.append(Change(self._nodes[new.parent], self.calls, names))

    def _link(self, call: Call) -> None:
        if self._is_ours(call.path(0)):
            self._nodes[call.path(1)] = self._nodes[call.path(0)]
            self._change(call.path(1), self._nodes[call.path(1)])

    def _linkat(self, call: Call) -> None:
        at = Call(call.name, (call.arguments[1], call.arguments[3]), call.result, call.started)
        self._link(at)

    def _fsync(self, call: Call) -> None:
        """All that was done before the sync began is durable when it has ended."""
        if int(call.arguments[0]) in self._open:
            node, _ = self._open[int(call.arguments[0])]
            for event in self.events:
                if event.node is node and event.ended <= call.started:
                    event.durable_at = min(event.durable_at, self.calls)

    _fdatasync = _fsync

    def uncut(self) -> Tree:
        """What the disk holds without a power cut."""
        for event in self.events:
            event.durable_at = 0
        (tree,) = self.states_after(self.calls)
        return tree

    def states_after(self, calls: int) -> Iterator[Tree]:
        """All that the disk may hold when the power is cut after so many calls."""
        done = [event for event in self.events if event.ended <= calls]
        changes = [event for event in done if isinstance(event, Change)]
        for kept in _choices(changes, calls, (True, False)):
            yield from self._trees(list(itertools.compress(changes, kept)), done, calls)

    def _trees(self, changes: list[Change], done: list[Event], calls: int) -> Iterator[Tree]:
        names: dict[int, dict[str, Node]] = {}
        for change in changes:
            entries = names.setdefault(change.node.number, {})
            for name, node in change.names.items():
                entries.pop(name, None)
                if node is not None:
                    entries[name] = node
        seen = dict(_walk(self._nodes[self.root], "", names))
        files = {node.number: node for node in seen.values() if not node.is_directory}
        contents = {
            number: sorted({*_contents(node, [event for event in done if event.node is node], calls)})
            for number, node in files.items()
        }
        for combination in itertools.product(*contents.values()):
            held = dict(zip(contents, combination, strict=True))
            yield {path: held.get(node.number) for path, node in seen.items()}


def _walk(node: Node, prefix: str, names: Mapping[int, Mapping[str, Node]]) -> Iterator[tuple[str, Node]]:
    for name, child in names.get(node.number, {}).items():
        yield prefix + name, child
        if child.is_directory:
            yield from _walk(child, f"{prefix}{name}/", names)


def _choices(events: Sequence[Event], calls: int, options: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """For each event what becomes of it: the first option if it is durable, else any."""
    return itertools.product(*(options[:1] if event.durable_at <= calls else options for event in events))


def _contents(node: Node, events: list[Event], calls: int) -> Iterator[bytes]:
    """All that a file may hold."""
    writes = [event for event in events if isinstance(event, Write)]
    for fates in _choices(writes, calls, ("whole", "lost", "cut", "zeros")):
        content = bytearray(node.content)
        for write, fate in zip(writes, fates, strict=True):
            if fate == "lost":
                continue
            if write.data is None:
                del content[write.offset :]
                continue
            data = bytes(len(write.data)) if fate == "zeros" else write.data
            data = data[: len(data) // 2 + 1] if fate == "cut" else data
            content.extend(bytes(max(0, write.offset - len(content))))
            content[write.offset : write.offset + len(data)] = data
        yield bytes(content)
