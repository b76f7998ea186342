"""The reads of a source that are under way: whoever waits for one may leave, and all end when it closes."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from icehouse_server.core.errors import SourceUnavailableError
from icehouse_server.core.ports import Block


@dataclass(slots=True)
class TaskSet:
    """Runs reads as tasks of their own. Used from one event loop."""

    _running: set[asyncio.Task[Block]] = field(default_factory=set)
    _closed: bool = False

    async def run(self, read: Callable[[], Coroutine[object, object, Block]]) -> Block:
        """Run a read; it is cancelled where its caller is.

        Raises:
            SourceUnavailableError: the source is closed.
        """
        if self._closed:
            raise SourceUnavailableError("this source is closed")
        task = asyncio.ensure_future(read())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def close(self) -> None:
        """Take no further reads, cancel those under way, and wait for them. Safe to call twice."""
        self._closed = True
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
