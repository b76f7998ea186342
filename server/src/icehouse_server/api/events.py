"""Server-sent events of one job: its state whenever it changes, and its end."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from icehouse_server.api.guards import is_head
from icehouse_server.api.notes import note_of
from icehouse_server.api.vanish import ClientGoneError, while_connected
from icehouse_server.service import Job

MEDIA_TYPE = "text/event-stream"

_HEARTBEAT = 15.0
"""Seconds after which a comment is sent where nothing happens: neither side takes the other for dead."""

_PAUSE = 0.2
"""Seconds between two events: what changes more often is told once."""


class EventStream(Response):
    """Tells of a job until it is over.

    Only the latest state is sent, when the one before has left: a reader that is slow piles up nothing.

    Args:
        job: what is told of.
        document: returns its state as JSON on one line.
    """

    def __init__(self, job: Job, document: Callable[[], str]) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, MEDIA_TYPE)
        del self.headers["content-length"]
        self._job = job
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the job is over, or the client is gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if not is_head(scope):
            try:
                await while_connected(Request(scope, receive), self._tell(send))
            except ClientGoneError:
                note_of(scope).gone = True
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        job, seen = self._job, -1
        while True:
            version, over = job.version, job.over
            if version != seen or over:
                text = f"event: {'end' if over else 'progress'}\nid: {version}\ndata: {self._document()}\n\n"
            else:
                text = ": still here\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            if over:
                return
            seen = version
            await job.news(seen, _HEARTBEAT)
            if job.version != seen:
                await asyncio.sleep(_PAUSE)
