"""Segment buffers: kept by one ingest, shared by many, never waited for."""

import random
from collections import deque

import pytest

from casimg.buffers import BufferBudget, SegmentBuffers


def never() -> bool:
    pytest.fail("nothing must be finished for a buffer that is there")


def test_one_ingest_alone_keeps_what_it_has() -> None:
    """Without a budget every buffer comes back to be used again."""
    buffers = SegmentBuffers()
    first, second = buffers.take(never), buffers.take(never)
    buffers.give(first)
    buffers.give(second)
    assert {id(buffers.take(never)), id(buffers.take(never))} == {id(first), id(second)}


def test_each_has_one_whatever_the_others_do() -> None:
    """With an empty budget an ingest gets its first buffer at once, and the next by finishing its own work."""
    budget = BufferBudget(0)
    ones = [SegmentBuffers(budget) for _ in range(3)]
    for one in ones:
        at_work = deque([one.take(never)])

        def finish(one: SegmentBuffers = one, at_work: deque[bytearray] = at_work) -> bool:
            one.give(at_work.popleft())
            return True

        held = at_work[0]
        assert one.take(finish) is held


def test_what_is_borrowed_goes_back_at_once() -> None:
    """A buffer of the budget that is given back can be taken by another; the last one stays."""
    budget = BufferBudget(1)
    one, other = SegmentBuffers(budget), SegmentBuffers(budget)
    first, second = one.take(never), one.take(never)
    assert budget.take() is False
    one.give(first)
    other.take(never)
    other.take(never)
    assert budget.take() is False
    one.give(second)
    assert one.take(never) is second
    one.clear()
    other.clear()
    assert budget.take() is True


def test_a_source_that_holds_everything_gets_one_more() -> None:
    """When nothing can be finished a buffer is made all the same: nothing ever waits for ever."""
    budget = BufferBudget(0)
    buffers = SegmentBuffers(budget)
    buffers.take(never)
    extra = buffers.take(lambda: False)
    buffers.give(extra)
    buffers.clear()
    assert budget.take() is False


def test_the_budget_is_kept() -> None:
    """However many ingests take, finish and fail: together they have at most one each and the budget."""
    rng = random.Random(5)
    budget = BufferBudget(4)
    ones = [(SegmentBuffers(budget), deque[bytearray]()) for _ in range(6)]
    most = 0
    for _ in range(3000):
        one, at_work = rng.choice(ones)

        def finish(one: SegmentBuffers = one, at_work: deque[bytearray] = at_work) -> bool:
            if not at_work:
                return False
            one.give(at_work.popleft())
            return True

        turn = rng.random()
        if turn < 0.6:
            at_work.append(one.take(finish))
        elif turn < 0.95:
            finish()
        else:
            at_work.clear()
            one.clear()
        most = max(most, sum(len(held) for _, held in ones))
    assert 6 < most <= 6 + 4
    for one, _ in ones:
        one.clear()
    assert [budget.take() for _ in range(5)] == [True] * 4 + [False]
