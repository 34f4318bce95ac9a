"""The simulation notices: each rule taken out is caught, or another layer is named that covers it."""

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.copy_mutants import COPY_MUTANTS
from tests.simulation.environment import simulated
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.mutation import Edit, mutated
from tests.simulation.run import run_schedule
from tests.simulation.world import Arena, arena


@pytest.fixture(scope="module")
def opened() -> Iterator[Arena]:
    """An arena for all mutants."""
    logging.disable(logging.CRITICAL)
    try:
        with simulated(), arena() as found:
            found.template("spread")  # not by a mutant: what is stored at the beginning decides what a seed does
            yield found
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("mutant", [*MUTANTS, *COPY_MUTANTS], ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_rule_taken_out_is_noticed(opened: Arena, mutant: Mutant) -> None:
    """The invariant that the rule serves fails within a few schedules, or none does where another layer covers it."""
    seen: list[str] = []
    with mutated(mutant.edits):
        for seed in range(mutant.first_seed, mutant.first_seed + mutant.seeds):
            violation = run_schedule(opened, mutant.scenario, seed).violation
            if violation is not None and violation.kind in mutant.kinds:
                return
            if violation is not None:
                seen.append(f"seed {seed}: {violation}")
    if mutant.covered:
        assert not seen, "it is said to be covered by: " + mutant.covered
    else:
        pytest.fail(f"not noticed in {mutant.seeds} schedules; others: {seen[:3]}")


def test_an_edit_that_no_longer_fits_is_an_error() -> None:
    """A mutant whose text is not in the code fails instead of changing nothing."""
    edit = Edit("casimg.catalog.collect:sweep", "text that is not there", "")
    with pytest.raises(AssertionError, match="must follow the code"), mutated([edit]):
        pass
