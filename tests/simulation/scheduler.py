"""The simulation: the real protocol code, many processes of it in one thread, in every order a seed can think of.

1. `world` makes a repository whose catalog, backend and clock are in memory, and patches what depends on time, chance
   and threads, so that a seed decides everything.
2. `actors` are the processes: writers, snapshots, changes, deletes, readers, collectors, repairs, fences. Each has a
   `Wiring` of its own and runs the same functions as `casimg put` and the others do, as a greenlet.
3. `ports` stand where an actor leaves its process: every transaction, backend call and index call is one step. Before
   it, and for lost answers between effect and answer, the actor gives the turn away.
4. The `Scheduler` here picks whose step comes next (at random, in bursts, or by priorities with a few changes, which
   finds orders that need one long pause), and at chosen steps crashes an actor or lets it sleep.
5. After each step that changed anything `invariants` holds rows and objects against what the simulation knows to be
   true. At the end everything dies; collections run until nothing changes; then exactly the garbage must be gone.
6. `scenarios` say which actors and faults; `mutants` take one rule out, and the same machinery must notice.

Steps are whole transactions: races of single statements are tried on real servers elsewhere. What a crash leaves of
local files is not looked at: spool and index are caches.

Source: deterministic simulation as in FoundationDB (Zhou et al., SIGMOD 2021) and TigerBeetle; priorities with change
points are PCT (Burckhardt et al., ASPLOS 2010).
"""

import random
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

from greenlet import getcurrent, greenlet

from tests.simulation.violation import ViolationError

_TRACE_LENGTH = 400
_HOLD_RATE = 0.6


class Crashed(BaseException):
    """The process of this actor has ended: nothing it still does has an effect. No code handles it."""


class Actor:
    """One process."""

    def __init__(self, number: int, name: str, host: int, work: Callable[[], None]) -> None:
        self.number = number
        self.name = name
        self.host = host
        self.greenlet = greenlet(self._run)
        self.dead = False
        self.finished = False
        self.wakes_at = 0
        self._work = work

    def _run(self) -> None:
        try:
            self._work()
        except Crashed:
            pass
        finally:
            self.finished = True

    @property
    def is_over(self) -> bool:
        return self.dead or self.finished


class Policy(Protocol):
    """Who is next."""

    def pick(self, ready: list[Actor], last: Actor | None) -> Actor: ...


