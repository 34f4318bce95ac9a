"""kill -9 of real processes at named stages, over and over on one repository that lives on.

After each kill the repository is opened again: every committed image is read and compared, everything is checked,
the interrupted operation is done again, and now and then a collection must leave nothing that no image needs. Kills
at random times, by a timer outside, are reported apart: they say where time is spent, not what was aimed at.
"""

import multiprocessing
import random
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import casimg
from tests.torture.operations import Task, World, again, make_ready, mend
from tests.torture.result import Result, replay_command
from tests.torture.stages import STAGES, Stage
from tests.torture.truth import check_wrongs, collect_wrongs
from tests.torture.victim import act, small_packs

_VICTIM_TIMEOUT_S = 120
_IMAGE_COUNT_MAX = 6
_COLLECT_EVERY = 5
_VIOLATION_COUNT_MAX = 5


def run(folder: Path, *, seed: int, count: int, timer_count: int = 0, jobs: int = 1) -> Result:
    """Kill `count` victims at stages and `timer_count` at random times, `jobs` repositories side by side."""
    whole = Result("kills", seed, replay_command("kills", seed=seed, count=count, timer_count=timer_count, jobs=jobs))
    shares = [(folder / str(n), seed + n, _share(count, jobs, n), _share(timer_count, jobs, n)) for n in range(jobs)]
    with whole.timing():
        if jobs == 1:
            whole.merge(_one(*shares[0]))
        else:
            with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
                for result in pool.map(_one, *zip(*shares, strict=True)):
                    whole.merge(result)
    kills = whole.counts["kills at stages"]
    for stage in STAGES if kills >= 20 * len(STAGES) else ():
        if whole.histogram[stage.name] * 20 < kills:
            whole.violations.append(f"under 5 % of the kills landed at {stage.name!r}")
    return whole


def _share(count: int, jobs: int, number: int) -> int:
    return count // jobs + (number < count % jobs)


def _one(folder: Path, seed: int, count: int, timer_count: int) -> Result:
    result = Result("kills", seed, "")
    small_packs()
    folder.mkdir(parents=True)
    world = World(folder, random.Random(seed))
    world.make().close()
    begin = world.rng.randrange(len(STAGES))
    for number in range(count):
        _kill(world, STAGES[(begin + number) % len(STAGES)], number, result)
        if len(result.violations) >= _VIOLATION_COUNT_MAX:
            break
    names = sorted({stage.operation for stage in STAGES} | {"index", "delete", "copy"})
    for number in range(timer_count):
        _kill(world, names[number % len(names)], count + number, result)
    result.image_count, result.byte_count = world.truth.image_count, world.truth.byte_count
    return result


def _kill(world: World, at: Stage | str, number: int, result: Result, attempt: int = 0) -> None:
    operation = at if isinstance(at, str) else at.operation
    with casimg.open(world.path) as repo:
        world.thin(repo, _IMAGE_COUNT_MAX)
    task = make_ready(world, operation)
    where = f"seed {result.seed}, kill {number}, {at if isinstance(at, str) else at.name}"
    landed = _victim(world, task, at, 1 if isinstance(at, str) else world.rng.randint(1, at.nth_max))
    if landed is None and not isinstance(at, str) and at.nth_max > 1 and attempt < 3:
        with casimg.open(world.path) as repo:
            world.truth.wrongs(repo)
        return _kill(world, at, number, result, attempt + 1)
    if landed is None:
        result.counts["done before the timer" if isinstance(at, str) else "stage not reached"] += 1
    elif isinstance(at, str):
        result.counts["kills at random times"] += 1
        result.histogram[f"(timer) {operation}: {landed}"] += 1
    else:
        result.counts["kills at stages"] += 1
        result.histogram[landed] += 1
    try:
        result.add_violations(where, mend(world, task))
        with casimg.open(world.path) as repo:
            result.add_violations(where, world.truth.wrongs(repo))
            result.add_violations(where, check_wrongs(repo))
        result.add_violations(where, again(world, task))
        result.counts["operations done again"] += 1
        with casimg.open(world.path) as repo:
            if number % _COLLECT_EVERY == 0:
                result.counts["collections to the last byte"] += 1
                result.add_violations(where, collect_wrongs(repo))
                result.add_violations(where, world.truth.wrongs(repo) + check_wrongs(repo))
    except Exception as error:
        result.violations.append(f"{where}: {type(error).__name__}: {error} (task {asdict(task)})")


def _victim(world: World, task: Task, at: Stage | str, nth: int) -> str | None:
    """Run a victim and return where it died; None when it came to its end."""
    stage = None if isinstance(at, str) else at
    said = world.folder / "said"
    said.unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.victim"])
    # A process forked from a clean server: as real as one started anew, without the half second of imports.
    child = context.Process(target=act, args=(str(world.path), task, stage, nth, str(said)))
    child.start()
    child.join(_VICTIM_TIMEOUT_S if stage is not None else world.rng.uniform(0.005, 0.1))
    if child.is_alive():
        child.kill()
        child.join()
        if stage is not None:
            raise TimeoutError(f"a victim of {task.operation} hung")
    if child.exitcode == -signal.SIGKILL:
        words = said.read_text().strip() if said.exists() else ""
        return words or "while opening"
    if child.exitcode == 0:
        # Not killed: with several packs asked for there may have been fewer.
        return None
    raise RuntimeError(f"a victim of {task.operation} ended with {child.exitcode}")
