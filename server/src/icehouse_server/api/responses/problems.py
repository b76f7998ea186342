"""Errors to answers: one table of statuses, one JSON shape (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from icehouse_server.api.observability.request_context import context_of
from icehouse_server.api.responses.disconnect import ClientGoneError
from icehouse_server.core import errors
from icehouse_server.raster.out_of_memory import out_of_memory

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

_LONGEST_NAME = 200
"""Characters of a member's name that are given back: a caller can make it as long as a body."""

STATUSES: Mapping[type[errors.IcehouseError], int] = {
    errors.BadBodyError: 422,
    errors.BadParameterError: 400,
    errors.UnknownError: 404,
    errors.NotAcceptableError: 406,
    errors.TooLargeError: 413,
    errors.BusyError: 503,
    errors.FetchBudgetError: 429,
    errors.DeadlineExceededError: 504,
    errors.NotCachedError: 504,
    errors.DiskFullError: 507,
    errors.SourceTimeoutError: 504,
    errors.SourceError: 502,
    errors.ChunksFailedError: 502,
    errors.StoreError: 500,
}
"""The nearest class of an error's ancestry counts. Errors that are not listed are defects: 500."""


class Problem(BaseModel):
    """An error as RFC 9457 has it. Further members depend on the kind."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    kind: str
    """Stable: what programs go by."""
    detail: str
    """One sentence for people."""
    hint: str | None = None
    """What would be right."""
    parameter: str | None = None
    """The query parameter or the member of the body that can't be used."""


class ProblemResponse(JSONResponse):
    """A problem document; notes its kind for the request's log line."""

    media_type = MEDIA_TYPE

    def __init__(self, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(body, body["status"], {"Cache-Control": "no-store", **headers})
        self._kind = str(body["kind"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        context_of(scope).kind = self._kind
        await super().__call__(scope, receive, send)


HTTP_KINDS: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    403: "not-allowed",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    412: "precondition-failed",
    413: "too-large",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
    421: "host-refused",
    422: "bad-body",
    431: "headers-too-large",
}
"""Kinds of the errors that HTTP itself has."""


def status_of(error: errors.IcehouseError) -> int:
    """Return the status of an error."""
    if isinstance(error, errors.ChunksFailedError) and error.timed_out:
        return 504
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    hint: str = "",
    extensions: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make a problem document."""
    body: dict[str, Any] = {
        "type": f"urn:icehouse:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "kind": kind,
        "detail": detail,
    }
    if hint:
        body["hint"] = hint
    body.update(extensions or {})
    return ProblemResponse(body, headers or {})


def of_error(error: errors.IcehouseError) -> Response:
    """Make the problem document of one of our errors."""
    headers = {}
    if isinstance(error, errors.BusyError):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return problem(
        status_of(error),
        error.kind,
        error.detail,
        hint=error.hint,
        extensions=error.extensions(),
        headers=headers,
    )


async def _on_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, errors.IcehouseError):
        raise error
    if isinstance(error, errors.OutsideError):
        return Response(status_code=204)
    return of_error(error)


async def _on_memory(_: Request, error: Exception) -> Response:
    """Answer a failed allocation of what no budget counts, such as a document."""
    log.warning("memory ran out", error=repr(error))
    return of_error(out_of_memory("the system has no more memory"))


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status, detail, headers = error.status_code, str(error.detail), dict(error.headers or {})
    extensions = {}
    if status == HTTPStatus.BAD_REQUEST:
        # FastAPI's, of a body that nests too deep or holds a number too long
        status, detail, extensions = 422, "body: it can't be read as JSON", {"parameter": "body"}
    if status == HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this address"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    kind = HTTP_KINDS.get(status, "bad-request")
    return problem(status, kind, detail, extensions=extensions, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Return the methods of a path: each has a route of its own, and the router tells of the first alone."""
    allowed = [
        method
        for method in ("GET", "POST", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return ["HEAD", *allowed] if "GET" in allowed else allowed


async def _on_validation(_: Request, error: Exception) -> Response:
    """Answer what FastAPI refused: the first fault, by the name that the caller used."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    in_body = place[0] == "body"
    name = ".".join(place[1:])[:_LONGEST_NAME] or "body"
    name = name.encode(errors="backslashreplace").decode()  # JSON can hold halves of characters, UTF-8 not
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        name, message = "body", f"not valid JSON at character {place[1]}"
    return problem(
        422 if in_body else 400,
        "bad-body" if in_body else "bad-parameter",
        f"{name}: {message}",
        extensions={"parameter": name},
    )


async def _on_gone(request: Request, _: Exception) -> Response:
    """Close the books on a client that went away; its answer is not read (499 is nginx's status for it)."""
    context_of(request.scope).gone = True
    return Response(status_code=499)


def of_defect(error: Exception) -> Response:
    """Make the problem document of an unexpected error, and log it."""
    log.error("a request failed in a way that it should not", error=repr(error), exc_info=error)
    return problem(500, "internal", "internal error", hint="its log says more; please report it")


def install(app: FastAPI) -> None:
    """Let an application answer errors with problem documents."""
    app.add_exception_handler(errors.IcehouseError, _on_error)
    app.add_exception_handler(MemoryError, _on_memory)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(ClientGoneError, _on_gone)
