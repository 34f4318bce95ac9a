"""Segments kept in memory: what stays, what goes, and how much there is."""

from pathlib import Path

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
        assert found == _bytes(number)
        return True
    kept.offer(_leaf(number), memoryview(_bytes(number)))
    return False


def test_what_is_offered_is_found_again_as_it_was() -> None:
    """A kept segment is a copy: what becomes of the buffer it came from does not matter, and nobody can write it."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY)
    buffer = bytearray(_bytes(7))
    assert kept.offer(_leaf(1), memoryview(buffer))
    buffer[:] = bytes(MIB)
    found = kept.find(_leaf(1))
    assert found is not None
    assert found == _bytes(7)
    assert found.readonly
    assert kept.find(_leaf(2)) is None


def test_without_memory_nothing_is_kept() -> None:
    """Keeping is off until somebody gives it memory."""
    kept = KeptSegments()
    assert not kept.offer(_leaf(1), memoryview(_bytes(1)))
    assert kept.find(_leaf(1)) is None
    assert kept.size == 0


def test_no_more_is_kept_than_there_may_be() -> None:
    """However much is offered, and however often, the sum stays below the limit; one that is too large is not kept."""
    kept = KeptSegments(3 * MIB + 1, free_size=lambda: _PLENTY)
    for turn in range(6):
        for number in range(turn + 3):
            _read(kept, number)
            assert kept.size <= 3 * MIB + 1
    assert kept.size == 3 * MIB
    assert not kept.offer(_leaf(99), memoryview(bytes(4 * MIB)))


def test_what_is_read_once_drives_out_nothing_that_is_read_often() -> None:
    """A thousand cold segments pass; the hot ones are there all the time."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY)
    for _ in range(4):
        for number in range(4):
            _read(kept, number)
    for number in range(1000, 2000):
        assert not _read(kept, number)
    assert all(_read(kept, number) for number in range(4))


def test_of_more_than_fits_read_in_turn_a_part_stays() -> None:
    """Images of eight segments in turn, room for four: at least three of each round are found, not none."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY)
    found = [sum(_read(kept, number) for number in range(8)) for _ in range(50)]
    assert min(found[1:]) >= 3


def test_what_becomes_hot_takes_the_place_of_what_was() -> None:
    """Yesterday's images do not stay for ever: today's are kept after some reads."""
    kept = KeptSegments(4 * MIB, free_size=lambda: _PLENTY)
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
    kept = KeptSegments(8 * MIB, free_size=lambda: free[0], clock=lambda: now[0])
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


def test_a_view_outlives_what_is_kept() -> None:
    """Who has the bytes of a segment keeps them, also when it is driven out or all is given back."""
    kept = KeptSegments(2 * MIB, free_size=lambda: _PLENTY)
    _read(kept, 1)
    found = kept.find(_leaf(1))
    kept.resize(0)
    assert kept.size == 0
    assert kept.find(_leaf(1)) is None
    assert found is not None
    assert found == _bytes(1)


def test_memory_is_what_the_machine_or_its_container_has(tmp_path: Path) -> None:
    """The limit of a control group counts where it is less; without figures nothing is known, and nothing is kept."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "box").mkdir(parents=True)
    assert free_memory(proc, cgroup) == (0, 0)
    (proc / "meminfo").write_text("MemTotal: 16384 kB\nMemFree: 1 kB\nMemAvailable: 8192 kB\nHugePages_Total: 0\n")
    assert free_memory(proc, cgroup) == (8192 << 10, 16384 << 10)
    (proc / "self/cgroup").write_text("0::/box\n")
    (cgroup / "box/memory.max").write_text("max\n")
    assert free_memory(proc, cgroup) == (8192 << 10, 16384 << 10)
    (cgroup / "box/memory.max").write_text("4194304\n")
    (cgroup / "box/memory.current").write_text("3145728\n")
    (cgroup / "box/memory.stat").write_text("anon 5\ninactive_file 1000000\nactive_file 48576\n")
    assert free_memory(proc, cgroup) == (4194304 - 3145728 + 1048576, 4194304)


@pytest.mark.parametrize("count", [1, 4])
def test_processes_share_a_quarter_of_the_memory(count: int) -> None:
    """Workers of one machine together take no more than one would."""
    assert usual_size(count) * count <= free_memory()[1] // 4 < usual_size(count) * count + count
