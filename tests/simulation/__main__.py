"""Run schedules, or one again: `python -m tests.simulation --schedules 10000 --jobs 2`, `--seed 7 --trace`."""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.environment import simulated
from tests.simulation.run import run_schedule
from tests.simulation.scenarios import SCENARIOS, scenario_of
from tests.simulation.world import arena

_BATCH = 50


@dataclass(slots=True)
class Summary:
    """What many schedules did."""

    schedules: int = 0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    scenarios: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: "Summary") -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.counts += other.counts
        self.scenarios += other.scenarios
        self.violations += other.violations


def run_seeds(seeds: range, scenario_name: str | None = None) -> Summary:
    """Run one schedule for each seed."""
    # What is injected is logged as what it is; a schedule that goes wrong tells its own story.
    logging.disable(logging.CRITICAL)
    summary = Summary()
    try:
        with simulated(), arena() as opened:
            for seed in seeds:
                scenario = SCENARIOS[scenario_name] if scenario_name else scenario_of(seed)
                outcome = run_schedule(opened, scenario, seed)
                summary.schedules += 1
                summary.steps += outcome.step_count
                summary.counts += outcome.counts
                summary.scenarios[scenario.name] += 1
                if outcome.violation is not None:
                    summary.violations.append(outcome.story())
    finally:
        logging.disable(logging.NOTSET)
    return summary


def _replay(seed: int, scenario_name: str | None, trace: bool) -> int:
    scenario = SCENARIOS[scenario_name] if scenario_name else scenario_of(seed)
    logging.disable(logging.NOTSET if trace else logging.CRITICAL)
    with simulated(), arena() as opened:
        outcome = run_schedule(opened, scenario, seed, keep_trace=trace)
    if trace:
        print("\n".join(outcome.trace))
    if outcome.violation is not None:
        print(outcome.story())
    print(f"seed {seed} scenario {scenario.name}: {outcome.step_count} steps, trace {outcome.trace_hash}")
    return 1 if outcome.violation else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=500, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--seed", type=int, help="run this one again")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.seed is not None:
        return _replay(options.seed, options.scenario, options.trace)
    begin_s = time.monotonic()
    total = Summary()
    end = options.first + options.schedules
    batches = [range(at, min(end, at + _BATCH)) for at in range(options.first, end, _BATCH)]
    with ProcessPoolExecutor(options.jobs) as pool:
        for summary in pool.map(run_seeds, batches, [options.scenario] * len(batches)):
            total.add(summary)
    duration_s = time.monotonic() - begin_s
    if options.json:
        document = {
            "schedules": total.schedules,
            "steps": total.steps,
            "duration_s": round(duration_s, 1),
            "counts": dict(sorted(total.counts.items())),
            "scenarios": dict(sorted(total.scenarios.items())),
            "violations": total.violations,
        }
        print(json.dumps(document, indent=2))
    else:
        print(f"{total.schedules} schedules, {total.steps} steps in {duration_s:.0f} s")
        print(", ".join(f"{name} {count}" for name, count in sorted(total.counts.items())))
        print(f"{len(total.violations)} violations")
        print("\n\n".join(total.violations))
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
