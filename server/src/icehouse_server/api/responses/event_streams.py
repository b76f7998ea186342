"""Server-sent events: what is new, heartbeats in between, and an end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from icehouse_server.api.middleware.head_as_get import is_head
from icehouse_server.api.observability.request_context import context_of
from icehouse_server.api.responses.disconnect import ClientGoneError, while_connected
from icehouse_server.api.responses.problems import of_error
from icehouse_server.core.errors import BusyError

MEDIA_TYPE = "text/event-stream"

_HEARTBEAT = 15.0
"""Seconds after which a comment is sent where nothing happens: neither side takes the other for dead."""

_PAUSE = 0.2
"""Seconds between two events: what changes more often is sent once."""

_RETRY_AFTER = 10.0
"""Seconds after which to ask again where too many streams are open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a stream tells once."""

    name: str
    data: str | AsyncIterator[str]
    """JSON on one line; what is large comes in parts, each made when it is asked for."""
    id: int | None = None
    last: bool = False
    """Nothing comes after it."""

    async def parts(self) -> AsyncGenerator[str]:
        """The event as it is sent."""
        number = "" if self.id is None else f"id: {self.id}\n"
        before = f"event: {self.name}\n{number}data: "
        if isinstance(self.data, str):
            yield f"{before}{self.data}\n\n"
            return
        async for part in self.data:
            yield before + part
            before = ""
        yield "\n\n"


class Feed(Protocol):
    """What a stream reports. It keeps nothing for a reader but what was sent last."""

    async def news(self, seconds: float) -> Event | None:
        """Wait until there is something to tell, or until the time is up: None.

        Raises:
            FeedEndedError: nothing will come any more.
        """
        ...


class FeedEndedError(Exception):
    """A feed has nothing more to tell, and no last event."""


class Streams:
    """The open streams of a daemon: how many there may be, and their end. Used on the event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._stopping = asyncio.Event()

    def __len__(self) -> int:
        return self._open

    def enter(self) -> None:
        """Count a stream that begins.

        Raises:
            BusyError: too many are open.
        """
        if self._open >= self._most:
            raise BusyError(
                f"{self._open} event streams are open, which is max_event_streams", retry_after=_RETRY_AFTER
            )
        self._open += 1

    def leave(self) -> None:
        """Count a stream that has ended."""
        self._open -= 1

    async def rest(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            FeedEndedError: the daemon stops.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
                raise FeedEndedError

    def close(self) -> None:
        """End the feeds that have no end of their own: the daemon stops."""
        self._stopping.set()


class EventStream(Response):
    """Tells what a feed has to tell, until it ends or the client is gone.

    The feed is asked when the event before has left, and a part of an event is made when the one before has:
    a reader that is slow piles up nothing.

    Args:
        feed: what is sent.
        streams: among which it counts.
    """

    def __init__(self, feed: Feed, streams: Streams) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, MEDIA_TYPE)
        del self.headers["content-length"]
        self._feed = feed
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the feed has ended, or the client is gone."""
        if is_head(scope):
            await self._begin(send)
            await self._end(send)
            return
        try:
            self._streams.enter()
        except BusyError as error:
            await of_error(error)(scope, receive, send)
            return
        try:
            await self._begin(send)
            await while_connected(Request(scope, receive), self._tell(send))
        except ClientGoneError:
            context_of(scope).gone = True
            return
        finally:
            self._streams.leave()
        await self._end(send)

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _end(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        with contextlib.suppress(FeedEndedError):
            while not await self._tell_next(send):
                pass

    async def _tell_next(self, send: Send) -> bool:
        """Send what comes next; return whether it was the last. Nothing of it is held afterwards."""
        event = await self._feed.news(_HEARTBEAT)
        if event is None:
            await _send(send, ": still here\n\n")
        else:
            async with contextlib.aclosing(event.parts()) as parts:
                async for part in parts:
                    await _send(send, part)
            if event.last:
                return True
        await asyncio.sleep(_PAUSE)  # a feed that had nothing to tell must not keep the loop for itself
        return False


async def _send(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
