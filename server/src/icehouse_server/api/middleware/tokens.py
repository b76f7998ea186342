"""The token: who may change something, and on a network that is not trusted, who may ask at all.

What changes something is the default: a POST route that only reads says so with ``reads_only``.
"""

import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from icehouse_server.api.responses.problems import problem
from icehouse_server.api.routes.page import Page

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FREE = "/healthz"
"""Answers everybody: whoever watches the process needs no token for it, and it says nothing else."""

_MARK = "icehouse_reads_only"
_SCHEME = b"bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """A token, and what it is needed for: all that changes something, at least."""

    token: bytes = field(repr=False)
    for_reading: bool
    """It is needed for everything but ``/healthz`` and the files of the page."""


def reads_only[F: Callable[..., object]](endpoint: F) -> F:
    """Mark an endpoint whose method could change something (POST) as one that only reads."""
    setattr(endpoint, _MARK, True)
    return endpoint


def reading_paths(routers: Iterable[APIRouter]) -> tuple[re.Pattern[str], ...]:
    """Return the paths of the routes that are marked with ``reads_only``."""
    return tuple(
        route.path_regex
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and hasattr(route.endpoint, _MARK)
    )


def guarded_operations(routers: Iterable[APIRouter], rule: TokenRule) -> frozenset[str]:
    """Return the names of the routes that ask for the token."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    if rule.for_reading:
        return frozenset(route.name for route in routes if route.path != _FREE)
    changing = (route for route in routes if not _SAFE_METHODS.issuperset(route.methods or ()))
    return frozenset(route.name for route in changing if not hasattr(route.endpoint, _MARK))


class TokenGuard:
    """Refuses requests that need the token and do not show it.

    A safe method never needs it on loopback; any other does, whatever its path, unless its path is one of
    those that only read. It looks at the header alone: not at the URL, which ends up in logs and histories.
    The files of the page never need it: they hold no data, and it is the page that asks people for the token.
    """

    def __init__(
        self, app: ASGIApp, *, rule: TokenRule, reading: Iterable[re.Pattern[str]], page: Page
    ) -> None:
        self._app = app
        self._rule = rule
        self._reading = tuple(reading)
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if self._is_right(shown) or not self._is_needed(scope):
            await self._app(scope, receive, send)
            return
        await _refusal(shown=bool(shown))(scope, receive, send)

    def _is_right(self, shown: list[bytes]) -> bool:
        if len(shown) != 1 or shown[0][: len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(shown[0][len(_SCHEME) :].strip(b" "), self._rule.token)

    def _is_needed(self, scope: Scope) -> bool:
        if scope["method"] in _SAFE_METHODS:
            return self._rule.for_reading and scope["path"] != _FREE and not self._page.answers(scope)
        if self._rule.for_reading:
            return True
        return scope["method"] != "POST" or not any(path.match(scope["path"]) for path in self._reading)


def _refusal(*, shown: bool) -> Response:
    challenge = 'Bearer realm="icehouse"' + (', error="invalid_token"' if shown else "")
    return problem(
        401,
        "unauthorized",
        "this is not the daemon's token" if shown else "this request needs the daemon's token",
        hint="send it as Authorization: Bearer …; client and command line take it from ICEHOUSE_TOKEN or "
        "ICEHOUSE_TOKEN_FILE",
        headers={"WWW-Authenticate": challenge},
    )
