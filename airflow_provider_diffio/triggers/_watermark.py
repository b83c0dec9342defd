"""
Polling Diffio's lists for generations that finish, and deciding which of them are news.

:class:`Listing` asks Diffio, and keeps what it need not ask again. :class:`ReportBook` decides which
generations are news. It asks nobody and does not sleep, and its state is small enough to be stored. All times
are Diffio's own, so that clocks may differ.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api.clean_text import clean_value
from airflow_provider_diffio.api.models import COMPLETE, FAILED_STATUSES

if TYPE_CHECKING:
    from airflow_provider_diffio.api.async_client import DiffioAsyncClient
    from airflow_provider_diffio.api.models import GenerationSummary, ProjectSummary

#: How a generation can end, in the words of this package.
STATUSES = (COMPLETE, "failed")
#: Seconds that a new generation may take to show up in a list.
SETTLING = 600.0
#: Seconds after which a generation that is not over is no longer waited for.
STUCK = 7 * 86400.0
#: Seconds by which Diffio's clock may be ahead of this machine's.
MAX_AHEAD = 86400.0
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
        """
        When it was created, in seconds since the epoch; None when that is not known.

        A time in the future is not believed: it would move the horizon of the reports beyond all generations
        that come before it. Nor is a time before 1970, such as the year 1 that stands for no time at all.
        """
        if self.generation.created_at is None:
            return None
        moment = self.generation.created_at.timestamp()
        return moment if 0.0 <= moment <= time.time() + MAX_AHEAD else None

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
    All generations of a key, listed project by project.

    Diffio's lists have no filter, so the first poll asks once for each project. Later polls ask only for
    projects that changed and for those with a generation that is not over.
    """

    def __init__(self) -> None:
        self._projects: dict[str, tuple[ProjectSummary, tuple[Listed, ...]]] = {}

    async def poll(self, client: DiffioAsyncClient) -> tuple[Listed, ...]:
        """
        Return every generation of the key.

        :raises DiffioError: when Diffio does not return a list; the next poll goes on with those it returned.
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

    Everything that was created before ``horizon`` and ended has been reported. Of what was created later, the
    book holds each report. The horizon follows the oldest generation that still runs, so the book stays
    short.

    :param status: which end is reported: ``complete`` or ``failed``.
    :param horizon: seconds since the epoch.
    :param reported: when each was created, in seconds since the epoch or None, by a digest of its id.
    """

    status: str
    horizon: float = 0.0
    reported: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def begin(cls, status: str, listed: Sequence[Listed], *, since: float | None = None) -> ReportBook:
        """
        Return a book in which everything that has ended so far counts as reported.

        :param status: ``complete`` or ``failed``.
        :param listed: all generations.
        :param since: what ended after this time is news all the same, in seconds since the epoch.
        """
        book = cls(status)
        book.enter(it for it in listed if it.ended_as(status) and (since is None or it.updated <= since))
        book.settle(listed)
        return book

    @classmethod
    def restore(cls, status: str, state: Any) -> ReportBook | None:
        """Return the book that was stored as ``state``, or None when ``state`` is not one."""
        try:
            horizon, reported = float(state["horizon"]), dict(state["reported"])
        except (TypeError, KeyError, ValueError):
            return None
        return cls(status, horizon, reported)

    def state(self) -> dict[str, Any]:
        """Return what to store: plain JSON."""
        return {"horizon": self.horizon, "reported": dict(self.reported)}

    def news(self, listed: Iterable[Listed]) -> list[Listed]:
        """Return what ended and has not been reported, the earliest end first."""
        return sorted(filter(self._is_news, listed), key=lambda it: it.updated)

    def enter(self, listed: Iterable[Listed]) -> None:
        """Note that these have been reported."""
        self.reported |= {_digest(it): it.created for it in listed}

    def settle(self, listed: Sequence[Listed]) -> None:
        """Move the horizon as far as possible: whatever may still become news was created after it."""
        made = [(it, it.created) for it in listed if it.created is not None]
        if not made:
            return
        newest = max(time for _, time in made)
        # The horizon stops at what has not been reported and at what still runs, unless that is stuck.
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
    Return the *generation* value of a generation that ended, with every text cleaned.

    :param listed: what the lists say.
    :param progress: what ``get_generation_progress`` says, which is more; None (default) when it said
        nothing.
    """
    value: dict[str, Any] = {
        "generation_id": listed.generation.generation_id,
        "api_project_id": listed.project.api_project_id,
        "model": listed.generation.model,
        "status": COMPLETE if listed.generation.status == COMPLETE else "failed",
        "has_video": listed.project.has_video if progress is None else progress.has_video,
        "transcription": None if progress is None else progress.transcription,
    }
    error = getattr(progress, "error", None)
    if error is not None:
        value["error"] = error
    cleaned: dict[str, Any] = clean_value(value)
    return cleaned


def _digest(listed: Listed) -> str:
    # An id with half of a surrogate pair has a digest, too.
    text = listed.generation.generation_id.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]
