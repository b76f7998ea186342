"""The API description: what FastAPI finds in the routes, and what holds for all of them.

Errors of each route by one rule, the ids of the collections served, no schemas that nothing answers with.
New routes are completed without knowing of this module.
"""

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from threading import Lock
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from icehouse_server.api.parameters.size import MAX_CELLS
from icehouse_server.api.responses import problems
from icehouse_server.api.state import ApiState
from icehouse_server.core.collection import ID_PATTERN

type Json = dict[str, Any]
"""A part of the description. Any: it is JSON."""

_ERRORS: Mapping[int, str] = {
    400: "A parameter can't be used; the problem names it.",
    401: "The token is missing, or wrong.",
    403: "A foreign page asked.",
    404: "There is no collection, band or snapshot of this name.",
    406: "None of the formats asked for can be given.",
    412: "If-Match names other content than there is.",
    413: "More was asked for than a limit allows; the problem names the limit and its setting.",
    415: "The body is not declared as JSON.",
    416: "The answer ends before the range begins.",
    421: "The daemon does not answer to this Host.",
    422: "The body can't be used; the problem names the member.",
    429: "Reading the cube has had too many chunks fetched; Retry-After says when there are more.",
    431: "The headers are too long.",
    500: "Internal error, or the store failed.",
    502: "The source failed; the problem names chunks and items.",
    503: "Busy, or shutting down; Retry-After says when to try again.",
    504: "The source is too slow; or cached chunks alone were asked for, and some are absent.",
    507: "The disk is full.",
}
_ALWAYS = (400, 413, 421, 431, 500)
"""Statuses that every route can answer with: guards and the defect handler stand before all of them."""

_REQUEST_ID: Json = {
    "description": "Stands in the daemon's log lines of this request.",
    "required": True,
    "schema": {"type": "string"},
}
_RETRY_AFTER: Json = {
    "description": "Seconds after which a further try has a fair chance.",
    "schema": {"type": "integer", "minimum": 1},
}
_TOKEN: Json = {
    "type": "http",
    "scheme": "bearer",
    "description": "The daemon's token, for what changes something; for everything on an open network.",
}


def operation_id(route: APIRoute) -> str:
    """Return the operation id of a route: the name of its function."""
    return route.name


def install(app: FastAPI, guarded: Collection[str]) -> None:
    """Let an application describe itself in this way.

    Args:
        app: the application, with all its routes.
        guarded: operation ids of the routes that ask for the token.
    """
    lock = Lock()

    def openapi() -> Json:
        with lock:
            if app.openapi_schema is None:
                app.openapi_schema = _describe(app, guarded)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to do this
    routes = app.router.routes
    place = next(
        n for n, route in enumerate(routes) if isinstance(route, Route) and route.path == app.openapi_url
    )
    routes[place] = _in_a_thread(app, cast("Route", routes[place]))


def _in_a_thread(app: FastAPI, route: Route) -> Route:
    """Return FastAPI's route to the description, which is made when first asked for: that takes 0.2 s."""

    async def answer(request: Request) -> Response:
        await run_in_threadpool(app.openapi)
        answered: Response = await route.endpoint(request)
        return answered

    return Route(route.path, answer, include_in_schema=False)


def _describe(app: FastAPI, guarded: Collection[str]) -> Json:
    """Return the API description, OpenAPI 3.1."""
    state = getattr(app.state, "icehouse", None)
    collections = list(state.store.collections) if isinstance(state, ApiState) else []
    document: Json = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
    )
    if isinstance(state, ApiState):
        document["info"]["x-OGC-limits"] = _limits(state)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = problems.Problem.model_json_schema()
    document["components"]["responses"] = {f"Problem{status}": _problem(status) for status in _ERRORS}
    if guarded:
        document["components"]["securitySchemes"] = {"token": _TOKEN}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["operationId"] in guarded:
                operation["security"] = [{"token": []}]
            _complete_answers(operation, path, method)
            _complete_parameters(operation, collections)
    return document


def _limits(state: ApiState) -> Json:
    """Return what one coverage may hold: the draft's rule says ``coverage``, its example ``coverages``."""
    cells = state.settings.limits.max_output_pixels
    limits = {"maxCells": cells, "maxCellsPerDimension": min(MAX_CELLS, cells)}
    return {"coverage": limits, "coverages": limits}


def _complete_answers(operation: Json, path: str, method: str) -> None:
    """Add the errors that every route of this kind has, and what every answer carries."""
    own: Json = operation["responses"]
    if "HTTPValidationError" in str(own.get("422")):
        del own["422"]  # FastAPI's own words; ours are problem documents
    statuses = [*_ALWAYS, *([401] if "security" in operation else []), *([404] if "{" in path else [])]
    statuses += [] if method == "get" else [403]
    statuses += [415, 422] if "requestBody" in operation else []
    statuses += [int(status) for status in own if status.isdigit() and int(status) >= 400]  # noqa: PLR2004
    for status in sorted(set(statuses)):
        if "content" not in own.get(str(status), {}):
            own[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    for answer in own.values():
        if "$ref" not in answer:
            answer.setdefault("headers", {})["Icehouse-Request-Id"] = _REQUEST_ID
    operation["responses"] = {status: own[status] for status in sorted(own)}


def _problem(status: int) -> Json:
    headers = {"Icehouse-Request-Id": _REQUEST_ID}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        headers["Retry-After"] = _RETRY_AFTER
    of_status = {"properties": {"status": {"const": status}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, of_status]}
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
    }


def _complete_parameters(operation: Json, collections: Sequence[str]) -> None:
    """Name the collections that there are."""
    for parameter in operation.get("parameters", ()):
        if (parameter["in"], parameter["name"]) == ("path", "collection"):
            parameter["description"] = "Id of a collection."
            named: Json = (
                {"enum": list(collections), "examples": list(collections)[:1]} if collections else {}
            )
            parameter["schema"] = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$", **named}
