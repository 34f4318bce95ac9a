"""What became of each test of tempest, and how that differs from what is expected."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["passed", "failed", "skipped"]
REASON_LENGTH_MAX = 300
_STATES: Mapping[str, State] = {"success": "passed", "xfail": "passed", "skip": "skipped"}
_OF_CLASS = re.compile(r"(setUpClass|tearDownClass) \((.+)\)")
_STRENGTH: Mapping[State, int] = {"skipped": 0, "passed": 1, "failed": 2}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test."""

    test: str
    state: State
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a run differs from what is expected."""

    lost: tuple[Outcome, ...]
    """Should have passed and did not."""
    gained: tuple[str, ...]
    """Passed and were not expected to."""


def plain_name(test_id: str) -> str:
    """Return the name of a test without the attributes in brackets behind it."""
    return test_id.partition("[")[0]


def outcomes_of(listed: Iterable[str], events: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Return what became of the listed tests, and of classes that could not clean up.

    A class that is skipped or fails before its tests is one event in the stream; here it is one outcome for each test.

    Args:
        listed: ids of all tests that were asked for.
        events: lines of subunit_json.
    """
    by_name: dict[str, Outcome] = {}
    of_class: dict[str, Outcome] = {}
    found: list[Outcome] = []
    for event in events:
        if event["status"] == "exists":  # a worker tells what it will run
            continue
        state = _STATES.get(event["status"], "failed")
        name = plain_name(event["id"])
        outcome = Outcome(name, state, _reason(event, state), event["seconds"])
        fixture = _OF_CLASS.fullmatch(event["id"])
        if fixture is None:
            by_name[name] = outcome
        elif state != "passed" and fixture[1] == "setUpClass":
            of_class[fixture[2]] = outcome
        elif state == "failed":
            found.append(Outcome(f"{fixture[2]}.tearDownClass", "failed", outcome.reason, outcome.seconds))
    for name in map(plain_name, listed):
        whole = of_class.get(name.rpartition(".")[0])
        if name in by_name:
            found.append(by_name[name])
        elif whole is not None:
            found.append(Outcome(name, whole.state, whole.reason))
        else:
            found.append(Outcome(name, "failed", "nothing was reported: the run ended before it"))
    return sorted(found, key=lambda outcome: outcome.test)


def joined(runs: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Return one outcome for each test of several runs: failed anywhere, else passed anywhere, else skipped."""
    found: dict[str, Outcome] = {}
    for outcome in (outcome for run in runs for outcome in run):
        before = found.get(outcome.test)
        if before is None or _STRENGTH[outcome.state] > _STRENGTH[before.state]:
            found[outcome.test] = outcome
    return [found[test] for test in sorted(found)]


def compared(outcomes: Iterable[Outcome], expected: Iterable[str]) -> Comparison:
    """Return how outcomes differ from the tests that should pass."""
    by_test = {outcome.test: outcome for outcome in outcomes}
    wanted = set(expected)
    gone = "there is no such test any more"
    lost = [by_test.get(test, Outcome(test, "skipped", gone)) for test in sorted(wanted)]
    gained = sorted(test for test, outcome in by_test.items() if outcome.state == "passed" and test not in wanted)
    return Comparison(tuple(outcome for outcome in lost if outcome.state != "passed"), tuple(gained))


def _reason(event: Mapping[str, Any], state: State) -> str:
    """Return why in one line: of a skip what it says, of a failure the last line of its trace."""
    if state == "passed":
        return ""
    text = str(event.get("reason") or event.get("traceback") or event["status"])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0 if state == "skipped" else -1] if lines else event["status"])[:REASON_LENGTH_MAX]
