"""A budget of memory for answers under way."""

import asyncio
import time
from collections.abc import Callable

from icehouse_server.aio.byte_semaphore import ByteSemaphore
from icehouse_server.core.errors import BusyError, TooLargeError
from icehouse_server.core.rates import RateEstimator


class MemoryBudget:
    """Bytes that answers may hold at once. First come, first served, so that a large one is not starved.

    Must be used on one event loop.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes = ByteSemaphore(limit=total)
        self._pace = RateEstimator(clock)
        """Of bytes that are given back."""

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._bytes.held

    @property
    def total(self) -> int:
        """Bytes of the whole budget."""
        return self._bytes.limit

    @property
    def waiting(self) -> int:
        """Answers that wait for their share of it."""
        return self._bytes.waiting

    def check(self, size: int) -> None:
        """Refuse an answer that needs more than there is.

        Raises:
            TooLargeError: more than the whole budget.
        """
        if size > self.total:
            raise TooLargeError(
                f"this answer needs {size} bytes of memory; all answers together get {self.total}",
                limit=self.total,
                asked=size,
                setting="max_answer_bytes",
            )

    def exhausted(self, size: int) -> BusyError | TooLargeError:
        """Return the error of an answer that holds its share of the budget, where the system had no more.

        Args:
            size: what the answer holds.
        """
        if self.held > size:
            return BusyError(
                "the system has no more memory for this answer, as others are under way",
                retry_after=self._pace.seconds_for(size),
            )
        return TooLargeError(
            f"the system has less memory than the {size} bytes that this answer may need",
            limit=self.total,
            asked=size,
            setting="max_answer_bytes",
            hint="ask for less at a time; lower the settings 'max_answer_bytes' and 'decoded_cache_bytes' to "
            "what the machine or container has, or give it more memory",
        )

    async def acquire(self, size: int, seconds: float) -> None:
        """Wait for ``size`` bytes of the budget; give them back with ``release``.

        Raises:
            TooLargeError: more than the whole budget.
            BusyError: not to be had within ``seconds``.
        """
        self.check(size)
        try:
            async with asyncio.timeout(seconds):
                await self._bytes.acquire(size)
        except TimeoutError:
            short = self.held + self._bytes.wanted + size - self.total
            raise BusyError(
                "too many large answers are under way", retry_after=self._pace.seconds_for(short)
            ) from None

    def release(self, size: int) -> None:
        """Give bytes back and let those in who fit now."""
        if size:
            self._pace.note(size)
        self._bytes.release(size)
