"""Admission: which answers may hold memory, and which of the large ones may compute."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import structlog

from icehouse_server.aio.worker_pool import RunningThreads
from icehouse_server.raster.out_of_memory import is_out_of_memory
from icehouse_server.service.memory_budget import MemoryBudget

log = structlog.get_logger(__name__)

_LARGE_BYTES = 16 * 1024**2
"""Moved bytes from which answers are made one after the other, so that small ones find a processor free."""

_LARGE_PATIENCE = 1.0
"""Seconds that a large answer waits for its turn at most: one that hangs must not hold up the others."""


class HeldMemory:
    """Bytes of the budget that one answer holds until ``release``.

    Attributes:
        threads: what works with the memory.
    """

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        self.threads = RunningThreads()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work with the memory during a block: threads begun there hold it, and it may turn out too little.

        Raises:
            BusyError: the system has no more memory, and other answers hold some of it.
            TooLargeError: the same, and this answer is alone.
        """
        with self.threads.watched():
            try:
                yield
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("memory ran out", answer=self._size, held=self._budget.held)
                raise self._budget.exhausted(self._size) from None

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def shrink(self, size: int) -> None:
        """Give back what is over ``size``; no thread works with it any more."""
        size = min(size, self._size)
        over, self._size = self._size - size, size
        self._budget.release(over)

    def release(self) -> None:
        """Give the bytes back, when no thread works with them any more. Safe to call twice."""
        size, self._size = self._size, 0
        self.threads.when_idle(lambda: self._budget.release(size))


class Admission:
    """Bounds what answers take of the machine: memory for all of them, turns for the large ones.

    Must be used on one event loop.

    Attributes:
        budget: the memory of all answers.
    """

    def __init__(self, max_bytes: int, *, patience: float) -> None:
        """Make an admission.

        Args:
            max_bytes: memory that all answers under way may hold.
            patience: seconds that an answer waits for its memory.
        """
        self.budget = MemoryBudget(max_bytes)
        self._patience = patience
        self._large = asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))

    async def memory(self, size: int) -> HeldMemory:
        """Wait for memory, and return it.

        Raises:
            TooLargeError: more than the whole budget.
            BusyError: not to be had in time.
        """
        await self.budget.acquire(size, self._patience)
        return HeldMemory(self.budget, size)

    @asynccontextmanager
    async def turn(self, memory: HeldMemory, size: int) -> AsyncIterator[None]:
        """Let large answers take turns; small ones go at once. A turn ends with its last thread.

        Args:
            memory: of the answer.
            size: bytes that it moves.
        """
        mine = False
        if size > _LARGE_BYTES:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LARGE_PATIENCE):
                    mine = await self._large.acquire()
        try:
            yield
        finally:
            if mine:
                memory.threads.when_idle(self._large.release)
