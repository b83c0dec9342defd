"""What would have been billed."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_diffio.sandbox.contract import MINIMUM_BILLED_SECONDS
from airflow_provider_diffio.sandbox.state import Generation, State, iso

#: Diffio's prices are on its website, not in its API. A cent a minute keeps the sums easy to check.
CENTS_PER_MINUTE = 1


@dataclass(frozen=True)
class Bill:
    """One generation's share of the invoice."""

    seconds: int
    cents: int
    final: bool


def bill(generation: Generation) -> Bill:
    """Seconds of processing, the minimum at least; a repeat by idempotency key never gets here."""
    end = time.time() if generation.finished is None else generation.finished
    seconds = max(MINIMUM_BILLED_SECONDS, math.ceil(end - generation.created))
    return Bill(seconds, math.ceil(seconds / 60 * CENTS_PER_MINUTE), generation.terminal)


def months(generations: Iterable[Generation]) -> list[dict[str, Any]]:
    """Usage by calendar month, newest first."""
    by_month: defaultdict[str, list[Generation]] = defaultdict(list)
    for generation in generations:
        by_month[datetime.fromtimestamp(generation.created, UTC).strftime("%Y-%m")].append(generation)
    return [_month(name, by_month[name]) for name in sorted(by_month, reverse=True)]


def _month(name: str, generations: list[Generation]) -> dict[str, Any]:
    seconds: defaultdict[str, int] = defaultdict(int)
    cents: defaultdict[str, int] = defaultdict(int)
    reserved = finalized = 0
    for generation in generations:
        share = bill(generation)
        seconds[generation.model] += share.seconds
        cents[generation.model] += share.cents
        if share.final:
            finalized += share.cents
        else:
            reserved += share.cents
    return {
        "periodId": name,
        "reservedCents": reserved,
        "finalizedCents": finalized,
        "totalCents": reserved + finalized,
        "modelSeconds": dict(seconds),
        "modelCents": dict(cents),
    }


def ledger(state: State) -> dict[str, Any]:
    """Everything that costs money or was left lying about."""
    generations = [_entry(generation) for generation in state.generations.values()]
    projects = [
        {
            "apiProjectId": project.project_id,
            "fileName": project.file_name,
            "contentType": project.content_type,
            "status": project.status,
            "sizeBytes": None if project.stored is None else project.stored.size,
            "openUploads": project.open_uploads,
            "generationCount": len(project.generations),
            "createdAt": iso(project.created),
        }
        for project in state.projects.values()
    ]
    return {"generations": generations, "projects": projects, "totals": totals(state)}


def totals(state: State) -> dict[str, int]:
    """The sums."""
    bills = [bill(generation) for generation in state.generations.values()]
    return {
        "generations": len(bills),
        "billedSeconds": sum(share.seconds for share in bills),
        "billedCents": sum(share.cents for share in bills),
        "projects": len(state.projects),
        "projectsWithoutUpload": sum(project.stored is None for project in state.projects.values()),
        "openUploads": sum(project.open_uploads for project in state.projects.values()),
    }


def _entry(generation: Generation) -> dict[str, Any]:
    return {
        "generationId": generation.generation_id,
        "apiProjectId": generation.project.project_id,
        "model": generation.model,
        "idempotencyKey": generation.idempotency_key,
        "billedSeconds": bill(generation).seconds,
        "status": generation.status,
        "createdAt": iso(generation.created),
    }
