"""
Metrics through Airflow's own Stats, which sends them to StatsD or OpenTelemetry where that is configured.

The names are public: ``docs/guides/metrics.md`` lists them. Airflow puts its prefix before them. Nothing that
goes wrong with a metric fails a task or a wait.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioGenerationFailedError,
    DiffioGenerationTimeoutError,
)

GENERATIONS_STARTED = "diffio.generations.started"
GENERATIONS_COMPLETED = "diffio.generations.completed"
GENERATIONS_FAILED = "diffio.generations.failed"
WAITS = "diffio.waits"
WAITS_TIMED_OUT = "diffio.waits.timed_out"
WAIT_TIME = "diffio.wait_time"
POLLS = "diffio.polls"
BYTES_UPLOADED = "diffio.bytes.uploaded"
BYTES_DOWNLOADED = "diffio.bytes.downloaded"
BILLED_SECONDS = "diffio.billed_seconds"

#: What every backend takes as a tag's value; Airflow drops others with an error in the task's log.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-/]")
_MAX_TAG = 100

log = logging.getLogger(__name__)


def count(name: str, value: int = 1, **tags: Any) -> None:
    """
    Count something.

    :param name: one of this module's names.
    :param value: how much of it.
    :param tags: what it belongs to, such as ``conn_id``; None is left out.
    """
    _send("incr", name, int(value), tags)


def duration(name: str, seconds: float, **tags: Any) -> None:
    """
    Tell how long something took.

    :param name: one of this module's names.
    :param seconds: how long.
    :param tags: as for :func:`count`.
    """
    # As a timedelta: Airflow 2 and 3 differ in the unit of a number.
    _send("timing", name, timedelta(seconds=max(0.0, seconds)), tags)


def level(name: str, value: float, **tags: Any) -> None:
    """
    Tell how much there is of something.

    :param name: one of this module's names.
    :param value: how much.
    :param tags: as for :func:`count`.
    """
    _send("gauge", name, value, tags)


def wait_over(error: DiffioError | None, seconds: float, *, conn_id: str) -> None:
    """
    Tell how a wait ended.

    :param error: what the wait raises; None when the generation is complete.
    :param seconds: how long it took, the time on the triggerer included.
    :param conn_id: id of the Diffio connection.
    """
    if error is None:
        count(GENERATIONS_COMPLETED, conn_id=conn_id)
    elif isinstance(error, DiffioGenerationTimeoutError):
        count(WAITS_TIMED_OUT, conn_id=conn_id)
    elif isinstance(error, DiffioGenerationFailedError):
        count(GENERATIONS_FAILED, conn_id=conn_id)
    duration(WAIT_TIME, seconds, conn_id=conn_id)


def billed_seconds(seconds_of_models: Mapping[str, Any], *, conn_id: str) -> None:
    """
    Tell what Diffio says it has billed in the current period.

    :param seconds_of_models: seconds by model, as the usage summary has them.
    :param conn_id: id of the Diffio connection.
    """
    for model, seconds in seconds_of_models.items():
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
            level(BILLED_SECONDS, seconds, model=model, conn_id=conn_id)


def _send(method: str, name: str, value: Any, tags: Mapping[str, Any]) -> None:
    try:
        from airflow.providers.common.compat.sdk import Stats

        safe = {tag: _UNSAFE.sub("_", str(text))[:_MAX_TAG] for tag, text in tags.items() if text is not None}
        getattr(Stats, method)(name, value, tags=safe)
    except Exception as error:
        log.debug("Could not send the metric %s: %s", name, error)
