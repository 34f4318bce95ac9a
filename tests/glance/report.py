"""What is kept of a run: JSON with every test, the list of tests that pass, and the tables of docs/http-api.md."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.glance.install import HERE
from tests.glance.outcomes import Comparison, Outcome, State
from tests.glance.suite import PROFILES

PASSED = HERE / "passed.txt"
DOCUMENT = HERE.parents[1] / "docs" / "http-api.md"
BEGIN, END = "<!-- of the last run -->\n", "<!-- end of the last run -->\n"
PREFIX = "tempest.api.image."
LIMITS_PREFIX = "tempest.scenario.test_unified_limits."
SDK_PREFIX = "openstack.tests.functional."


def expected() -> list[str]:
    """Return the tests that must pass."""
    return PASSED.read_text().split() if PASSED.is_file() else []


def write_expected(outcomes: Sequence[Outcome]) -> None:
    """Make the tests that passed those that must."""
    PASSED.write_text("".join(f"{outcome.test}\n" for outcome in outcomes if outcome.state == "passed"))


def of_suite(outcomes: Sequence[Outcome], prefix: str) -> list[Outcome]:
    """Return what became of the tests whose names begin so."""
    return [outcome for outcome in outcomes if outcome.test.startswith(prefix)]


def counts(outcomes: Sequence[Outcome]) -> dict[State, int]:
    """Return how many tests there are of each state."""
    found = Counter(outcome.state for outcome in outcomes)
    return {"passed": found["passed"], "failed": found["failed"], "skipped": found["skipped"]}


def write_json(
    path: Path, outcomes: Sequence[Outcome], versions: Mapping[str, str], seconds: Mapping[str, float]
) -> None:
    """Write a run with all its tests."""
    tests = [
        {"test": outcome.test, "state": outcome.state, "reason": outcome.reason, "seconds": round(outcome.seconds, 3)}
        for outcome in outcomes
    ]
    document: dict[str, Any] = {
        "versions": dict(versions),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "counts": {
            "tempest": counts(of_suite(outcomes, PREFIX)),
            "openstacksdk": counts(of_suite(outcomes, SDK_PREFIX)),
        },
        "tests": tests,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def told(outcomes: Sequence[Outcome], comparison: Comparison) -> str:
    """Return what a person wants to read after a run."""
    lines = [f"lost: {outcome.test}: {outcome.state}: {outcome.reason}" for outcome in comparison.lost]
    known = {outcome.test for outcome in comparison.lost}
    lines += [
        f"failed: {outcome.test}: {outcome.reason}"
        for outcome in outcomes
        if outcome.state == "failed" and outcome.test not in known
    ]
    lines += [f"new pass: {test}" for test in comparison.gained]
    if comparison.gained:
        lines.append("take the new ones over with: python -m tests.glance --write")
    for name, prefix in (("tempest", PREFIX), ("tempest's limits", LIMITS_PREFIX), ("openstacksdk", SDK_PREFIX)):
        if tests := of_suite(outcomes, prefix):
            found = counts(tests)
            lines.append(f"{name}: {found['passed']} passed, {found['failed']} failed, {found['skipped']} skipped")
    return "\n".join(lines)


def tables(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> str:
    """Return the part of the document that a run writes: numbers, and the tests that do not pass, by their reason."""
    tempest, sdk = of_suite(outcomes, PREFIX), of_suite(outcomes, SDK_PREFIX)
    limits = of_suite(outcomes, LIMITS_PREFIX)
    found, found_limits, found_sdk = counts(tempest), counts(limits), counts(sdk)
    programs = ", ".join(f"{name} {version}" for name, version in versions.items() if not name.startswith("pytest"))
    lines = [
        f"With {programs}: {found['passed']} of {len(tempest)} tests of `{PREFIX.rstrip('.')}` pass, "
        f"{found['failed']} fail, {found['skipped']} are skipped; of `{LIMITS_PREFIX.rstrip('.')}` "
        f"{found_limits['passed']} of {len(limits)} pass; of openstacksdk's own functional tests of images "
        f"{found_sdk['passed']} of {len(sdk)} pass.",
        "",
        "| configuration | of casimg |",
        "|---|---|",
        *(f"| {profile.name} | {profile.about} |" for profile in PROFILES),
        "",
    ]
    for state, title in (
        ("failed", "Failed, with the last line that was printed"),
        ("skipped", "Skipped, as they say"),
    ):
        by_reason: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.state == state:
                by_reason.setdefault(outcome.reason, []).append(outcome.test.removeprefix(PREFIX))
        if by_reason:
            lines += [f"{title}:", "", "| tests | reason |", "|---|---|"]
            for reason, tests in sorted(by_reason.items(), key=lambda item: item[1]):
                shown = "<br>".join(f"`{name}`" for name in tests)
                lines.append(f"| {shown} | {reason.replace('|', '/')} |")
            lines.append("")
    return "\n".join(lines)


def write_document(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> None:
    """Put the tables of a run in the place of those of the run before."""
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, foot = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}\n{tables(outcomes, versions)}\n{END}{foot}")
