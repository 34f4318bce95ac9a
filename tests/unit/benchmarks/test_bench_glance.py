"""The comparison with Glance: its disks, its client, its verdicts, and a small run with casimg in both parts."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.glance import disks as disks_module
from benchmarks.glance import trials
from benchmarks.glance.__main__ import Bench
from benchmarks.glance.client import Client, UnexpectedAnswerError
from benchmarks.glance.disks import Disks, find_disks
from benchmarks.glance.services import GLANCE, our, running
from benchmarks.report.glance import glance_section, glance_verdicts
from benchmarks.report.results import load_results
from casimg.constants import MIB


def _disk(path: Path, seed: int) -> bytes:
    rng = random.Random(seed)
    data = rng.randbytes(3 * MIB) + bytes(2 * MIB) + rng.randbytes(MIB)
    path.write_bytes(data)
    return data


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    family = tmp_path / "family"
    family.mkdir()
    for seed, name in enumerate(("base", "instance-1", "instance-2")):
        _disk(family / f"{name}.raw", seed)
    return find_disks(family, tmp_path / "made", small=True)


def test_the_other_disk_has_the_same_holes_and_no_data_in_common(disks: Disks) -> None:
    """`other` is as large and as empty as `new`, and no block of its data is known."""
    new, other = disks.new.read_bytes(), disks.other.read_bytes()
    assert [byte == 0 for byte in new[::997]] == [byte == 0 for byte in other[::997]]
    blocks = [{data[at : at + 4096] for at in range(0, len(data), 4096)} for data in (new, other)]
    assert blocks[0] & blocks[1] == {bytes(4096)}


def test_the_dense_disk_has_no_holes(disks: Disks) -> None:
    """`dense` is the data of a disk without its empty blocks, and none of it is in another disk."""
    data = disks.dense.read_bytes()
    blocks = {data[at : at + 4096] for at in range(0, len(data), 4096)}
    assert len(data) == 4 * MIB
    assert bytes(4096) not in blocks
    for other in (disks.new, disks.other):
        assert not blocks & {other.read_bytes()[at : at + 4096] for at in range(0, 6 * MIB, 4096)}


def test_disks_are_made_where_there_is_no_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a family, or with half of one, disks are made below the folder, and once."""
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        for number in (1, 2, 3):
            _disk(folder / f"image-{number}.raw", number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(disks_module, "make_images", make)
    found = find_disks(None, tmp_path / "made", small=True)
    (tmp_path / "half").mkdir()
    _disk(tmp_path / "half/base.raw", 1)
    find_disks(tmp_path / "half", tmp_path / "made", small=True)
    assert made == [tmp_path / "made"]
    assert found.before.name == "image-1.raw"


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("keeps", [True, False])
def test_the_client_brings_what_it_sent(tmp_path: Path, chunked: bool, keeps: bool) -> None:
    """Both ways of sending a body, with a kept connection and with one for each request."""
    data = _disk(tmp_path / "disk.raw", 1)
    with running(our(1, 4), tmp_path / "service") as server:
        client = Client(server.port, keeps=keeps)
        image_id = client.create("disk")
        client.upload(image_id, tmp_path / "disk.raw", chunked=chunked)
        assert client.download(image_id) == len(data)
        assert client.sha512(image_id) == hashlib.sha512(data).hexdigest()
        assert client.range(image_id, 1000, 77) == data[1000:1077]
        with pytest.raises(UnexpectedAnswerError):
            client.range(image_id, len(data), 1)
        assert server.cpu_s() > 0
        client.close()


def test_a_run_measures_every_workload_on_both(tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part gives a row with both figures and a ratio; casimg plays both services, for Glance takes a minute."""
    dropped: list[int] = []
    monkeypatch.setattr(trials, "may_drop_page_cache", lambda: True)
    monkeypatch.setattr(trials, "drop_page_cache", lambda: dropped.append(1))
    services = [our(1, 8), replace(our(1, 8), name=GLANCE)]
    bench = Bench(
        tmp_path / "run",
        services,
        disks,
        small=True,
        rounds=1,
        only=("uploads", "downloads", "ranges", "first", "cache", "lists", "memory"),
        cached=our(1, 8, caches_on_disk=True),
    )
    bench.run(30)
    rows = bench.rows()
    assert len(rows) == 7 + 4 + 4 + 6 + 1 + 3 + 3
    assert len(dropped) == 6
    assert all(row.get("wall_ratio") or row.get("glance_size") is not None for row in rows)
    assert "upload new, chunked" in bench.table()
    measure.save(tmp_path / "results", "glance", rows)
    results = load_results(tmp_path / "results")
    assert all(verdict.met is not None for verdict in glance_verdicts(results))
    assert "## casimg beside Glance" in glance_section(results)


def test_a_verdict_is_by_the_worst_of_its_kind(tmp_path: Path) -> None:
    """A goal is met only when every workload of its kind meets it, and one without results is not measured."""
    rows = [
        {"what": "download", "wall_ratio": 1.4},
        {"what": "download, no holes", "wall_ratio": 0.9},
        {"what": "64 random ranges of 1 MiB", "wall_ratio": 1.2},
        {"what": "list 10 images by pages of 1,000", "wall_ratio": 4.0},
        {"what": "list one in ten of 10 images by a property", "wall_ratio": 2.0},
    ]
    (tmp_path / "glance.json").write_text(json.dumps({"name": "glance", "rows": rows}))
    met = {verdict.what.partition(",")[0]: verdict.met for verdict in glance_verdicts(load_results(tmp_path))}
    assert met == {
        "download": False,
        "Range reads": True,
        "upload of known data": None,
        "upload of the next generation": None,
        "upload of new data": None,
        "list": True,
        "list by a property": False,
    }
