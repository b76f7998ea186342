"""Work for a client that may go away: then the work is cancelled."""

import asyncio
from collections.abc import Coroutine

from fastapi import Request


class ClientGoneError(Exception):
    """The client closed its connection before there was an answer."""


async def while_connected[T](request: Request, work: Coroutine[object, object, T]) -> T:
    """Await work, and cancel it as soon as the client closes its connection.

    Chunks that no request waits for any more and whose fetch has not begun are then not fetched.

    Raises:
        ClientGoneError: the client is gone; no answer can reach it.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
