"""Blocking work in threads, awaited on the loop."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from icehouse_server.aio.worker_pool import run_in


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
