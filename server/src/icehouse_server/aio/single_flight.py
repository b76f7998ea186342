"""One question at a time per key: whoever comes while it is under way gets the same answer."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence


class SingleFlight[K, V]:
    """Single flight per key, in tasks of its own. Used from one event loop.

    A caller that is cancelled does not end the question: others may wait for it. Failures are not kept.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, ask: Callable[[], Coroutine[object, object, V]]) -> V:
        """Return the answer for a key, asking only if no other caller is asking."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(ask())
            task.add_done_callback(lambda done: self._landed(key, done))
        await asyncio.wait([task])
        return task.result()

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


class BatchFlight[K, V]:
    """Single flight per key, for callers that want several keys at once. Used from one event loop.

    A batch is fetched in the task of its caller and ends with it; who waited for one of its keys then fetches
    that key. A failure reaches all who wait for it. Nothing is kept.
    """

    def __init__(self) -> None:
        self._flying: dict[K, asyncio.Future[V]] = {}

    async def run(self, keys: Iterable[K], fetch: Callable[[list[K]], Awaitable[Sequence[V]]]) -> dict[K, V]:
        """Return the value of each key.

        Args:
            keys: what is wanted; a key may be given twice.
            fetch: returns the values of those keys that no other caller is fetching, in their order.
        """
        missing = list(dict.fromkeys(keys))
        found: dict[K, V] = {}
        while missing:
            others = {key: self._flying[key] for key in missing if key in self._flying}
            mine = [key for key in missing if key not in others]
            if mine:
                found.update(await self._fetch(mine, fetch))
            for key, flight in others.items():
                await asyncio.wait([flight])
                if not flight.cancelled():
                    found[key] = flight.result()
            missing = [key for key in missing if key not in found]
        return found

    async def _fetch(self, keys: list[K], fetch: Callable[[list[K]], Awaitable[Sequence[V]]]) -> dict[K, V]:
        loop = asyncio.get_running_loop()
        flights: dict[K, asyncio.Future[V]] = {key: loop.create_future() for key in keys}
        self._flying.update(flights)
        try:
            values = dict(zip(keys, await fetch(keys), strict=True))
        except Exception as error:
            for flight in flights.values():
                flight.set_exception(error)
                flight.exception()  # read here: there may be no other caller
            raise
        else:
            for key, flight in flights.items():
                flight.set_result(values[key])
            return values
        finally:
            for key, flight in flights.items():
                del self._flying[key]
                flight.cancel()  # does nothing unless this caller was cancelled
