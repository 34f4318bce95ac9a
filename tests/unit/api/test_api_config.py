"""The configuration of the server: the sample says the truth, unknown keys and wrong types are errors."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from casimg.errors import ConfigError
from casimg_api.config import SAMPLE, Config

KEY_LINE = re.compile(r"^#(?=\w+ = )", re.MULTILINE)


def uncommented() -> dict[str, Any]:
    """Return the sample with every commented key taken at its word."""
    return tomllib.loads(KEY_LINE.sub("", SAMPLE.read_text()))


def test_sample_says_the_defaults() -> None:
    """Taking away the # before every key of the sample changes nothing."""
    assert Config.of(uncommented(), "sample") == Config()
    assert Config.load(SAMPLE) == Config()


def test_sample_says_every_key() -> None:
    """Every key that there is stands in the sample, in its section."""
    document = uncommented()
    for section in fields(Config):
        if section.name == "stores":  # its sections are named by whoever writes them
            assert document["stores"] == {}
            continue
        assert set(document[section.name]) == {item.name for item in fields(getattr(Config(), section.name))}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[srever]\n", "unknown section srever"),
        ("[server]\nprot = 1\n", "unknown key in [server]: prot"),
        ("server = 1\n", "server must be a section"),
        ("[server]\nport = '9292'\n", "server.port must be of type int"),
        ("[server]\nport = true\n", "server.port must be of type int"),
        ("[server]\nport = 70000\n", "server.port is 70000"),
        ("[server]\nworkers = 0\n", "server.workers is 0"),
        ("[images]\ndisk_formats = ['raw', 1]\n", "images.disk_formats must be a list of str"),
        ("[auth]\nmode = 'open'\n", "auth.mode is 'open'"),
        ("[auth]\nmode = 'tokens'\n", "auth.tokens_file"),
        ("[auth]\nmode = 'keystone'\n", "auth.keystone"),
        ("[auth]\nproject = ''\n", "auth.project"),
        ("[auth]\nallow_anonymous_access = true\n", "auth.allow_anonymous_access"),
        ("[quota]\nuse_keystone_limits = true\n", "quota.oslo_limit"),
        ("[policy]\nproperty_protection_rule_format = 'role'\n", "policy.property_protection_rule_format is 'role'"),
        ("[store]\nid = 'a'\n", "unknown key in [store]: id"),
        ("[stores]\nfast = 1\n", "stores.fast must be a section"),
        ("[stores.fast]\nwait = 1\n", "unknown key in [stores.fast]: wait"),
        ("[stores.fast]\nweight = '1'\n", "stores.fast.weight must be of type int"),
        ("[upkeep]\ngc_every_h = -1\n", "upkeep.gc_every_h is -1"),
        ("[upkeep]\nlook_every_s = 0\n", "upkeep.look_every_s is 0"),
        ("[upkeep]\ngc_when_free_below = '101%'\n", "upkeep.gc_when_free_below: '101%' is not from 0% to 100%"),
        ("[upkeep]\ngc_when_free_below = 'nan%'\n", "upkeep.gc_when_free_below: 'nan%' is not from"),
        ("[upkeep]\ngc_when_free_below = 'little'\n", "upkeep.gc_when_free_below: 'little' is no size"),
        ("[server\n", "line 1"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, why: str) -> None:
    """A mistake names its file, its key, and what could be there."""
    path = tmp_path / "server.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(why)) as caught:
        Config.load(path)
    assert caught.value.path == str(path)


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    """Relative paths are taken from the folder of the configuration, absolute ones as they are."""
    path = tmp_path / "server.toml"
    path.write_text("[repository]\npath = 'repo'\n[policy]\npolicy_file = '/etc/policy.yaml'\n")
    config = Config.load(path)
    assert (config.repository.path, config.policy.policy_file) == (str(tmp_path / "repo"), "/etc/policy.yaml")
    assert config.auth.tokens_file == ""


def test_imports_are_configured_whole() -> None:
    """Methods that there are not, networks and ports that are none, and tokens without a Keystone are errors."""
    for document in (
        {"image_import": {"enabled_import_methods": ["carrier-pigeon"]}},
        {"image_import": {"enabled_import_methods": ["glance-download"]}},
        {"image_import": {"task_pool_threads": 0}},
        {"import_filtering_opts": {"allowed_networks": ["10.0.0.1/8"]}},
        {"import_filtering_opts": {"allowed_ports": [0]}},
        {"import_filtering_opts": {"allowed_ports": ["80"]}},
    ):
        with pytest.raises(ConfigError):
            Config.of(document, "test")
