"""What the cluster did over time, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from tests.distributed.observer import Sample
from tests.distributed.verdict import Kill

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: From the bottom to the top; what is in none of these states has not begun.
STATES: Mapping[str, tuple[str, str]] = {
    "success": ("success", "#7fb77e"),
    "running": ("running", "#1f6f3f"),
    "failed": ("failed", "#c0392b"),
    "up_for_retry": ("up for retry", "#e6a100"),
    "deferred": ("deferred", "#8a63c9"),
    "queued": ("waiting for a slot", "#c9c9c9"),  # scheduled and queued
}
NOT_BEGUN = ("not begun", "#eeeeee")
KILL = "#c0392b"
MEMBERS = ("#2b6ca3", "#d08a3e")
WIDTH_INCHES = 11
HEIGHT_INCHES = 7.5
DOTS_PER_INCH = 90


def draw(samples: Sequence[Sample], kills: Sequence[Kill], slots_each: int, path: Path) -> None:
    """Write the picture as a PNG."""
    picture = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, layout="constrained")
    tasks, workers, triggerers = picture.subplots(3, 1, sharex=True, height_ratios=(4, 1.3, 1.7))
    _draw_states(tasks, samples)
    _draw_members(workers, samples, [sample.running for sample in samples])
    workers.set_yticks(range(0, slots_each + 1, 2))
    workers.axhline(slots_each, color="#bbbbbb", linewidth=0.8, zorder=0)
    workers.set_ylabel(f"tasks running\n({slots_each} slots each)")
    _draw_members(triggerers, samples, [sample.waiting for sample in samples])
    triggerers.set_ylabel("triggers")
    triggerers.set_xlabel("seconds since the run began")
    for kill, side in zip(kills, ("right", "left"), strict=True):
        for axis in (tasks, workers, triggerers):
            axis.axvline(kill.at, color=KILL, linewidth=1.3, linestyle="--")
        place = (kill.at, 1.01)
        label = f" SIGKILL {kill.member} "
        tasks.text(*place, label, transform=tasks.get_xaxis_transform(), color=KILL, ha=side, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, facecolor="white")


def series(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Tasks by state over time, bottom to top; ``none`` is whatever has not begun."""
    counts = {state: [_count(sample, state) for sample in samples] for state in STATES}
    totals = [sum(sample.states.values()) for sample in samples]
    begun = [sum(at) for at in zip(*counts.values(), strict=True)]
    return {**counts, "none": [total - known for total, known in zip(totals, begun, strict=True)]}


def _count(sample: Sample, state: str) -> int:
    also = sample.states.get("scheduled", 0) if state == "queued" else 0
    return sample.states.get(state, 0) + also


def _draw_states(axis: Axes, samples: Sequence[Sample]) -> None:
    looks = {**STATES, "none": NOT_BEGUN}
    shown = {state: counts for state, counts in series(samples).items() if any(counts)}
    axis.stackplot(
        [sample.at for sample in samples],
        *shown.values(),
        labels=[looks[state][0] for state in shown],
        colors=[looks[state][1] for state in shown],
    )
    axis.set_ylabel("tasks")
    axis.margins(0)
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _draw_members(axis: Axes, samples: Sequence[Sample], counts: Sequence[Mapping[str, int]]) -> None:
    names = sorted({name for each in counts for name in each})
    for name, color in zip(names, MEMBERS, strict=False):
        values = [each.get(name, 0) for each in counts]
        axis.step([sample.at for sample in samples], values, where="post", label=name, color=color)
    axis.set_ylim(bottom=0)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
