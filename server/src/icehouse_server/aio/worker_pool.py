"""Blocking work in threads, awaited on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor


async def run_in[T, *Ts](pool: Executor, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking function in a pool's thread and return its result.

    A caller that is cancelled leaves at once; a thread that has begun runs to the end of its function.
    Context variables do not follow into the thread, as with ``run_in_executor``: a function that reads them
    is passed as ``contextvars.copy_context().run, function``.
    """
    return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
