"""
Watching lists for generations that finish: what is looked at, and what is news.

:class:`Listing` asks Diffio and forgets nothing it need not ask again. :class:`ReportBook` decides which of
the listed are news: it does not ask, sleep or look at a clock, and what it remembers is small enough to be
stored. Times are Diffio's own throughout, so that clocks that differ do no harm.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.models import COMPLETE, FAILED_STATUSES

if TYPE_CHECKING:
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient
    from airflow_provider_diffio.api.models import GenerationSummary, ProjectSummary

#: The words for the ends of a generation that can be watched for.
STATUSES = (COMPLETE, "failed")
#: Seconds that a new generation may take to show up in a list.
SETTLING = 600.0
#: A generation that is not over after this many seconds is not waited for any more.
STUCK = 7 * 86400.0
#: Requests in flight at once.
CONCURRENCY = 4


@dataclass(frozen=True)
class Listed:
    """One generation as the lists show it."""

    project: ProjectSummary
    generation: GenerationSummary

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.generation.status == COMPLETE or self.generation.status in FAILED_STATUSES

    @property
    def created(self) -> float | None:
        """When it was made, in seconds since the epoch."""
        moment = self.generation.created_at
        return None if moment is None else moment.timestamp()

    @property
    def updated(self) -> float:
        """When it ended, if it has, in seconds since the epoch."""
        moment = self.generation.updated_at or self.generation.created_at
        return 0.0 if moment is None else moment.timestamp()

    def ended_as(self, status: str) -> bool:
        """Whether it ended as ``complete`` or as ``failed``."""
        return self.over and (self.generation.status == COMPLETE) == (status == COMPLETE)


class Listing:
    """
    All generations of a key, asked for project by project.

    Diffio's lists have no filter, so the first look asks once for each project. Later polls ask only for
    projects that changed and for those with a generation that is not over.
    """

    def __init__(self) -> None:
        self._projects: dict[str, tuple[ProjectSummary, tuple[Listed, ...]]] = {}

    async def poll(self, client: DiffioAsyncClient) -> tuple[Listed, ...]:
        """
        Return every generation there is.

        :raises DiffioError: when a list could not be had; what was learned is kept for the next look.
        """
        from airflow_provider_diffio.api import endpoints

        projects = await client.call(endpoints.list_projects())
        slots = asyncio.Semaphore(CONCURRENCY)

        async def ask(project: ProjectSummary) -> None:
            async with slots:
                found = await client.call(endpoints.list_project_generations(project.api_project_id))
            listed = tuple(Listed(project, generation) for generation in found)
            self._projects[project.api_project_id] = (project, listed)

        asked = [ask(project) for project in projects if self._is_news(project)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return tuple(listed for _, found in self._projects.values() for listed in found)

    def _is_news(self, project: ProjectSummary) -> bool:
        if project.generation_count == 0:
            return False
        known, listed = self._projects.get(project.api_project_id, (None, ()))
        return known != project or project.generation_count is None or not all(it.over for it in listed)


@dataclass
class ReportBook:
    """
    Which generations were reported.

    Everything made before ``horizon`` that ended has been reported; of what was made later, the book holds
    each report. The horizon follows the oldest generation that still runs, which keeps the book short.

    :param status: the end that is reported, ``complete`` or ``failed``.
    :param horizon: seconds since the epoch.
    :param reported: when each was made, by a digest of its id.
    """

    status: str
    horizon: float = 0.0
    reported: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def begin(cls, status: str, listed: Sequence[Listed], *, since: float | None = None) -> ReportBook:
        """
        Return a book in which all that ended so far counts as reported.

        :param since: do not count what ended after this time, in seconds since the epoch.
        """
        book = cls(status)
        book.enter(it for it in listed if it.ended_as(status) and (since is None or it.updated <= since))
        book.settle(listed)
        return book

    @classmethod
    def restore(cls, status: str, state: Any) -> ReportBook | None:
        """Return the book that was stored as ``state``, or None when that is none."""
        try:
            horizon, reported = float(state["horizon"]), dict(state["reported"])
        except (TypeError, KeyError, ValueError):
            return None
        return cls(status, horizon, reported)

    def state(self) -> dict[str, Any]:
        """Return what to store: plain JSON."""
        return {"horizon": self.horizon, "reported": dict(self.reported)}

    def news(self, listed: Iterable[Listed]) -> list[Listed]:
        """Return what ended and is not reported yet, the earliest end first."""
        return sorted(filter(self._is_news, listed), key=lambda it: it.updated)

    def enter(self, listed: Iterable[Listed]) -> None:
        """Note that these are reported."""
        self.reported |= {_digest(it): it.created for it in listed}

    def settle(self, listed: Sequence[Listed]) -> None:
        """Move the horizon as far as nothing that may still be news was made before it."""
        made = [(it, it.created) for it in listed if it.created is not None]
        if not made:
            return
        newest = max(time for _, time in made)
        # What ended and is not reported yet holds the horizon; what still runs does, unless it is stuck.
        held = [time for it, time in made if self._is_news(it) or (not it.over and time > newest - STUCK)]
        self.horizon = max(self.horizon, min([newest - SETTLING, *held]))
        self.reported = {
            digest: time for digest, time in self.reported.items() if time is None or time >= self.horizon
        }

    def _is_news(self, listed: Listed) -> bool:
        if not listed.ended_as(self.status):
            return False
        settled = listed.created is not None and listed.created < self.horizon
        return not settled and _digest(listed) not in self.reported


def generation_value(listed: Listed, progress: Any = None) -> Mapping[str, Any]:
    """
    Return the *generation* value of what ended.

    :param progress: Diffio's answer about it, which knows more than the lists.
    """
    value = {
        "generation_id": listed.generation.generation_id,
        "api_project_id": listed.project.api_project_id,
        "model": listed.generation.model,
        "status": COMPLETE if listed.generation.status == COMPLETE else "failed",
        "has_video": listed.project.has_video if progress is None else progress.has_video,
        "transcription": None if progress is None else progress.transcription,
    }
    error = getattr(progress, "error", None)
    return value if error is None else {**value, "error": error}


def _digest(listed: Listed) -> str:
    return hashlib.sha256(listed.generation.generation_id.encode()).hexdigest()[:16]
