"""One question at a time per key: who comes while it is under way gets the same answer."""

import asyncio
from collections.abc import Callable, Coroutine


class SingleFlight[K, V]:
    """Single flight per key, on one event loop.

    A caller that is cancelled does not end the question: others may wait for it. Failures are not kept.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, ask: Callable[[], Coroutine[object, object, V]]) -> V:
        """Return the answer for a key, asking only if nobody is asking."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(ask())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # read here as well: every caller may be gone

    async def close(self) -> None:
        """Cancel what is under way and wait until it has ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
