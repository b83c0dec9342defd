"""``make bench``: run the benchmarks, print the table, write figures and pictures into .bench/."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import imports, jobs, report, restorations, transfers, triggers
from benchmarks.environment import RESULTS, bench_python

PARTS = ("polls", "imports", "transfers", "restorations", "triggers")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see it run, not to quote")
    parser.add_argument("--python", type=Path, help="an interpreter that has the peers' packages already")
    arguments = parser.parse_args()
    parts = arguments.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    RESULTS.mkdir(exist_ok=True)
    results = run(parts, arguments.python, quick=arguments.quick)
    text = report.table(results)
    (RESULTS / "table.md").write_text(text + "\n")
    print(text)
    for picture in report.draw(results, RESULTS):
        print(f"wrote {picture}")
    return 0 if arguments.quick else int(not all(line[3] for line in report.checks(results)))


def run(parts: list[str], python: Path | None, *, quick: bool) -> dict[str, Any]:
    """Run the parts and return all figures."""
    results: dict[str, Any] = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine(),
        "quick": quick,
    }
    simulated = jobs.simulate(600 if quick else 3000)
    for part in parts:
        print(f"{part} ...", file=sys.stderr)
        if part == "polls":
            results[part] = simulated
        elif part == "imports":
            results[part] = imports.measure(python or bench_python(), RESULTS / "home", 1 if quick else 3)
        elif part == "transfers":
            results[part] = transfers.measure(64 if quick else 1024)
        elif part == "restorations":
            results[part] = restorations.measure(100 if quick else 300)
        else:
            ten_minutes = {name: found["ten_minutes"] for name, found in simulated.items()}
            results[part] = triggers.measure(python or bench_python(), ten_minutes, quick=quick)
        # After each part, so that an interrupted run leaves what it has.
        (RESULTS / "results.json").write_text(json.dumps(results, indent=1))
    return results


def machine() -> str:
    """Say what kind of machine this is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"


if __name__ == "__main__":
    sys.exit(main())
