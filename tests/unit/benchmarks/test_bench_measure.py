"""What the benchmarks write of how they were run."""

import os

from benchmarks.measure import command_line, memory_files_size


def test_a_command_names_no_folder_of_a_machine() -> None:
    """Relative paths stay, of absolute ones the last part is kept, and a package is called by its name."""
    said = command_line("benchmarks.chunkers.__main__", ["/srv/images/a.raw", "--results", ".bench/x"])
    assert said == "python -m benchmarks.chunkers */a.raw --results .bench/x"


def test_files_in_memory_are_counted() -> None:
    """What a process holds in files without a name is told, also when it is not mapped; holes are not counted."""
    before = memory_files_size()
    fd = os.memfd_create("held")
    try:
        os.ftruncate(fd, 64 << 20)
        os.pwrite(fd, bytes(2 << 20), 8 << 20)
        assert memory_files_size() - before == 2 << 20
    finally:
        os.close(fd)
    assert memory_files_size() == before
    assert memory_files_size(1 << 30) == 0
