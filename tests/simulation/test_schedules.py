"""The rules hold in every schedule: 500 here, 10,000 by `python -m tests.simulation --schedules 10000`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import run_seeds

_BATCH = 50
_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(0, 500, _BATCH))
def test_nothing_is_lost_in_any_order(first: int) -> None:
    """Writers, snapshots, deletes, readers, collectors, repacks, crashes and fences in any order break no invariant."""
    summary = run_seeds(range(first, first + _BATCH))
    assert not summary.violations, "\n\n".join(summary.violations)
    # A simulation in which nothing happens would prove nothing.
    assert summary.steps > 50 * summary.schedules
    assert summary.counts["images_active"] > summary.schedules
    assert summary.counts["sessions_fenced"] > 0


@pytest.mark.parametrize(
    ("scenario", "seed"),
    [
        ("repaired-repack", 18),
        ("repaired-repack", 26),
        ("repaired", 30),
        ("repaired", 91),
        ("calm", 2671),
        ("calm", 4481),
        ("orphaned-snapshot", 20054),
        ("everything", 103805),
        ("everything", 106590),
    ],
)
def test_what_a_seed_once_found_stays_mended(scenario: str, seed: int) -> None:
    """No good copy is given up or overlooked, and no fence or deletion is told as damage."""
    summary = run_seeds(range(seed, seed + 1), scenario)
    assert not summary.violations, "\n\n".join(summary.violations)


def test_a_seed_replays_exactly() -> None:
    """Two processes with different hash seeds and one that ran others before give the same steps for a seed."""
    said = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "10"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1, said
    from tests.simulation.environment import simulated
    from tests.simulation.run import run_schedule
    from tests.simulation.scenarios import scenario_of
    from tests.simulation.world import arena

    with simulated(), arena() as opened:
        for seed in (3, 11, 10):
            outcome = run_schedule(opened, scenario_of(seed), seed)
    assert outcome.trace_hash in said.pop()
