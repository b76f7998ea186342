"""The line that a request leaves in the log, its id, and its counts in the metrics."""

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icehouse_server.api.observability.request_context import RequestContext, put_context
from icehouse_server.api.responses.problems import of_defect

log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that the metrics count by name; a caller can invent others without end."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_PATH = 300
"""Characters of a path that its line holds."""


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
