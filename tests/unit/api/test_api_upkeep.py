"""When servers collect by themselves: what the configuration says, and with which interpreter."""

import sys

import pytest

from casimg.upkeep import GcRules
from casimg_api.config import UpkeepConfig
from casimg_api.upkeep import interpreter, rules_of


@pytest.mark.parametrize(
    ("config", "rules"),
    [
        (UpkeepConfig(), GcRules(86400.0, None, 0.05, 3600)),
        (UpkeepConfig(gc_every_h=2, gc_when_free_below="10GB", gc_pause_s=5), GcRules(7200.0, 10 << 30, None, 5)),
        (UpkeepConfig(gc_every_h=0), GcRules(None, None, 0.05, 3600)),
        (UpkeepConfig(gc_when_free_below="0"), GcRules(86400.0, None, None, 3600)),
        (UpkeepConfig(gc_every_h=0, gc_when_free_below="0"), None),
        (UpkeepConfig(gc_every_h=0, gc_when_free_below="0%"), None),
    ],
)
def test_rules_are_those_of_the_configuration(config: UpkeepConfig, rules: GcRules | None) -> None:
    """Hours, a size or a share, a pause; without schedule and bound there are no rules."""
    assert rules_of(config) == rules


def test_the_interpreter_is_a_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that embeds Python is not started once more: the Python of its environment is."""
    assert interpreter() == sys.executable
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    monkeypatch.setattr(sys, "prefix", "/opt/casimg")
    assert interpreter() == "/opt/casimg/bin/python3"
