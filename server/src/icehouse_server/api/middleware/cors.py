"""Pages of other origins that may read: an allow-list, for GET and HEAD alone. Off by default."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READING = ("GET", "HEAD")
_SENT = "Authorization, Cache-Control, If-Match, If-None-Match, If-Range, Icehouse-Request-Id, Prefer, Range"
_READ = (
    "Accept-Ranges, Cache-Status, Content-Bbox, Content-Crs, Content-Datetime, Content-Disposition, "
    "Content-Length, Content-Range, ETag, Icehouse-Chunks-Not-Shown, Icehouse-Failed-Chunks, "
    "Icehouse-Failed-List, Icehouse-Request-Id, Icehouse-Snapshot, Location, Preference-Applied, "
    "Retry-After, Server-Timing, WWW-Authenticate"
)
_KEPT = "600"
"""Seconds for which a browser need not ask again."""


class Cors:
    """Lets pages of the named origins read answers of GET and HEAD.

    Cookies are never part of it: the daemon has none. What changes something stays refused (``HostGuard``).
    """

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        origin = origins[0] if len(origins) == 1 and origins[0] in self._origins else None
        wanted = headers.get("access-control-request-method")
        if origin is not None and scope["method"] == "OPTIONS" and wanted in _READING:
            await Response(status_code=204, headers=_preflight(origin, headers))(scope, receive, send)
            return
        shown = origin if scope["method"] in _READING else None

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if shown is not None:
                    answer["Access-Control-Allow-Origin"] = shown
                    answer["Access-Control-Expose-Headers"] = _READ
            await send(message)

        await self._app(scope, receive, with_headers)


def _preflight(origin: str, headers: Headers) -> dict[str, str]:
    found = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(_READING),
        "Access-Control-Allow-Headers": _SENT,
        "Access-Control-Max-Age": _KEPT,
        "Vary": "Origin",
    }
    if headers.get("access-control-request-private-network") == "true":
        found["Access-Control-Allow-Private-Network"] = "true"  # a page of the web asks a daemon of loopback
    return found
