"""What every request passes first: the Host check, the refusal of foreign pages, and the log line.

Pure ASGI: a wrapper that reads the answer's body would copy it.
"""

import re
import secrets
import time
from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icehouse_server.api.observability.request_context import RequestContext, put_context
from icehouse_server.api.responses.problems import of_defect, problem

log = structlog.get_logger(__name__)

MAX_HEADER_BYTES = 32 * 1024
"""Length of a request's target and headers, ten times what browsers send."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = frozenset({*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE"})
"""Methods that the metrics count by name; a caller can invent others without end."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_PATH = 300
"""Characters of a path that its line holds."""

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


_HEAD = "icehouse.head"


def is_head(scope: Scope) -> bool:
    """Return whether a request that looks like GET is a HEAD: its body is not read."""
    return _HEAD in scope


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
        as_get = {**scope, "method": "GET", "headers": headers, _HEAD: True}
        try:
            await self._app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")  # for the log, which knows the outer scope


class RequestLog:
    """Writes one line a request, counts it, and gives it an id that goes along in the log.

    The id is the client's where it sent a proper one, so that both sides write the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and write its line when the last byte has left."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        note = put_context(scope)
        names = _names(scope)
        header = (b"icehouse-request-id", names["request_id"].encode())
        status, size, begun_to_answer = 500, 0, False

        async def count(message: Message) -> None:
            nonlocal status, size, begun_to_answer
            if message["type"] == "http.response.start":
                status, begun_to_answer = message["status"], True
                message["headers"] = [*message["headers"], header]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(**names)
        try:
            await self._app(scope, receive, count)
        except Exception as error:
            if begun_to_answer:
                raise  # what is half sent can only be cut
            await of_defect(error)(scope, receive, count)  # here, so that it has the request's id
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            scope["app"].state.icehouse.metrics.observe(route, method, status, seconds, note)
            log.info("request", **_line(scope, note, route, status, size, seconds))
            structlog.contextvars.reset_contextvars(**tokens)


def _names(scope: Scope) -> dict[str, str]:
    """Return the id of a request, and its W3C trace id where it has one (traceparent)."""
    request_id = trace_id = ""
    for name, value in scope["headers"]:
        if name == b"icehouse-request-id" and not request_id and _REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"traceparent" and (found := _TRACE_PARENT.fullmatch(value)):
            trace_id = found[1].decode()
    names = {"request_id": request_id or secrets.token_hex(6)}
    return {**names, "trace_id": trace_id} if trace_id else names


def _line(
    scope: Scope, note: RequestContext, route: str, status: int, size: int, seconds: float
) -> dict[str, object]:
    """Return the fields of a request's line."""
    line: dict[str, object] = {
        "method": scope["method"],
        "route": route,
        "path": scope["path"][:_LONGEST_PATH],
        "status": status,
        "bytes": size,
        "ms": round(seconds * 1000, 2),
    }
    if note.kind:
        line["kind"] = note.kind
    if note.gone:
        line["gone"] = True
    if note.cache:
        line["format"], line["cache"] = note.format, note.cache
    if note.trace is not None:
        line.update(note.trace.figures())
    return line
