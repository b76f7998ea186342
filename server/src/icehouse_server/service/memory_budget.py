"""A budget of memory for answers under way."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from icehouse_server.core.errors import BusyError, TooLargeError
from icehouse_server.core.rates import RateEstimator


class MemoryBudget:
    """Bytes that answers may hold at once. First come, first served, so that a large one is not starved.

    Must be used on one event loop.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._pace = RateEstimator(clock)
        """Of bytes that are given back."""
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

    def check(self, size: int) -> None:
        """Refuse what can never be had.

        Raises:
            TooLargeError: more than the whole budget.
        """
        if size > self._total:
            raise TooLargeError(
                f"this answer needs {size} bytes of memory; all answers together get {self._total}",
                limit=self._total,
                asked=size,
                setting="max_answer_bytes",
            )

    async def acquire(self, size: int, seconds: float) -> None:
        """Wait for ``size`` bytes of the budget; give them back with ``release``.

        Raises:
            TooLargeError: more than the whole budget.
            BusyError: not to be had within ``seconds``.
        """
        self.check(size)
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
                self._give_back(size)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            if isinstance(error, TimeoutError):
                short = self._held + sum(asked for asked, _ in self._waiting) + size - self._total
                raise BusyError(
                    "too many large answers are under way", retry_after=self._pace.seconds_for(short)
                ) from None
            raise

    def release(self, size: int) -> None:
        """Give bytes back and let those in who fit now."""
        if size:
            self._pace.note(size)
        self._give_back(size)

    def _give_back(self, size: int) -> None:
        self._held -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._held + self._waiting[0][0] <= self._total:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)
