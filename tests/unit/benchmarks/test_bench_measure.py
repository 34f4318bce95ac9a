"""What the benchmarks write of how they were run."""

from benchmarks.measure import command_line


def test_a_command_names_no_folder_of_a_machine() -> None:
    """Relative paths stay, of absolute ones the last part is kept, and a package is called by its name."""
    said = command_line("benchmarks.chunkers.__main__", ["/srv/images/a.raw", "--results", ".bench/x"])
    assert said == "python -m benchmarks.chunkers */a.raw --results .bench/x"
