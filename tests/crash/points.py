"""Where the laboratory kills, and what must have become of the money and the file in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.features import STATE_STORE

Kind = Literal["restore", "steps"]

DAG_ID = "crash_lab"
WAITING_DAG_ID = "crash_lab_waiting"


@dataclass(frozen=True)
class Point:
    """
    One instant at which something is killed, once.

    :ivar name: identifies it, also in ids of tasks and names of files.
    :ivar title: what the table says.
    :ivar step: which of the four operators is at it then.
    :ivar projects: how many projects there are in the end, where Airflow has a task state store.
    :ivar projects_without_store: and where it has none.
    :ivar open_uploads: upload sessions that are left open at Diffio. Only their own token can abort them; it
        is a secret and kept nowhere, and ends with the process that held it.
    :ivar by_driver: whether the laboratory kills from outside, instead of the task killing itself.
    """

    name: str
    title: str
    step: str
    projects: int = 1
    projects_without_store: int = 1
    open_uploads: int = 0
    by_driver: bool = False


POINTS: tuple[Point, ...] = (
    Point(
        "created", "after the project is created, before its upload", "upload",
        projects=2, projects_without_store=2,
    ),
    Point(
        "part", "in the middle of a part", "upload",
        projects=2, projects_without_store=2, open_uploads=1,
    ),
    Point(
        "unconfirmed", "after the upload completes, before its confirmation", "upload",
        projects_without_store=2,
    ),
    Point("unread", "after the generation is accepted, before the response is read", "buy"),
    Point("unremembered", "after the response is read, before it is recorded", "buy"),
    Point("deferred", "while deferred (triggerer killed, and started again)", "wait", by_driver=True),
    Point("resumption", "after the trigger fires, before the task resumes", "wait"),
    Point("download", "in the middle of the download", "save"),
    Point("unnamed", "after the last byte, before the rename", "save"),
    Point("named", "after the rename, before the task ends", "save"),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One point, reached by one way of using the provider: one task, or four."""

    kind: Kind
    point: Point

    @property
    def name(self) -> str:
        """Identifies the row, also in ids of tasks and names of files."""
        return f"{self.kind}-{self.point.name}"

    def task_id(self, step: str) -> str:
        """The task that takes a step."""
        return f"{self.name}-{step if self.kind == 'steps' else 'all'}"

    @property
    def dag_id(self) -> str:
        """The DAG it is in. What has to be caught waiting is apart, since its generations take long."""
        return WAITING_DAG_ID if self.point.step == "wait" else DAG_ID

    @property
    def dying_task_id(self) -> str:
        """The task that is under way when the kill comes."""
        return self.task_id(self.point.step)

    @property
    def projects(self) -> int:
        """How many projects there must be in the end, on this Airflow."""
        return self.point.projects if STATE_STORE.here else self.point.projects_without_store


KINDS: Sequence[Kind] = ("restore", "steps") if STATE_STORE.here else ("steps",)
ROWS: Sequence[Row] = tuple(Row(kind, point) for point in POINTS for kind in KINDS)


def promised_table() -> str:
    """The table of what is promised, as docs/reliability.md shows it."""
    lines = [
        "| Killed | Billed generations | Projects on 3.3 | on 2.11, four operators | File |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {point.title} | 1 | {point.projects} | {point.projects_without_store} | whole |"
        for point in POINTS
    ]
    return "\n".join(lines)
