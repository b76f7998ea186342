"""Connections: what one may take of time and memory before and after the application sees its request.

uvicorn bounds neither how long a client may send its request or read its answer, nor how long a head may be
(0.54). Here each connection notes when it began what it is at; one look a second ends those that are late.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from icehouse_server.api.responses.problems import of_error, problem
from icehouse_server.core.errors import BusyError
from icehouse_server.core.limits import ConnectionLimits

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

log = structlog.get_logger(__name__)

_MAX_HEAD_BYTES = 64 * 1024
"""Length of a request's head as it arrives; the application refuses less, and says so (``SizeLimits``)."""

REFUSED_CONNECTIONS = 64
"""Connections beyond the limit that still get an answer that says so; further ones are closed without one."""

_LINGER = 5.0
"""Seconds for which a refused client may go on sending: were it closed at once, the answer might get lost."""

_MIB = 1024**2


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Must be used on the event loop."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **options)
        self._limits = limits
        self._served = self._counted(self.app)
        self._begun: float | None = None
        """When the request that is now being received began; None while none is."""
        self._in_head = True
        self._refused = False
        """What still arrives is thrown away."""
        self._without_body = 0
        """Bytes received in a row that were no part of a body."""
        self._written = 0
        """Bytes of bodies that were given to the connection."""
        self._sending: tuple[float, int] | None = None
        """When the client was first seen to lag behind, and the bytes that it had then taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; too many get no answer."""
        super().connection_made(transport)
        self._begun = self.loop.time()
        if len(self.connections) > self._limits.connections + REFUSED_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; a head, trailers or chunk extensions without end are not collected."""
        if self._refused:
            return
        if self._begun is None:
            self._begun = self.loop.time()
        self._without_body += len(data)
        super().data_received(data)
        if self._without_body > _MAX_HEAD_BYTES and not self._refused:
            detail = f"the head of the request is longer than {_MAX_HEAD_BYTES} bytes"
            self._refuse(problem(431, "headers-too-large", detail, extensions={"limit": _MAX_HEAD_BYTES}))

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        super().on_message_begin()
        self._in_head = True
        if self._begun is None:
            self._begun = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are dropped: they come when the headers were looked at already."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the application answer, or say that there are too many."""
        busy = len(self.connections) > self._limits.connections
        self.app = cast("ASGI3Application", _say_busy) if busy else self._served
        super().on_headers_complete()
        self._in_head = False  # not before: where the target can't be read, no application answers yet

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request has arrived."""
        self._begun, self._without_body = None, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's sentence, in plain text
        """Answer what is not HTTP."""
        self._refuse(problem(400, "bad-request", "this can't be read as an HTTP request"))

    def look(self, now: float) -> None:
        """End this connection if its client is late."""
        self._look_at_sending(now)
        if self._begun is None:
            return
        if self._refused:
            if now - self._begun > _LINGER:
                self.transport.abort()
        elif self.flow.read_paused or (self._in_head and self._answering is not None):
            self._begun = now  # what is late is not the client's request
        elif now - self._begun > self._limits.receive_timeout:
            if self._is_new:
                self.transport.close()  # it never asked for anything
                return
            detail = f"the request was not complete within {self._limits.receive_timeout:g} s"
            self._refuse(problem(408, "request-timeout", detail))

    def _look_at_sending(self, now: float) -> None:
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._sending = None
            return
        taken = self._written - waiting
        begun, first = self._sending = self._sending or (now, taken)
        if now - begun > self._limits.send_timeout * (1 + (taken - first) / _MIB):
            self.transport.abort()  # closing would wait until all is sent

    def _counted(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a count of what it sends: of parts that come one by one, too."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async def count(message: Message) -> None:
                await send(message)
                self._written += len(message.get("body", b""))

            await app(scope, receive, count)

        return serve

    @property
    def _is_new(self) -> bool:
        return cast("RequestResponseCycle | None", self.cycle) is None and not self._without_body

    @property
    def _answering(self) -> RequestResponseCycle | None:
        """The request that is not answered yet, or None."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _refuse(self, answer: Response) -> None:
        """Answer what can't be a request for the application, and close when the client has heard it."""
        cycle = self._answering
        self._refused, self._begun = True, self.loop.time()
        answered = not self._in_head if cycle is None else cycle.response_started or not cycle.more_body
        if answered:
            self.transport.close()  # a second answer would be taken for that to the next request
            return
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + bytes(answer.body))
        self.transport.write_eof()


async def _say_busy(scope: Scope, receive: Receive, send: Send) -> None:
    answer = of_error(BusyError("too many connections are open", retry_after=1))
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


def look_at(connections: Iterable[BoundedProtocol], limits: ConnectionLimits, now: float) -> None:
    """End connections whose clients are late, and say when there are too many. Cheap: once a second."""
    listed = tuple(connections)
    for connection in listed:
        connection.look(now)
    if len(listed) > limits.connections:
        log.warning("more connections than max_connections", connections=len(listed))