class AnyOrder:
    """Each ready actor is as likely as the others."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, ready: list[Actor], last: Actor | None) -> Actor:
        return ready[self._rng.randrange(len(ready))]


class Bursts:
    """Mostly the same actor again: long stretches of one, then another."""

    def __init__(self, rng: random.Random, stay: float) -> None:
        self._rng = rng
        self._stay = stay

    def pick(self, ready: list[Actor], last: Actor | None) -> Actor:
        if last is not None and last in ready and self._rng.random() < self._stay:
            return last
        return ready[self._rng.randrange(len(ready))]


class Priorities:
    """The ready actor of the highest priority; at a few steps the one running falls below all others."""

    def __init__(self, rng: random.Random, change_count: int, length: int) -> None:
        self._rng = rng
        self._changes = {rng.randrange(length) for _ in range(change_count)}
        self._priority: dict[int, float] = {}
        self._step = 0

    def pick(self, ready: list[Actor], last: Actor | None) -> Actor:
        for actor in ready:
            if actor.number not in self._priority:
                self._priority[actor.number] = self._rng.random()
        best = max(ready, key=lambda actor: self._priority[actor.number])
        self._step += 1
        if self._step in self._changes:
            self._priority[best.number] = -float(self._step)
        return best


def policy_of(rng: random.Random, length: int) -> Policy:
    """Return one of the ways to choose, by chance."""
    kind = rng.randrange(4)
    if kind == 0:
        return AnyOrder(rng)
    if kind == 1:
        return Bursts(rng, rng.choice((0.7, 0.9, 0.97)))
    return Priorities(rng, rng.randrange(1, 5), length)


class Scheduler:
    """Runs actors step by step.

    Args:
        rng: decides who is next.
        length: about how many steps there will be.
        tick: called with each step; moves the clock.
        keep_trace: keep every step, not only the last ones.
    """

    def __init__(
        self, rng: random.Random, *, length: int, tick: Callable[[], None], policy: Policy, keep_trace: bool = False
    ) -> None:
        self._rng = rng
        self._length = length
        self._tick = tick
        self._policy = policy
        self._hub = getcurrent()
        self._hash = blake2b(digest_size=8)
        self.actors: list[Actor] = []
        self.trace: deque[str] = deque(maxlen=None if keep_trace else _TRACE_LENGTH)
        self.step_count = 0
        self.crash_count = 0
        self.current: Actor | None = None
        self.crash_steps: set[int] = set()
        self.sleep_steps: set[int] = set()
        self.holds: tuple[str, ...] = ()

    @classmethod
    def idle(cls) -> "Scheduler":
        """Return one that schedules nothing: for work before any process is there."""
        rng = random.Random(0)
        return cls(rng, length=1, tick=lambda: None, policy=AnyOrder(rng))

    def add(self, name: str, host: int, work: Callable[[], None]) -> Actor:
        """Add a process that does `work`."""
        actor = Actor(len(self.actors), name, host, work)
        self.actors.append(actor)
        return actor

    def plan(self, crash_count: int, sleep_count: int, holds: tuple[str, ...]) -> None:
        """Choose the steps at which an actor crashes or falls asleep; before `holds` most sleep a while."""
        self.holds = holds
        self.crash_steps = {self._rng.randrange(self._length) for _ in range(crash_count)}
        self.sleep_steps = {self._rng.randrange(self._length) for _ in range(sleep_count)}

    def step(self, what: str) -> None:
        """Give the turn away before doing `what`. Raises: Crashed when the actor does not live to do it."""
        actor = self.current
        if actor is None:  # work of the simulation itself: nothing runs beside it
            return
        if actor.dead:
            raise Crashed
        if self.holds and what.startswith(self.holds) and self._rng.random() < _HOLD_RATE:
            actor.wakes_at = self.step_count + self._rng.choice((10, 40, 80))
        self._hub.switch()
        if actor.dead:
            raise Crashed
        self.note(actor, what)

    def note(self, actor: Actor | None, what: str) -> None:
        """Add a line to the trace."""
        line = f"{self.step_count:4d} {'-' if actor is None else actor.name:<12} {what}"
        self.trace.append(line)
        self._hash.update(line.encode())

    @property
    def trace_hash(self) -> str:
        """What two runs of the same seed must agree on."""
        return self._hash.hexdigest()

    def run(self, after_step: Callable[[], None], step_count_max: int) -> None:
        """Run until every actor is over, or the steps are used up. Raises: what the actors raise."""
        last: Actor | None = None
        while self.step_count < step_count_max:
            alive = [actor for actor in self.actors if not actor.is_over]
            if not alive:
                return
            ready = [actor for actor in alive if actor.wakes_at <= self.step_count]
            if not ready:  # all asleep: the next to wake does so now
                ready = [min(alive, key=lambda actor: (actor.wakes_at, actor.number))]
            actor = self._policy.pick(ready, last)
            self.step_count += 1
            self._tick()
            if self.step_count in self.crash_steps:
                self.crash(actor)
                after_step()
                continue
            if self.step_count in self.sleep_steps:
                actor.wakes_at = self.step_count + self._rng.choice((5, 30, 150))
                self.note(actor, f"SLEEPS until {actor.wakes_at}")
                continue
            self._switch(actor, actor.greenlet.switch)
            after_step()
            last = actor

    def crash(self, actor: Actor) -> None:
        """End an actor's process: it never runs again, and what it cleans up has no effect."""
        if actor.is_over:
            return
        actor.dead = True
        self.crash_count += 1
        self.note(actor, "CRASHES")
        if actor.greenlet:  # it has begun
            self._switch(actor, lambda: actor.greenlet.throw(Crashed))

    def crash_all(self) -> None:
        """End every actor."""
        for actor in self.actors:
            self.crash(actor)

    def _switch(self, actor: Actor, go: Callable[[], object]) -> None:
        self.current = actor
        try:
            go()
        except ViolationError:
            raise
        except Exception as error:
            raise ViolationError("E", f"{actor.name}: {type(error).__name__}: {error}") from error
        finally:
            self.current = None
