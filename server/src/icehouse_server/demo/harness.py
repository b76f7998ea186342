"""The ASGI layer around both stand-in servers: counts, slows down, spoils answers, and obeys `/_control/`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from starlette.responses import HTMLResponse, RedirectResponse, Response

from icehouse_server.demo.faults import (
    Action,
    Cut,
    Drip,
    Drop,
    Garble,
    Page,
    Redirect,
    Replace,
    Script,
    Stall,
    Status,
)
from icehouse_server.demo.traffic import SLICE, Traffic

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROL = "/_control/"
TRANSPORT = "icehouse.transport"
"""Key of the ASGI scope under which the server's protocol hands over its transport."""
VARIANT = "icehouse.variant"
"""Key of the ASGI scope under which a `Replace` reaches the object store."""


class Harness:
    """Wraps a server's application.

    Args:
        app: What is served.
        control: What answers below `/_control/`; neither counted nor spoiled.
        traffic: Shared with `control`.
        script: Shared with `control`.
    """

    def __init__(self, app: ASGIApp, control: ASGIApp, traffic: Traffic, script: Script) -> None:
        self._app, self._control = app, control
        self._traffic, self._script = traffic, script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (or the lifespan)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(CONTROL):
            await self._control(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        asked = headers[b"range"].decode("latin-1") if b"range" in headers else None
        method, path = scope["method"], scope["path"]
        self._traffic.begin(method, path, asked)
        try:
            await asyncio.sleep(self._traffic.latency)
            action = self._script.take(method, path, _offset(asked))
            wire = _Wire(
                send=send,
                transport=scope[TRANSPORT],
                traffic=self._traffic,
                script=self._script,
                request=(method, path),
                action=action,
            )
            await self._answer(action, scope, receive, wire)
        except _HungUpError:
            scope[TRANSPORT].close()
        finally:
            self._traffic.end()

    async def _answer(self, action: Action | None, scope: Scope, receive: Receive, wire: _Wire) -> None:
        """Answer as the action will have it."""
        app = self._app
        match action:
            case Drop():
                scope[TRANSPORT].abort()
                return
            case Status() | Page() | Redirect():
                app = _instead(action)
            case Stall(where="headers"):
                await self._script.stall(action.seconds)
            case Replace():
                scope = {**scope, VARIANT: action.variant}
            case None | Stall() | Cut() | Drip() | Garble():
                pass  # the wire sees to these
            case _:
                assert_never(action)
        await app(scope, receive, wire)


class _HungUpError(Exception):
    """This connection ends here: the script says so, or the client has gone."""


@dataclass(slots=True)
class _Wire:
    """An ASGI `send` that paces, counts and spoils the body."""

    send: Send
    transport: asyncio.Transport
    traffic: Traffic
    script: Script
    request: tuple[str, str]
    action: Action | None
    length: int = 0
    position: int = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.length = int(dict(message["headers"]).get(b"content-length", b"0"))
            await self.send(message)
            return
        body: bytes = message.get("body", b"")
        for start in range(0, len(body), self._step()):
            await self._put(body[start : start + self._step()])
        if not message.get("more_body", False):
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _step(self) -> int:
        if isinstance(self.action, Drip):
            return 1
        slow = self.traffic.bandwidth is not None or self.action is not None
        return SLICE if slow else max(self.length, SLICE)

    async def _put(self, piece: bytes) -> None:
        middle = self.length // 2
        match self.action:
            case Cut(part=part) if self.position + len(piece) > int(self.length * part):
                piece = piece[: int(self.length * part) - self.position]
                await self._through(piece)
                raise _HungUpError
            case Garble() if self.position + len(piece) > middle:
                kept = piece[: max(middle - self.position, 0)]
                piece = kept.ljust(len(piece), b"\0")
            case Stall(where="body", seconds=seconds) if self.position <= middle < self.position + len(piece):
                head, piece = piece[: middle - self.position], piece[middle - self.position :]
                await self._through(head)
                await self.script.stall(seconds)
            case Drip():
                await asyncio.sleep(self.action.interval)
            case _:
                pass
        await self._through(piece)

    async def _through(self, piece: bytes) -> None:
        await self.traffic.take_turn(len(piece))
        if self.transport.is_closing():
            # A client that gave up on a dripping body must not leave it dripping for days.
            raise _HungUpError
        self.position += len(piece)
        self.traffic.sent[self.request] += len(piece)
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})


def _offset(range_header: str | None) -> int:
    """First byte asked for; 0 without a readable range."""
    first = (range_header or "").removeprefix("bytes=").partition("-")[0]
    return int(first) if first.isdigit() else 0


def _instead(action: Status | Page | Redirect) -> Response:
    """The answer that replaces the application's."""
    match action:
        case Page():
            return HTMLResponse(action.text)
        case Redirect():
            return RedirectResponse(action.location, action.status)
        case Status():
            headers = {} if action.retry_after is None else {"retry-after": action.retry_after}
            media, text = error_body(action.status, action.body, action.message)
            return Response(text, action.status, headers, media)


def google_error(status: int, message: str) -> dict[str, Any]:
    """The JSON of an error of one of Google's services."""
    statuses = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
    }
    return {"error": {"code": status, "message": message, "status": statuses.get(status, "INTERNAL")}}


def error_body(status: int, form: str, message: str | None = None) -> tuple[str, str]:
    """Media type and text of an error page in one of the forms "xml", "html", "json" and "google"."""
    codes: dict[int, str] = {
        403: "AccessDenied",
        404: "NoSuchKey",
        416: "InvalidRange",
        429: "SlowDown",
        503: "SlowDown",
    }
    name = codes.get(status, "InternalError")
    if form == "xml":
        error = f"<Error><Code>{name}</Code><Message>{name}</Message></Error>"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
        return "application/xml", text
    if form == "json":
        document: dict[str, Any] = {"code": name, "description": name}
        return "application/json", json.dumps(document)
    if form == "google":
        return "application/json", json.dumps(google_error(status, message or "Service error"))
    return (
        "text/html",
        f"<html><head><title>{status} {name}</title></head><body><h1>{status} {name}</h1></body></html>",
    )
