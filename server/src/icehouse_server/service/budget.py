"""A budget of memory for answers under way."""

import asyncio
from collections import deque

from icehouse_server.core.errors import BusyError, TooLargeError


class MemoryBudget:
    """Bytes that answers may hold at once. First come, first served, so that a large one is not starved.

    Must be used on one event loop.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    @property
    def total(self) -> int:
        """Bytes of the whole budget."""
        return self._total

    @property
    def waiting(self) -> int:
        """Answers that wait for their part of it."""
        return len(self._waiting)

    async def acquire(self, size: int, seconds: float) -> None:
        """Wait for ``size`` bytes of the budget; give them back with ``release``.

        Raises:
            TooLargeError: more than the whole budget.
            BusyError: not to be had within ``seconds``.
        """
        if size > self._total:
            raise TooLargeError(
                f"this answer needs {size} bytes of memory; all answers together get {self._total}",
                limit=self._total,
                asked=size,
                setting="max_answer_bytes",
            )
        if not self._waiting and self._held + size <= self._total:
            self._held += size
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.release(size)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            if isinstance(error, TimeoutError):
                raise BusyError("too many large answers are under way", retry_after=2) from None
            raise

    def release(self, size: int) -> None:
        """Give bytes back and let those in who fit now."""
        self._held -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._held + self._waiting[0][0] <= self._total:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)
