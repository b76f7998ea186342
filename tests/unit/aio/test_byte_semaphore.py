"""A bound on bytes: turns go by who came first, and who leaves gives up its turn."""

import asyncio

from icehouse_server.aio.byte_semaphore import ByteSemaphore


async def test_bytes_are_held_in_turn():
    semaphore, seen, peak = ByteSemaphore(limit=10), [], 0

    async def work(name, size):
        nonlocal peak
        async with semaphore.take(size):
            peak = max(peak, semaphore.held)
            seen.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(work("a", 6), work("b", 100), work("c", 1))
    assert seen == ["a", "b", "c"]
    assert peak == 10
    assert semaphore.held == 0


async def test_cancelled_caller_gives_up_its_turn():
    semaphore = ByteSemaphore(limit=4)
    async with semaphore.take(4):
        leaver, stayer = (asyncio.create_task(_hold(semaphore)) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
    await stayer
    assert semaphore.held == 0


async def _hold(semaphore):
    async with semaphore.take(3):
        pass
