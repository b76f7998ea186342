"""Several coroutines at once: the first failure ends all."""

import asyncio

import pytest

from icehouse_server.aio.gather import gather_or_cancel


async def test_the_first_failure_ends_all():
    ended = []

    async def slow():
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(1)

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        await gather_or_cancel([slow(), fail(), slow()])
    assert ended == [1, 1]
    assert await gather_or_cancel([]) == []
