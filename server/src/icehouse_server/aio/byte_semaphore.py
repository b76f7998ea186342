"""A bound on bytes that several tasks share."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class ByteSemaphore:
    """Bytes that may be held at once. Turns are given in the order of arrival. Used from one event loop."""

    limit: int
    """Bytes. A task that needs more than this works alone."""
    held: int = 0
    _waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """Tasks that wait for their turn."""
        return len(self._waiting)

    @property
    def wanted(self) -> int:
        """Bytes that the waiting tasks ask for."""
        return sum(size for size, _ in self._waiting)

    @contextlib.asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Hold some bytes for the length of a block; more than ``limit`` counts as ``limit``."""
        size = min(size, self.limit)
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    async def acquire(self, size: int) -> None:
        """Wait for some bytes, at most ``limit``, and hold them until ``release``."""
        if not self._waiting and self.held + size <= self.limit:
            self.held += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.held -= size
            self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
            self._admit()
            raise

    def release(self, size: int) -> None:
        """Give bytes back, and let those in who fit now."""
        self.held -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.held + self._waiting[0][0] <= self.limit:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.held += size
                turn.set_result(None)
