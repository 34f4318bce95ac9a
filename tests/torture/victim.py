"""A process that does one operation on a repository and kills itself at a stage of it.

    python -m tests.torture.victim REPOSITORY TASK.json [STAGE] [--nth N]

TASK.json is a task as tests.torture.operations has it; without a stage the operation is done whole.
"""

import argparse
import json
import logging
from pathlib import Path

from casimg import packing
from tests.torture.operations import PACK_SIZE, Task, do
from tests.torture.stages import STAGES, Stage, killer


def small_packs() -> None:
    """Let this process ship packs of a few hundred KiB, so that a small image has several, and keep its log quiet."""
    log = logging.getLogger("casimg")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    setattr(packing, "PACK_SIZE_TARGET", PACK_SIZE)  # noqa: B010


def act(path: str, task: Task, stage: Stage | None, nth: int, said: str) -> None:
    """Do the task in this process, which may not live to return."""
    small_packs()
    half = stage is not None and stage.when == "during" and stage.part == "backend"
    do(Path(path), task, killer(stage, nth, Path(said)), takes_files=not half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("task", type=Path)
    parser.add_argument("stage", nargs="?", choices=[stage.name for stage in STAGES])
    parser.add_argument("--nth", type=int, default=1)
    given = parser.parse_args()
    stage = next((stage for stage in STAGES if stage.name == given.stage), None)
    fields = json.loads(given.task.read_text())
    act(given.repository, Task(**fields), stage, given.nth, str(given.task.with_suffix(".said")))


if __name__ == "__main__":
    main()
