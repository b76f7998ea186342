"""Tasks of a source: cancelled with their callers, and ended when it closes."""

import asyncio

import pytest

from icehouse_server.aio.task_set import TaskSet
from icehouse_server.core.errors import SourceUnavailableError


class Read:
    """Hangs for ever, and notes its end."""

    def __init__(self):
        self.ended = False

    async def __call__(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_task_ends_with_its_caller():
    tasks, read = TaskSet(), Read()
    caller = asyncio.create_task(tasks.run(read))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert read.ended


async def test_close_ends_all_and_refuses_more():
    tasks, reads = TaskSet(), [Read(), Read()]
    callers = [asyncio.create_task(tasks.run(read)) for read in reads]
    await asyncio.sleep(0.01)
    await tasks.close()
    await tasks.close()
    assert all(read.ended for read in reads)
    assert all(
        isinstance(outcome, asyncio.CancelledError)
        for outcome in await asyncio.gather(*callers, return_exceptions=True)
    )
    with pytest.raises(SourceUnavailableError):
        await tasks.run(reads[0])
