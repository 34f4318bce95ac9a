"""Limits that Keystone has: what is asked of it when, in which units, and what its answers and failures become."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from oslo_limit import limit

from casimg.errors import ConfigError
from casimg_api.config import Config
from casimg_api.errors import HttpError
from casimg_api.unified_limits import (
    COUNT,
    RESOURCES,
    SIZE,
    STAGED,
    UPLOADING,
    Count,
    KeystoneKeeper,
    UnifiedLimits,
    limits_of_config,
)
from tests.fake_limits import FakeLimits, serving_limits

MIB = 1 << 20
FREE = dict.fromkeys(RESOURCES, 100)


class Registry:
    """An owner's images, as the registry counts them."""

    def __init__(self, **has: int) -> None:
        self.has = {"image_count": 0, "size": 0, "uploading_count": 0, "staged_size": 0, **has}

    def usage(self, owner: str) -> Any:
        assert owner == "p"
        return SimpleNamespace(**self.has)


class Keeper:
    """Has limits in memory, and compares as oslo.limit does."""

    def __init__(self, count: Count, limits: Mapping[str, int]) -> None:
        self.count = count
        self.limits = limits

    def enforce(self, project: str, deltas: Mapping[str, int]) -> None:
        has = self.count(project, list(deltas))
        over = [name for name, delta in deltas.items() if has[name] + delta > self.limits[name]]
        if over:
            raise HttpError(413, " ".join(over))

    def figures(self, project: str, names: Collection[str]) -> Mapping[str, tuple[int, int]]:
        has = self.count(project, names)
        return {name: (has[name], self.limits[name]) for name in names}


def limits(registry: Registry, **changed: int) -> UnifiedLimits:
    """Return limits of 100 of everything, or what is given."""
    return UnifiedLimits(cast(Any, registry), lambda count: Keeper(count, {**FREE, **changed}))


def over(check: Callable[[], None]) -> str:
    """Return which limits refuse something; nothing when none does."""
    try:
        check()
    except HttpError as error:
        return error.explanation if error.status == 413 else f"{error.status}"
    return ""


def test_each_deed_has_its_limits() -> None:
    """With a limit of 1 that is reached, just what Glance holds against it is refused."""
    full = Registry(image_count=1, size=MIB, uploading_count=1, staged_size=MIB)
    deeds: dict[str, Callable[[UnifiedLimits], None]] = {
        "new": lambda found: found.check_new_image("p"),
        "upload": lambda found: found.check_upload("p", MIB),
        "chunked": lambda found: found.check_upload("p", None),
        "stage": lambda found: found.check_stage("p", MIB),
        "import": lambda found: found.check_import("p"),
        "staged": lambda found: found.check_staged("p", MIB),
        "fetch": lambda found: found.check_fetch("p"),
        "copy": lambda found: found.check_copy("p"),
        "snapshot": lambda found: found.check_snapshot("p", MIB),
    }
    refused = {
        name: {deed for deed, check in deeds.items() if over(lambda: check(limits(full, **{name: 1})))}  # noqa: B023
        for name in RESOURCES
    }
    assert refused == {
        SIZE: {"upload", "staged", "snapshot"},
        STAGED: {"stage"},
        COUNT: {"new"},
        UPLOADING: {"upload", "chunked", "stage", "fetch", "copy"},
    }
    past = Registry(size=2 * MIB, staged_size=2 * MIB)
    assert over(lambda: limits(past, **{SIZE: 1}).check_import("p")) == SIZE
    assert over(lambda: limits(past, **{SIZE: 1}).check_upload("p", None)) == SIZE
    assert over(lambda: limits(past, **{STAGED: 1}).check_fetch("p")) == STAGED


def test_sizes_are_whole_mebibytes() -> None:
    """What is there, and what comes, counts in whole MiB, as in Glance; the figures are told so too."""
    registry = Registry(size=2 * MIB - 1, staged_size=MIB + 5, image_count=3, uploading_count=1)
    assert over(lambda: limits(registry, **{SIZE: 2}).check_upload("p", 2 * MIB - 1)) == ""
    assert over(lambda: limits(registry, **{SIZE: 2}).check_upload("p", 2 * MIB)) == SIZE
    told = {SIZE: (1, 100), STAGED: (1, 100), COUNT: (3, 100), UPLOADING: (1, 100)}
    assert limits(registry).figures("p") == told


