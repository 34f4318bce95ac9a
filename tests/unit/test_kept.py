"""Segments kept in memory: what stays, what goes, and how much there is."""

import errno
import os
import threading
from pathlib import Path
from random import Random

import pytest

from casimg.constants import MIB
from casimg.ids import NodeId
from casimg.kept import KeptSegments, free_memory, usual_size

_PLENTY = (8 << 30, 16 << 30)


def _leaf(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def _bytes(number: int, size: int = MIB) -> bytes:
    return bytes([number % 256]) * size


def _read(kept: KeptSegments, number: int) -> bool:
    """Ask for a segment as a stream does, offering it when it is not there; tell whether it was."""
    found = kept.find(_leaf(number))
    if found is not None:
        assert found.view == _bytes(number)
        return True
    kept.offer(_leaf(number), memoryview(_bytes(number)))
    return False


def test_what_is_offered_is_found_again_as_it_was() -> None:
    """A kept segment is a copy: what becomes of the buffer it came from does not matter, and nobody can write it."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    buffer = bytearray(_bytes(7))
    assert kept.offer(_leaf(1), memoryview(buffer))
    buffer[:] = bytes(MIB)
    found = kept.find(_leaf(1))
    assert found is not None
    assert found.view == _bytes(7)
    assert found.view.readonly
    assert kept.find(_leaf(2)) is None


def test_without_memory_nothing_is_kept() -> None:
    """Keeping is off until somebody gives it memory."""
    kept = KeptSegments()
    assert not kept.offer(_leaf(1), memoryview(_bytes(1)))
    assert kept.find(_leaf(1)) is None
    assert kept.size == 0


def test_no_more_is_kept_than_there_may_be() -> None:
    """However much is offered, and however often, the sum stays below the limit."""
    kept = KeptSegments(3 * MIB + 1, free_size=lambda: _PLENTY, slot_size=MIB)
    for turn in range(6):
        for number in range(turn + 3):
            _read(kept, number)
            assert kept.size <= 3 * MIB + 1
    assert kept.size == 3 * MIB


def test_what_is_read_once_drives_out_nothing_that_is_read_often() -> None:
    """A thousand cold segments pass; the hot ones are there all the time."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    for _ in range(4):
        for number in range(4):
            _read(kept, number)
    for number in range(1000, 2000):
        assert not _read(kept, number)
    assert all(_read(kept, number) for number in range(4))


def test_of_more_than_fits_read_in_turn_a_part_stays() -> None:
    """Images of eight segments in turn, room for four: at least three of each round are found, not none."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    found = [sum(_read(kept, number) for number in range(8)) for _ in range(50)]
    assert min(found[1:]) >= 3


def test_what_becomes_hot_takes_the_place_of_what_was() -> None:
    """Yesterday's images do not stay for ever: today's are kept after some reads."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    for _ in range(20):
        for number in range(4):
            _read(kept, number)
    for _ in range(40):
        for number in range(10, 14):
            _read(kept, number)
    assert all(_read(kept, number) for number in range(10, 14))


def test_memory_is_given_back_when_the_machine_runs_short() -> None:
    """Less than an eighth free: half goes at every look, nothing new is kept; later it is as before."""
    now, free = [0.0], [_PLENTY]
    kept = KeptSegments(8 * MIB, free_size=lambda: free[0], clock=lambda: now[0], slot_size=MIB)
    for number in range(8):
        _read(kept, number)
    assert kept.size == 8 * MIB
    free[0] = (1 << 30, 16 << 30)
    assert _read(kept, 7)  # not looked at again within a second
    assert kept.size == 8 * MIB
    now[0] += 2
    _read(kept, 7)
    assert kept.size == 4 * MIB
    assert not kept.offer(_leaf(100), memoryview(_bytes(100)))
    free[0] = _PLENTY
    now[0] += 2
    _read(kept, 7)
    assert kept.offer(_leaf(100), memoryview(_bytes(100)))


def test_who_has_a_segment_keeps_its_bytes() -> None:
    """Driven out while it is sent, its slot is not used before that is over; then it is."""
    kept = KeptSegments(MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    _read(kept, 1)
    sent = kept.find(_leaf(1))
    assert sent is not None
    for _ in range(5):
        assert not _read(kept, 2)
        assert sent.view == _bytes(1)
    assert kept.find(_leaf(1)) is None
    del sent
    assert not _read(kept, 2)
    assert _read(kept, 2)


@pytest.mark.parametrize("is_short", [True, False])
def test_memory_that_is_given_back_stays_while_it_is_read(is_short: bool) -> None:
    """A machine that runs short, or a smaller limit, takes no byte from who is being sent one."""
    now, free = [0.0], [_PLENTY]
    kept = KeptSegments(2 * MIB, free_size=lambda: free[0], clock=lambda: now[0], slot_size=MIB)
    _read(kept, 1)
    _read(kept, 2)
    sent = kept.find(_leaf(1))
    kept.find(_leaf(2))
    now[0] += 2
    if is_short:
        free[0] = (0, 1)
        kept.find(_leaf(2))
    else:
        kept.resize(0)
    assert kept.find(_leaf(1)) is None
    assert sent is not None
    assert sent.view == _bytes(1)


def test_a_machine_without_memory_costs_nothing_but_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the memory cannot be had, nothing is kept, and the slot is there for the next who tries."""
    now = [0.0]
    kept = KeptSegments(MIB, free_size=lambda: _PLENTY, clock=lambda: now[0], slot_size=MIB)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        assert kept.offer(_leaf(1), memoryview(_bytes(1))) is None
    assert kept.size == 0
    now[0] += 2
    assert not _read(kept, 1)
    assert _read(kept, 1)


def test_uploads_drive_nothing_out() -> None:
    """What is kept before anybody asked takes free room only."""
    kept = KeptSegments(2 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    for number in range(4):
        for _ in range(9):
            kept.find(_leaf(number))
        offered = kept.offer(_leaf(number), memoryview(_bytes(number)), only_free=True)
        assert (offered is not None) == (number < 2)
    assert kept.find(_leaf(0)) is not None
    assert kept.find(_leaf(3)) is None


def test_threads_that_read_and_drive_out_see_right_bytes() -> None:
    """Six threads, room for four of ten segments: whatever is found is what was offered under its name."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY, slot_size=MIB)
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(400):
            number = random.randrange(10)
            if random.random() < 0.3:
                kept._asked.clear()
                kept._asked[_leaf(number)] = 9
            found = kept.find(_leaf(number))
            if found is None:
                kept.offer(_leaf(number), memoryview(_bytes(number)))
            elif found.view[:: MIB // 8].tobytes() != bytes([number]) * 8:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.size <= 4 * MIB


def test_memory_is_what_the_machine_or_its_container_has(tmp_path: Path) -> None:
    """The limit of a control group counts where it is less; without figures nothing is known, and nothing is kept."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "box").mkdir(parents=True)
    assert free_memory(proc, cgroup) == (0, 0)
    (proc / "self/cgroup").write_text("")
    (proc / "meminfo").write_text("MemTotal: 16384 kB\nMemFree: 1 kB\nMemAvailable: 8192 kB\nHugePages_Total: 0\n")
    assert free_memory(proc, cgroup) == (8192 << 10, 16384 << 10)
    (proc / "self/cgroup").write_text("0::/box\n")
    (cgroup / "box/memory.max").write_text("max\n")
    assert free_memory(proc, cgroup) == (8192 << 10, 16384 << 10)
    (cgroup / "box/memory.max").write_text("4194304\n")
    (cgroup / "box/memory.current").write_text("3145728\n")
    (cgroup / "box/memory.stat").write_text("anon 5\ninactive_file 1000000\nactive_file 48576\n")
    assert free_memory(proc, cgroup) == (4194304 - 3145728 + 1048576, 4194304)


@pytest.mark.parametrize("folder", ["memory/docker/box", "memory"])
def test_limits_of_older_control_groups_count(tmp_path: Path, folder: str) -> None:
    """The memory controller by itself, seen from the host or from within the container."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 16384 kB\nMemAvailable: 8192 kB\n")
    (proc / "self/cgroup").write_text("9:cpu:/docker/box\n4:memory:/docker/box\n0::/\n")
    (cgroup / folder).mkdir(parents=True)
    (cgroup / folder / "memory.limit_in_bytes").write_text("2097152\n")
    (cgroup / folder / "memory.usage_in_bytes").write_text("1500000\n")
    (cgroup / folder / "memory.stat").write_text(
        "inactive_file 1\ntotal_inactive_file 400000\ntotal_active_file 50000\n"
    )
    assert free_memory(proc, cgroup) == (2097152 - 1050000, 2097152)


@pytest.mark.parametrize("count", [1, 4])
def test_processes_share_a_quarter_of_the_memory(count: int) -> None:
    """Workers of one machine together take no more than one would."""
    assert usual_size(count) * count <= free_memory()[1] // 4 < usual_size(count) * count + count
