"""A deadline for all that a request waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from icehouse_server.core.errors import DeadlineExceededError


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """End everything that a request waits for: reading, too, can hang where a disk does.

    Raises:
        DeadlineExceededError: the time is up.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceededError(f"the request was not answered within {seconds:.0f} s") from None