def test_without_limits_everything_goes() -> None:
    """Nothing is asked without limits, nor of callers without a project; there are no figures then."""
    for found, project in ((UnifiedLimits(cast(Any, None)), "p"), (limits(Registry(), **{COUNT: 0}), None)):
        found.check_new_image(project)
        found.check_upload(project, 1 << 60)
        assert found.figures(project) == {}


@pytest.fixture
def keystone(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLimits]:
    """A Keystone that oslo.limit has not asked before: it keeps one connection for the process."""
    monkeypatch.setattr(limit, "_SDK_CONNECTION", None)
    with serving_limits() as found:
        yield found


def configured(options: Mapping[str, Any], registry: Registry) -> UnifiedLimits:
    document = {"quota": {"use_keystone_limits": True, "oslo_limit": dict(options)}}
    return limits_of_config(cast(Any, registry), Config.of(document, "test").quota)


def test_keystone_is_asked_anew(keystone: FakeLimits) -> None:
    """A project's limit goes before the default, a change of either counts at once, -1 is none, and what is not
    registered is 0."""
    keystone.registered.update(FREE)
    registry = Registry(image_count=5)
    found = configured(keystone.options, registry)
    assert over(lambda: found.check_new_image("p")) == ""
    keystone.registered[COUNT] = 5
    assert "image_count_total is over limit of 5" in over(lambda: found.check_new_image("p"))
    keystone.of_projects[("p", COUNT)] = -1
    keystone.of_projects[("q", COUNT)] = 0
    assert over(lambda: found.check_new_image("p")) == ""
    assert found.figures("p") == {SIZE: (0, 100), STAGED: (0, 100), COUNT: (5, -1), UPLOADING: (0, 100)}
    del keystone.registered[SIZE]
    assert "image_size_total" in over(lambda: found.check_upload("p", MIB))


def test_what_cannot_be_told_is_refused(keystone: FakeLimits) -> None:
    """A wrong password, endpoint or model is the server's fault; set right, it counts without a restart."""

    def status(found: UnifiedLimits) -> int:
        with pytest.raises(HttpError) as caught:
            found.check_new_image("p")
        return caught.value.status

    assert status(configured({**keystone.options, "password": "wrong"}, Registry())) == 500
    found = configured({**keystone.options, "endpoint_id": "other"}, Registry())
    assert status(found) == 500
    keystone.model = "strict-two-level"
    found = configured(keystone.options, Registry())
    assert status(found) == 500
    keystone.model = "flat"
    found = UnifiedLimits(cast(Any, Registry()), KeystoneKeeper)
    assert status(found) == 413
    keystone.registered[COUNT] = 1
    assert over(lambda: found.check_new_image("p")) == ""


def test_a_keystone_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is allowed while Keystone is away: 503."""
    monkeypatch.setattr(limit, "_SDK_CONNECTION", None)
    with serving_limits() as gone:
        options = gone.options
        found = configured(options, Registry())
    with pytest.raises(HttpError) as caught:
        found.check_new_image("p")
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("quota", "why"),
    [
        ({"use_keystone_limits": True}, "quota.oslo_limit"),
        ({"use_keystone_limits": True, "oslo_limit": {"endpoint": "e"}}, "unknown keys endpoint;"),
        ({"use_keystone_limits": True, "oslo_limit": {"auth_section": "e"}}, "unknown keys auth_section;"),
        ({"use_keystone_limits": True, "oslo_limit": {"auth_type": "pigeon"}}, "auth_type 'pigeon'"),
        ({"use_keystone_limits": True, "oslo_limit": {"endpoint_interface": "x"}}, "endpoint_interface"),
    ],
)
def test_mistakes_are_told(quota: Mapping[str, Any], why: str) -> None:
    """What oslo.limit would not read, or would find wrong at the first request, is told at the start."""
    with pytest.raises(ConfigError, match=why):
        limits_of_config(cast(Any, Registry()), Config.of({"quota": dict(quota)}, "test").quota)


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without oslo.limit a server that wants it says what to install; one that does not want it never looks."""
    monkeypatch.setitem(sys.modules, "oslo_limit", None)
    with pytest.raises(ConfigError, match=r"casimg\[limits\]"):
        configured({"endpoint_id": "e"}, Registry())
    limits_of_config(cast(Any, Registry()), Config().quota).check_new_image("p")
