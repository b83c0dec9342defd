"""What the versions of Airflow have: which tests run where, and the table of it in README and documentation.

A test of something that not every Airflow has is marked with ``needs(...)``; where that Airflow lacks it, the
test is skipped, and says so. Everything else runs on every version.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest

#: The versions that the suite is run on, oldest first.
TESTED = ("2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2", "3.4.0b2")


def release(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


#: The Airflow that the tests run with.
INSTALLED = release(version("apache-airflow"))


@dataclass(frozen=True)
class Feature:
    """
    Something that the provider offers on the versions of Airflow that make it possible.

    :ivar title: what the README's table says.
    :ivar since: the first Airflow with it.
    :ivar until: the first Airflow that no longer has it; None if every later one does.
    :ivar without: one in between that lacks it.
    :ivar rests_on: what must be there, for the reason of a skipped test.
    :ivar probe: finds that in the installed Airflow; None where no name shows it.
    """

    title: str
    since: tuple[int, int]
    rests_on: str
    probe: Callable[[], Any] | None
    until: tuple[int, int] | None = None
    without: tuple[int, int] | None = None

    def on(self, airflow: tuple[int, int]) -> bool:
        """Whether a version of Airflow has it."""
        in_range = self.since <= airflow and (self.until is None or airflow < self.until)
        return in_range and airflow != self.without

    @property
    def here(self) -> bool:
        """Whether the installed Airflow has it."""
        return self.on(INSTALLED)


def _attribute(module: str, *names: str) -> Callable[[], Any]:
    def probe() -> Any:
        found: Any = importlib.import_module(module)
        for name in names:
            found = getattr(found, name)
        return found

    return probe


RETRY_OF_THE_KILLED = Feature(
    "a task whose process is killed outright is retried (on 3.0: clear it)",
    since=(2, 11),
    without=(3, 0),
    rests_on="retries of tasks whose process was killed",
    probe=None,
)
WEBHOOKS = Feature(
    "webhooks start DAGs",
    since=(3, 0),
    rests_on="asset events and apps of plugins on the API server",
    probe=_attribute("airflow.models.asset", "AssetActive"),
)
WATCHER = Feature(
    "a watcher starts DAGs",
    since=(3, 0),
    rests_on="asset watchers",
    probe=_attribute("airflow.sdk", "AssetWatcher"),
)
DURABLE_WATCHER = Feature(
    "watchers report each generation once over restarts, and share one poll",
    since=(3, 3),
    rests_on="shared streams and the asset state store",
    probe=_attribute("airflow.triggers.shared_stream", "SharedStreamManager"),
)
STATE_STORE = Feature(
    "a retry continues in the middle of a task, also of `DiffioRestoreOperator`",
    since=(3, 3),
    rests_on="the task state store",
    probe=_attribute("airflow.sdk.execution_time.context", "NEVER_EXPIRE"),
)
RETRY_POLICY = Feature(
    "the next try waits as long as `Retry-After` asks (`DiffioRetryPolicy`)",
    since=(3, 3),
    rests_on="retry policies",
    probe=_attribute("airflow.sdk.definitions.retry_policy", "RetryPolicy"),
)
TRIGGER_ON_KILL = Feature(
    "a killed deferred task says in its log what continues at Diffio",
    since=(3, 3),
    rests_on="`on_kill` of triggers",
    probe=_attribute("airflow.triggers.base", "BaseTrigger", "on_kill"),
)
WAKE_UP = Feature(
    "deliveries end deferred waits (experimental)",
    since=(3, 2),
    rests_on="internals of Airflow that decode stored arguments of triggers",
    probe=_attribute("airflow.serialization.decoders", "smart_decode_trigger_kwargs"),
)
OUTAGES = Feature(
    "outages and 429 use up no retries (`DiffioRetryPolicy`)",
    since=(3, 4),
    rests_on="retry policies that reschedule",
    probe=_attribute("airflow.sdk.definitions.retry_policy", "RetryDecision", "reschedule"),
)
RUN_PER_EVENT = Feature(
    "each event starts a run of its own, unless the schedule batches them",
    since=(3, 4),
    rests_on="a queue of DAG runs with an entry for each asset event",
    probe=_attribute("airflow.models.asset", "AssetDagRunQueue", "asset_event_id"),
)
WATCHER_QUEUE = Feature(
    "a watcher can have a triggerer queue",
    since=(3, 4),
    rests_on="queues of event triggers",
    probe=_attribute("airflow.triggers.base", "BaseTrigger", "queue"),
)
FEATURES = (
    RETRY_OF_THE_KILLED,
    WEBHOOKS,
    WATCHER,
    DURABLE_WATCHER,
    STATE_STORE,
    RETRY_POLICY,
    TRIGGER_ON_KILL,
    WAKE_UP,
    OUTAGES,
    RUN_PER_EVENT,
    WATCHER_QUEUE,
)

#: What works on every one of them.
EVERYWHERE = (
    "operators, sensor in all modes, deferral, hook, links, connection form and test",
    "a generation of the four operators is billed once, whatever killed the last try",
    "a final error ends the retries",
)


def needs(feature: Feature) -> pytest.MarkDecorator:
    """Return the marker of a test that runs only where Airflow has what a feature rests on."""
    since = ".".join(map(str, feature.since))
    but = "" if feature.without is None else f", but not {'.'.join(map(str, feature.without))}"
    reason = f"{feature.rests_on}: Airflow {since} and later{but}"
    return pytest.mark.skipif(not feature.here, reason=reason)


def promised_table() -> str:
    """The table of what works where, as README and documentation show it."""
    lines = [
        f"| Airflow | {' | '.join(TESTED)} |",
        f"|---|{'---|' * len(TESTED)}",
        *(f"| {title} |{' yes |' * len(TESTED)}" for title in EVERYWHERE),
    ]
    for feature in FEATURES:
        cells = ("yes" if feature.on(release(each)) else "no" for each in TESTED)
        lines.append(f"| {feature.title} | {' | '.join(cells)} |")
    return "\n".join(lines)
