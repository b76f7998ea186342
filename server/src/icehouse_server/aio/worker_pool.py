"""Blocking work in threads, awaited on the event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import Any


class RunningThreads:
    """The calls of ``run_in`` begun within ``watched``: a thread goes on where its caller has left.

    What such a call works with, memory above all, is free when it has returned. Used from one event loop.
    """

    def __init__(self) -> None:
        self._calls: list[Future[Any]] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch what this task, and tasks that it starts, run in threads during a block."""
        token = _watching.set(self)
        try:
            yield
        finally:
            _watching.reset(token)

    def note(self, call: Future[Any]) -> None:
        """Remember a call until it has returned."""
        self._calls = [known for known in self._calls if not known.done()]
        self._calls.append(call)

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call a function on the event loop when all calls have returned: at once, where they have."""
        running = [call for call in self._calls if not call.done()]
        if not running:
            then()
            return
        loop = asyncio.get_running_loop()

        def ended(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is counted any more
                loop.call_soon_threadsafe(self.when_idle, then)

        running[0].add_done_callback(ended)


_watching: ContextVar[RunningThreads | None] = ContextVar("watching", default=None)


async def run_in[T, *Ts](pool: Executor, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking function in a pool's thread and return its result.

    A caller that is cancelled leaves at once; a thread that has begun runs to the end of its function, which
    ``RunningThreads`` tells of. Context variables do not follow into the thread, as with ``run_in_executor``:
    a function that reads them is passed as ``contextvars.copy_context().run, function``.
    """
    call = pool.submit(function, *args)
    watch = _watching.get()
    if watch is not None:
        watch.note(call)
    return await asyncio.wrap_future(call)
