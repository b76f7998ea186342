"""What every request passes first: the Host check, the refusal of foreign pages, and the log line.

Pure ASGI: a wrapper that reads the answer's body would copy it.
"""

import time
import uuid
from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icehouse_server.api.problems import problem

log = structlog.get_logger(__name__)

MAX_HEADER_BYTES = 32 * 1024
"""Length of all headers of a request, ten times what browsers send."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})


class HostGuard:
    """Refuses requests for another host, against DNS rebinding, and state changes from foreign pages.

    Loopback names count with the port in use; further hosts come from the settings, exactly as
    ``name:port``, or as ``name`` for any port.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._answers_to(hosts[0].lower(), scope):
            refusal = problem(
                421,
                "host-refused",
                "this daemon does not answer to the Host of this request",
                hint="use localhost or 127.0.0.1, or add the name to the setting allowed_hosts",
            )
            await refusal(scope, receive, send)
            return
        if scope["method"] not in _SAFE_METHODS and not _is_own_site(headers, hosts[0]):
            refusal = problem(
                403, "cross-site-refused", "requests from foreign pages may not use this method"
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _answers_to(self, host: str, scope: Scope) -> bool:
        port = (scope.get("server") or (None, None))[1]
        if host in {f"{name}:{port}" for name in _LOOPBACK_NAMES}:
            return True
        if port in {80, None} and host in _LOOPBACK_NAMES:
            return True
        return host in self._allowed or host.rsplit(":", 1)[0] in self._allowed


def _is_own_site(headers: Headers, host: str) -> bool:
    """Return whether a request comes from no page, or from a page of this daemon."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = headers.get("origin")
    return origin is None or origin in {f"http://{host}", f"https://{host}"}


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
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            detail = f"the headers are longer than {MAX_HEADER_BYTES} bytes"
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


class HeadAsGet:
    """Answers HEAD wherever GET is answered: the same headers, no body, no Range (RFC 9110)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        as_get = {**scope, "method": "GET", "headers": headers}
        try:
            await self._app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")  # for the log, which knows the outer scope


class RequestLog:
    """Writes one line a request, counts it, and gives it an id that goes along in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and write its line when the last byte has left."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = uuid.uuid4().hex[:12]
        sent = {"status": 500, "bytes": 0}

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"icehouse-request-id", request_id.encode())]
            elif message["type"] == "http.response.body":
                sent["bytes"] += len(message.get("body", b""))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, count)
            finally:
                seconds = time.perf_counter() - begun
                route = getattr(scope.get("route"), "path", "unmatched")
                scope["app"].state.icehouse.metrics.observe(route, scope["method"], sent["status"], seconds)
                log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=sent["status"],
                    bytes=sent["bytes"],
                    ms=round(seconds * 1000, 2),
                )
