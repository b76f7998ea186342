"""The memory budget: first come, first served, and nothing is lost or given twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.errors import BusyError, TooLargeError
from icehouse_server.service.memory_budget import MemoryBudget


async def test_more_than_the_whole_is_refused_at_once():
    budget = MemoryBudget(100)
    with pytest.raises(TooLargeError) as caught:
        await budget.acquire(101, 5)
    assert (caught.value.limit, caught.value.asked, caught.value.setting) == (100, 101, "max_answer_bytes")
    assert budget.held == 0
    await budget.acquire(100, 5)
    assert budget.held == 100


async def test_first_come_first_served():
    budget, order = MemoryBudget(100), []

    async def one(name, size):
        await budget.acquire(size, 5)
        order.append(name)

    await budget.acquire(60, 5)
    tasks = [asyncio.ensure_future(one(*ask)) for ask in (("large", 90), ("small", 10), ("tiny", 1))]
    await asyncio.sleep(0)
    assert order == [], "the small ones would fit, but the large one came first"
    budget.release(60)
    await asyncio.sleep(0)
    assert order == ["large", "small"]
    budget.release(90)
    await asyncio.gather(*tasks)
    assert order == ["large", "small", "tiny"]
    assert budget.held == 11


async def test_a_wait_ends_as_busy_and_leaves_nothing_behind():
    budget = MemoryBudget(10)
    await budget.acquire(10, 5)
    later = asyncio.ensure_future(budget.acquire(1, 5))
    with pytest.raises(BusyError):
        await budget.acquire(5, 0.02)
    budget.release(10)
    await later
    assert budget.held == 1


async def test_retry_after_is_what_must_go_first_at_the_pace_of_before():
    """And who waits so long gets in."""
    clock = [0.0]
    budget = MemoryBudget(100, lambda: clock[0])
    for second in range(5):  # ten bytes a second
        clock[0] = float(second)
        await budget.acquire(10, 5)
        budget.release(10)
    for _ in range(10):
        await budget.acquire(10, 5)
    with pytest.raises(BusyError) as caught:
        await budget.acquire(30, 0.01)
    assert caught.value.retry_after == 3
    for _ in range(3):
        clock[0] += 1.0
        budget.release(10)
    await budget.acquire(30, 0.01)


async def test_retry_after_counts_those_who_wait_already():
    clock = [0.0]
    budget = MemoryBudget(100, lambda: clock[0])
    for second in range(5):
        clock[0] = float(second)
        await budget.acquire(10, 5)
        budget.release(10)
    await budget.acquire(100, 5)
    first = asyncio.ensure_future(budget.acquire(50, 5))
    await asyncio.sleep(0)
    with pytest.raises(BusyError) as caught:
        await budget.acquire(20, 0.01)
    assert caught.value.retry_after == 7
    clock[0] += 600.0
    with pytest.raises(BusyError) as caught:
        await budget.acquire(20, 0.01)
    assert caught.value.retry_after == 60, "nothing moves"
    budget.release(100)
    await first


async def test_who_waits_behind_one_that_gives_up_is_let_in():
    budget = MemoryBudget(10)
    await budget.acquire(5, 5)
    large = asyncio.ensure_future(budget.acquire(10, 5))
    small = asyncio.ensure_future(budget.acquire(2, 5))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait_for(small, 5)
    assert budget.held == 7


async def test_one_that_is_cancelled_as_it_is_let_in_gives_back():
    budget = MemoryBudget(10)
    await budget.acquire(10, 5)
    waiter = asyncio.ensure_future(budget.acquire(10, 5))
    await asyncio.sleep(0)
    budget.release(10)  # its turn has come, but it has not run yet
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert budget.held == 0


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=15), seed=st.integers(0, 9999))
async def test_whatever_happens_the_books_balance(sizes, seed):
    budget, rng, most = MemoryBudget(12), random.Random(seed), 0

    async def one(size):
        nonlocal most
        await budget.acquire(size, rng.choice([0.0001, 5]))
        try:
            most = max(most, budget.held)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        finally:
            budget.release(size)

    tasks = [asyncio.ensure_future(one(size)) for size in sizes]
    for task in tasks:
        await asyncio.sleep(0)
        if rng.random() < 0.3:
            task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(result is None or isinstance(result, BusyError | asyncio.CancelledError) for result in results)
    assert most <= 12
    assert budget.held == 0
    assert not budget.waiting
