"""A look at something slow: one at a time, and what it found counts for a while."""

import asyncio
import time
from collections.abc import Callable, Coroutine

from icehouse_server.aio.single_flight import SingleFlight


class ProbeTimeoutError(Exception):
    """A probe did not answer in time. It may still be under way."""


class CachedProbe[T]:
    """The result of a probe, shared by all callers. Used from one event loop.

    However many ask, one probe is under way: a disk that hangs takes one thread, and not all of a pool.
    Failures reach those who wait for them and are not kept.

    Args:
        max_age: seconds for which a result counts, from when it was found. With 0 callers share only a probe
            that is under way.
    """

    def __init__(self, max_age: float = 0.0) -> None:
        self._max_age = max_age
        self._found: tuple[float, T] | None = None
        self._flight: SingleFlight[None, T] = SingleFlight()

    async def get(
        self, probe: Callable[[], Coroutine[object, object, T]], patience: float | None = None
    ) -> T:
        """Return what was found a short time ago, or what the probe finds now.

        Args:
            probe: run where no result is young enough and no probe is under way.
            patience: seconds to wait at most; None for as long as it takes. The probe itself goes on, and
                the next caller waits for the same one.

        Raises:
            ProbeTimeoutError: it found nothing within ``patience``.
        """
        if self._found is not None and time.monotonic() - self._found[0] < self._max_age:
            return self._found[1]
        try:
            async with asyncio.timeout(patience) as limit:
                return await self._flight.run(None, lambda: self._run(probe))
        except TimeoutError as error:
            if limit.expired():
                raise ProbeTimeoutError from error
            raise

    async def _run(self, probe: Callable[[], Coroutine[object, object, T]]) -> T:
        found = await probe()
        self._found = time.monotonic(), found
        return found

    async def close(self) -> None:
        """Cancel the probe that is under way, and wait until it has ended. Safe to call twice."""
        await self._flight.close()
