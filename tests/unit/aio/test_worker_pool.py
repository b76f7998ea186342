"""Blocking work in threads, awaited on the loop."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from icehouse_server.aio.worker_pool import RunningThreads, run_in


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1, thread_name_prefix="named") as pool:
        yield pool


async def test_function_runs_in_the_pool_with_its_arguments(pool):
    def work(one, other):
        return threading.current_thread().name, one + other

    name, total = await run_in(pool, work, 1, 2)
    assert name.startswith("named")
    assert total == 3


async def test_failure_is_raised_as_it_is(pool):
    with pytest.raises(ZeroDivisionError):
        await run_in(pool, divmod, 1, 0)


async def test_cancelled_caller_leaves_while_the_thread_works(pool):
    go = threading.Event()
    waiting = asyncio.create_task(run_in(pool, go.wait, 10))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await run_in(pool, int, "1") == 1


async def test_when_idle_waits_for_threads_whose_caller_has_left(pool):
    go, threads, idle = threading.Event(), RunningThreads(), asyncio.Event()
    threads.when_idle(idle.set)
    assert idle.is_set(), "nothing was begun"
    idle.clear()

    async def work():
        with threads.watched():
            await asyncio.gather(*(run_in(pool, go.wait, 10) for _ in range(2)))

    waiting = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    threads.when_idle(idle.set)
    assert not idle.is_set()
    await asyncio.to_thread(go.set)
    await asyncio.wait_for(idle.wait(), 5)


async def test_what_is_run_outside_of_the_block_is_not_watched(pool):
    go, threads = threading.Event(), RunningThreads()
    with threads.watched():
        await run_in(pool, int, "1")
    waiting = asyncio.create_task(run_in(pool, go.wait, 10))
    await asyncio.sleep(0.01)
    idle = []
    threads.when_idle(lambda: idle.append(True))
    assert idle
    go.set()
    await waiting
