"""Run one schedule: a scenario and a seed in, what happened out. The same seed gives the same trace."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation import actors
from tests.simulation.environment import ENVIRONMENT
from tests.simulation.scenarios import Scenario
from tests.simulation.scheduler import Scheduler, policy_of
from tests.simulation.violation import ViolationError
from tests.simulation.world import HOST_COUNT, Arena, World

_STEP_COUNT_MAX = 3000
_COLLECTIONS_MAX = 8
_DAY_US = 86_400_000_000
_CLOCK_STEPS_US = (1_000, 1_000_000, 5_000_000)
"""Microseconds per step: with the largest, sessions grow old while they work."""


@dataclass(slots=True)
class Outcome:
    """What a schedule did."""

    seed: int
    scenario: str
    trace_hash: str = ""
    step_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violation: ViolationError | None = None
    trace: list[str] = field(default_factory=list)

    def story(self, line_count: int = 60) -> str:
        """Say what was wrong and how it came to be."""
        lines = [f"seed {self.seed} scenario {self.scenario}: {self.violation}"]
        lines += [f"again: python -m tests.simulation --seed {self.seed} --scenario {self.scenario} --trace"]
        return "\n".join(lines + self.trace[-line_count:])


def run_schedule(arena: Arena, scenario: Scenario, seed: int, *, keep_trace: bool = False) -> Outcome:
    """Run a schedule to its end or to its first violation."""
    outcome = Outcome(seed, scenario.name)
    choice = random.Random(f"{scenario.name}/{seed}")
    clock_step_us = choice.choice(_CLOCK_STEPS_US)

    def tick() -> None:
        ENVIRONMENT.clock_us += clock_step_us

    def make(rng: random.Random) -> Scheduler:
        scheduler = Scheduler(
            rng,
            length=scenario.length,
            tick=tick,
            policy=policy_of(rng, scenario.length),
            keep_trace=keep_trace,
        )
        sleep_count = choice.randrange(scenario.sleeps + 1)
        scheduler.plan(choice.randrange(scenario.crashes + 1), sleep_count, scenario.holds)
        return scheduler

    world = arena.world(seed, scenario.template, scenario.faults(choice), make)
    scheduler = world.scheduler
    for name, work in scenario.cast(choice):
        _enlist(world, name, work, choice, scenario.hosts)
    # Some schedules end in the middle: all die now.
    cut = choice.randrange(10, scenario.length) if choice.random() < 0.3 else _STEP_COUNT_MAX

    def after_step() -> None:
        if world.network.late and world.rng.random() < 0.03:
            scheduler.note(None, "a late effect arrives")
            world.network.arrive(world.rng.randrange(len(world.network.late)))
        world.invariants.look()

    try:
        scheduler.run(after_step, cut)
        scheduler.crash_all()
        _end(world)
    except ViolationError as violation:
        outcome.violation = violation
        world.unstepped(scheduler.crash_all)
    outcome.trace_hash = scheduler.trace_hash
    outcome.step_count = scheduler.step_count
    outcome.trace = list(scheduler.trace)
    outcome.counts = _counts(world)
    return outcome


def _enlist(world: World, name: str, work: actors.Work, choice: random.Random, hosts: Sequence[int]) -> None:
    host = choice.choice(hosts)
    rng = random.Random(choice.randrange(1 << 60))
    wiring = world.wiring(host)
    world.scheduler.add(name, host, lambda: work(world, wiring, rng))


def _end(world: World) -> None:
    """All are dead: what was on its way arrives, everything is fenced, collections run until nothing changes."""
    while world.network.late:
        world.network.arrive(0)
    ENVIRONMENT.clock_us += 8 * _DAY_US
    wiring = world.wiring(world.rng.randrange(HOST_COUNT))
    rules = world.rng.choice((actors.NO_REPACK, actors.NO_REPACK, *actors.REPACKS[:1]))

    def collect_all() -> None:
        for _ in range(_COLLECTIONS_MAX):
            before = world.database.raw.total_changes
            actors.collect(wiring, rules, world.invariants.damage)
            world.invariants.look()
            # A collection always counts the epoch up, for condemning and orphans, and is told: nothing else may change.
            if world.database.raw.total_changes - before <= 1 + _IDLE_CHANGES * len(wiring.peers):
                return
        raise ViolationError("I3", f"{_COLLECTIONS_MAX} collections are not enough")

    if world.invariants.damage:
        for _ in range(2):
            world.unstepped(lambda: actors.repair(wiring))
            world.invariants.look()
        world.invariants.look_after_the_last_repair()
    world.unstepped(collect_all)
    world.invariants.look_at_the_end()
    host = world.rng.randrange(HOST_COUNT)
    fresh = world.wiring(host)
    for image in world.unstepped(fresh.catalog.images):
        if world.invariants.missing_of(str(image.content_id)):
            continue
        if not world.unstepped(lambda image=image: actors.read_image(world, fresh, image)):  # type: ignore[misc]
            raise ViolationError("R", f"image {image.name} cannot be read at the end")


_IDLE_CHANGES = 2


def _counts(world: World) -> Counter[str]:
    raw = world.database.raw
    counts: Counter[str] = Counter(crashes=world.scheduler.crash_count)
    for status, count in raw.execute("SELECT status, count(*) FROM images GROUP BY status"):
        counts[f"images_{status}"] = count
    for state, count in raw.execute("SELECT state, count(*) FROM sessions GROUP BY state"):
        counts[f"sessions_{state}"] = count
    return counts
