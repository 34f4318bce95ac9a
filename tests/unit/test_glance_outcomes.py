"""What is made of tempest's stream: a class that is skipped, fails or cannot clean up is not a class that passed."""

from collections.abc import Mapping
from typing import Any

from tests.glance.outcomes import Outcome, compared, joined, outcomes_of
from tests.glance.report import counts, tables, told


def event(name: str, status: str, **texts: str) -> Mapping[str, Any]:
    return {"id": name, "status": status, "seconds": 1.5, **texts}


def test_a_test_of_its_own_event() -> None:
    """Each listed test gets the state of its event; names lose the attributes behind them."""
    events = [
        event("m.C.a[id-1,smoke]", "success"),
        event("m.C.b[id-2]", "exists"),
        event("m.C.b[id-2]", "fail", traceback="Traceback:\n  x\nE: no\n"),
    ]
    assert outcomes_of(["m.C.a[id-1,smoke]", "m.C.b[id-2]"], events) == [
        Outcome("m.C.a", "passed", "", 1.5),
        Outcome("m.C.b", "failed", "E: no", 1.5),
    ]


def test_a_class_that_is_skipped() -> None:
    """All tests of a skipped class are skipped, with what the class said."""
    events = [event("setUpClass (m.C)", "skip", reason="no volumes here\nmore")]
    assert outcomes_of(["m.C.a", "m.C.b"], events) == [
        Outcome("m.C.a", "skipped", "no volumes here"),
        Outcome("m.C.b", "skipped", "no volumes here"),
    ]


def test_a_class_that_does_not_begin() -> None:
    """All tests of a class whose preparation fails have failed."""
    events = [event("setUpClass (m.C)", "fail", traceback="E: refused")]
    assert outcomes_of(["m.C.a"], events) == [Outcome("m.C.a", "failed", "E: refused")]


def test_a_class_that_does_not_clean_up() -> None:
    """A failed clean-up is one failure more; one that went well is nothing."""
    events = [
        event("m.C.a", "success"),
        event("tearDownClass (m.C)", "fail", traceback="E: left"),
        event("tearDownClass (m.D)", "success"),
    ]
    assert [(found.test, found.state) for found in outcomes_of(["m.C.a"], events)] == [
        ("m.C.a", "passed"),
        ("m.C.tearDownClass", "failed"),
    ]


def test_silence_is_failure() -> None:
    """A listed test of which nothing is heard has failed; so has one with a status that nobody knows."""
    events = [event("m.C.a", "exists"), event("m.D.b", "inprogress")]
    states = {found.test: found.state for found in outcomes_of(["m.C.a", "m.D.b"], events)}
    assert states == {"m.C.a": "failed", "m.D.b": "failed"}


def test_runs_are_joined() -> None:
    """Failed in one run is failed; passed in one and skipped in the others is passed."""
    one = [Outcome("a", "skipped"), Outcome("b", "failed"), Outcome("c", "skipped")]
    two = [Outcome("a", "passed"), Outcome("b", "passed"), Outcome("c", "skipped")]
    expected = [("a", "passed"), ("b", "failed"), ("c", "skipped")]
    assert [(found.test, found.state) for found in joined([one, two])] == expected
    assert [(found.test, found.state) for found in joined([two, one])] == expected


def test_comparison() -> None:
    """Lost is what should pass and failed, was skipped or is gone; gained is what passed unexpected."""
    outcomes = [
        Outcome("a", "passed"),
        Outcome("b", "failed", "E"),
        Outcome("c", "skipped", "s"),
        Outcome("d", "passed"),
    ]
    comparison = compared(outcomes, ["a", "b", "c", "gone"])
    assert [(lost.test, lost.state) for lost in comparison.lost] == [
        ("b", "failed"),
        ("c", "skipped"),
        ("gone", "skipped"),
    ]
    assert comparison.gained == ("d",)


def test_what_is_told() -> None:
    """A failure is told once, with its reason, a new pass by name, and then the numbers."""
    prefix = "tempest.api.image."
    outcomes = [
        *(Outcome(f"{prefix}a", "failed", "E"), Outcome(f"{prefix}b", "failed", "F"), Outcome(f"{prefix}c", "passed")),
        Outcome("openstack.tests.functional.d", "passed"),
    ]
    text = told(outcomes, compared(outcomes, [f"{prefix}a", "openstack.tests.functional.d"]))
    assert text.splitlines()[:3] == [f"lost: {prefix}a: failed: E", f"failed: {prefix}b: F", f"new pass: {prefix}c"]
    assert text.splitlines()[-2:] == [
        "tempest: 1 passed, 2 failed, 0 skipped",
        "openstacksdk: 1 passed, 0 failed, 0 skipped",
    ]
    assert counts(outcomes) == {"passed": 2, "failed": 2, "skipped": 0}


def test_the_tables_of_the_document() -> None:
    """Tests that do not pass stand in the document by their reason; those that pass do not."""
    outcomes = [
        Outcome("tempest.api.image.x.C.a", "skipped", "no|volumes"),
        Outcome("tempest.api.image.x.C.b", "skipped", "no|volumes"),
        Outcome("tempest.api.image.x.C.c", "passed"),
        Outcome("openstack.tests.functional.y.D.d", "passed"),
    ]
    text = tables(outcomes, {"tempest": "47.0.0", "pytest": "8"})
    assert "| `x.C.a`<br>`x.C.b` | no/volumes |" in text
    assert "With tempest 47.0.0: 1 of 3 tests" in text
    assert "of openstacksdk's own functional tests of images 1 of 1 pass" in text
    assert "x.C.c" not in text
