"""Several coroutines at once, of which the first failure ends all."""

import asyncio
from collections.abc import Coroutine, Iterable


async def gather_or_cancel[T](works: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Run coroutines at once and return their results in order.

    The first failure cancels the others and is raised as it is: callers want the typed error, not an
    ``ExceptionGroup`` around it. When this returns or raises, none of them is running any more.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
