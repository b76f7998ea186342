"""The limits on what a request may bring: its headers, and its body."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icehouse_server.api.responses.problems import problem

MAX_HEADER_BYTES = 32 * 1024
"""Length of a request's target and headers, ten times what browsers send."""


class SizeLimits:
    """Refuses long headers, and long bodies before they are read.

    A body that does not say how long it is, is read up to the limit.
    """

    def __init__(self, app: ASGIApp, *, body: int) -> None:
        self._app = app
        self._limit = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        target = len(scope["raw_path"]) + len(scope["query_string"])
        if target + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            detail = f"target and headers are longer than {MAX_HEADER_BYTES} bytes"
            refusal = problem(431, "headers-too-large", detail, extensions={"limit": MAX_HEADER_BYTES})
            await refusal(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit:
            extensions = {"limit": self._limit, "setting": "max_body_bytes"}
            refusal = problem(413, "too-large", self._refusal, extensions=extensions)
            await refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, counted, send)

    @property
    def _refusal(self) -> str:
        return f"the body is longer than {self._limit} bytes, which max_body_bytes allows"
