"""
A machine plays lives of paid restorations, and after each step asks for what was promised.

``make simulate STEPS=100000`` plays many; the suite plays some. A failure prints the steps that lead to it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.features import STATE_STORE, needs
from tests.simulation.diffio import BASE_URL, SECRET, Generation
from tests.simulation.task_instances import EVENTS, TaskInstance
from tests.simulation.world import TROUBLES, Plan, World

#: How many steps are played, and how many make one life.
STEPS = int(os.environ.get("DIFFIO_SIMULATION_STEPS", "1000"))
LIFE = 50
KEYS = ("diffio_live_first" + SECRET, "diffio_live_second" + SECRET)
#: What recordings hold, by number: less than a part of an upload, and more.
CONTENTS = tuple(b"RIFF" + bytes([number]) * (400 + 900 * number) for number in range(3))
#: What somebody else writes where a restored file is to go.
FOREIGN = b"somebody else's work"
MAX_GENERATIONS = 2

plans = st.builds(
    Plan,
    dies_at=st.none() | st.integers(0, 24),
    dies_before=st.booleans(),
    troubles=st.dictionaries(st.integers(0, 24), st.sampled_from(TROUBLES), max_size=3),
)
fates = st.tuples(st.sampled_from([0.0, 20.0, 3000.0]), st.sampled_from([False, False, False, True]))
numbers = st.integers(0, 10**6)
contents = st.sampled_from(range(len(CONTENTS)))
overwrites = st.sampled_from(["replace", "replace", "error"])


class Lives(RuleBasedStateMachine):
    """Lives of restorations: several task instances, each with its record, over one Diffio."""

    with_ledger = False
    patch: pytest.MonkeyPatch
    folder: Path
    steps: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.patch, Path(self.folder))
        self.instances: list[TaskInstance] = []
        #: How often each instance's recording became another one.
        self.edits: Counter[str] = Counter()
        #: Where somebody else's file may be.
        self.foreign: set[Path] = set()
        self.late: list[tuple[TaskInstance, Any]] = []
        self.root = Path(self.folder) / f"life-{self.steps['lives']}"
        self.steps["lives"] += 1
        (self.root / "raw").mkdir(parents=True)
        (self.root / "out").mkdir()
        self._connect(KEYS[0])

    def _connect(self, key: str) -> None:
        self.world.diffio.keys = {key}
        extra = {"output_path": str(self.root / "out"), "max_attempts": 2, "timeout": 10}
        fields = {"conn_type": "diffio", "host": BASE_URL, "password": key, "extra": extra}
        self.patch.setenv("AIRFLOW_CONN_DIFFIO_DEFAULT", json.dumps(fields))

    def _of(self, number: int) -> TaskInstance:
        return self.instances[number % len(self.instances)]

    # --- what happens ---

    @initialize(deferrable=st.booleans(), content=contents, overwrite=overwrites)
    def first(self, deferrable: bool, content: int, overwrite: str) -> None:
        self.overwrite = overwrite
        self.another(deferrable, content)

    @precondition(lambda self: len(self.instances) < 3)
    @rule(deferrable=st.booleans(), content=contents)
    def another(self, deferrable: bool, content: int) -> None:
        number = len(self.instances)
        source = self.root / "raw" / f"{number}.wav"
        source.write_bytes(CONTENTS[content])
        arguments = {
            "source": str(source),
            "path": str(self.root / "out" / f"{number}.mp3"),
            "deferrable": deferrable,
            "timeout": 600,
            "overwrite": self.overwrite,
            "max_generations": MAX_GENERATIONS,
            **({"ledger": str(self.root / "ledger")} if self.with_ledger else {}),
        }
        self.instances.append(TaskInstance(f"instance {number}", self.world, arguments))

    @rule(which=numbers, plan=plans)
    def try_it(self, which: int, plan: Plan) -> None:
        instance = self._of(which)
        if instance.state not in ("success", "deferred"):
            instance.run(plan)

    @rule(which=numbers, plan=plans, event=st.sampled_from(EVENTS))
    def event_comes(self, which: int, plan: Plan, event: str) -> None:
        instance = self._of(which)
        if instance.deferred:
            self.late.append((instance, instance.deferred))
            instance.resume(event, plan)

    @precondition(lambda self: self.late)
    @rule(which=numbers, plan=plans)
    def an_old_event_comes_again(self, which: int, plan: Plan) -> None:
        instance, deferred = self.late[which % len(self.late)]
        if not instance.deferred and not instance.is_over:
            instance.resume("complete", plan, late=deferred)

    @rule(which=numbers)
    def clear(self, which: int) -> None:
        instance = self._of(which)
        if instance.is_over:
            instance.state = None

    @rule(seconds=st.sampled_from([5.0, 60.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.sleep(seconds)

    @rule(fate=fates)
    def fate(self, fate: tuple[float, bool]) -> None:
        self.world.diffio.fates.append(fate)

    @rule(which=numbers, content=contents)
    def the_source_is_written(self, which: int, content: int) -> None:
        instance = self._of(which)
        self.edits[instance.name] += 1
        Path(instance.arguments["source"]).write_bytes(CONTENTS[content])

    @rule(which=numbers)
    def the_source_is_gone(self, which: int) -> None:
        Path(self._of(which).arguments["source"]).unlink(missing_ok=True)

    @precondition(lambda self: len(self.instances) > 1)
    @rule()
    def the_list_shifts(self) -> None:
        """Every position of a mapped task gets the next one's recording, and its place."""
        items = [(each.arguments["source"], each.arguments["path"]) for each in self.instances]
        for instance, (source, path) in zip(self.instances, [*items[1:], items[0]], strict=True):
            self.edits[instance.name] += 1
            instance.arguments.update(source=source, path=path)

    @rule(which=numbers)
    def somebody_else_writes(self, which: int) -> None:
        destination = self._of(which).destination
        if not destination.exists():
            destination.write_bytes(FOREIGN)
            self.foreign.add(destination)

    @rule()
    def the_key_is_rotated(self) -> None:
        self._connect(KEYS[self.world.diffio.keys == {KEYS[0]}])

    @rule(status=st.sampled_from([402, 403]))
    def the_account_is_blocked(self, status: int) -> None:
        self.world.diffio.refuses = None if self.world.diffio.refuses else (status, "Account is blocked.")

    @rule(which=numbers, other=numbers, at=st.integers(0, 20), plan=plans)
    def two_at_once(self, which: int, other: int, at: int, plan: Plan) -> None:
        instance, guest = self._of(which), self._of(other)
        if instance is guest or any(each.state in ("success", "deferred") for each in (instance, guest)):
            return
        plan.meanwhile[at] = lambda: guest.run(Plan())
        instance.run(plan)

    # --- what must be true after each ---

    @invariant()
    def every_promise_holds(self) -> None:
        self.steps["steps"] += 1
        self.money()
        self.files()
        self.failures()
        self.secrets()

    def money(self) -> None:
        """Nobody spends more than the bound, nor twice on one recording unless it failed."""
        generations = self.world.diffio.generations.values()
        billed = Counter(each.asked_by for each in generations)
        assert all(number <= MAX_GENERATIONS for number in billed.values()), billed
        good = Counter(
            (None if self.with_ledger else each.asked_by, each.project.content, each.request)
            for each in generations
            if not each.fails
        )
        for (name, _, _), number in good.items():
            # Without a ledger, a record knows one recording at a time.
            most = 1 if name is None else 1 + self.edits[name]
            assert number <= most, f"{name or 'all'} paid {number} times for one recording"

    def files(self) -> None:
        """Each file is a whole one, and somebody else's stays where it must not be replaced."""
        made = {each.restored for each in self.world.diffio.generations.values() if not each.fails}
        for path in (self.root / "out").iterdir():
            if path.suffix == ".mp3":
                content = path.read_bytes()
                assert content in made or (content == FOREIGN and path in self.foreign)
        if self.overwrite == "error":
            assert all(path.read_bytes() == FOREIGN for path in self.foreign)

    def failures(self) -> None:
        """What a gateway says in Diffio's place ends no task for good."""
        for instance in self.instances:
            assert not (instance.state == "failed" and "text/html" in str(instance.error)), instance.error

    def secrets(self) -> None:
        """No secret is stored or shown."""
        for instance in self.instances:
            for text in instance.said:
                assert SECRET not in text, text
            instance.said.clear()

    def teardown(self) -> None:
        """After quiet, everything that was paid for is collected."""
        self.world.diffio.refuses = None
        self.world.diffio.fates = []
        self._connect(KEYS[0])
        for instance in self.instances:
            if paid := instance.paid():
                self._collect(instance, paid[-1])
        self.every_promise_holds()

    def _collect(self, instance: TaskInstance, paid: Generation) -> None:
        """Give an instance the input again that it paid for last, and see it get its file."""
        instance.arguments = instance.paid_with[paid.generation_id]
        assert paid.project.content is not None
        Path(instance.arguments["source"]).write_bytes(paid.project.content)
        if instance.destination.exists() and instance.destination.read_bytes() != paid.restored:
            instance.destination.unlink()
            self.foreign.discard(instance.destination)
        self._bring_to_its_end(instance)
        refused = self.overwrite == "error" and "exists already" in str(instance.error)
        assert instance.state == "success" or refused, instance.error

    def _bring_to_its_end(self, instance: TaskInstance) -> None:
        for _ in range(6):
            self.world.clock.sleep(4000)
            if instance.deferred:
                instance.resume("complete", Plan())
            else:
                instance.run(Plan())
            if instance.state == "success":
                return


class LivesWithLedger(Lives):
    """The same, where a ledger makes the recording the unit: wherever it stands, whoever asks."""

    with_ledger = True


@pytest.mark.parametrize(
    "lives", [pytest.param(Lives, marks=needs(STATE_STORE)), LivesWithLedger], ids=["record", "ledger"]
)
def test_no_life_breaks_a_promise(
    lives: type[Lives], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: Any
) -> None:
    steps: Counter[str] = Counter()
    run_state_machine_as_test(
        type("Played", (lives,), {"patch": monkeypatch, "folder": tmp_path, "steps": steps}),
        settings=hypothesis.settings(
            max_examples=max(1, STEPS // LIFE // 2),
            stateful_step_count=LIFE,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            database=None,
            report_multiple_bugs=False,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        ),
    )
    show("simulation", f"{lives.__name__}: {steps['steps']:,} steps in {steps['lives']:,} lives")
