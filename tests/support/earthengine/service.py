"""The HTTP side of the stand-in for Earth Engine: routes, credentials, quota, and its control endpoints."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from icehouse_server.demo.control import create_control_app
from icehouse_server.demo.harness import Harness, google_error
from support.earthengine import answers, world
from support.earthengine.expression import evaluate
from support.earthengine.functions import find_image
from support.earthengine.images import EarthEngineError, load_image
from support.earthengine.pixels import Rules, compute_pixels, render

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from icehouse_server.demo.faults import Script
    from icehouse_server.demo.traffic import Traffic

_REFUSED: Final = "icehouse.refused"
"""Key of the ASGI scope under which the message of a 429 reaches the application."""
_COUNTED: Final = (":computePixels", ":getPixels", ":compute")
"""Ends of the paths that count for the quota."""
_TOO_MANY: Final = (
    "Too Many Requests: Request was rejected because the request rate or concurrency limit was exceeded."
)
_QUOTA: Final = (
    "Quota exceeded for quota metric 'Number of read requests' and limit 'Number of read requests per minute"
    " per user' of service 'earthengine.googleapis.com' for consumer 'project_number:1'."
)
_CREDENTIALS: Final = "Expected OAuth 2 access token, login cookie or other valid authentication credential."
_NO_TOKEN: Final = f"Request is missing required authentication credential. {_CREDENTIALS}"
_BAD_TOKEN: Final = f"Request had invalid authentication credentials. {_CREDENTIALS}"
_MINUTE: Final = 60.0


@dataclass(slots=True)
class State:
    """What the server keeps. Used in the event loop only."""

    rules: Rules = field(default_factory=Rules)
    active: set[_UnderWay] = field(default_factory=set)
    """Requests under way that count for the quota."""
    recent: deque[float] = field(default_factory=deque)
    """When those of the last minute came."""

    def refusal(self) -> str | None:
        """Why one more request is refused now, or None. Counts it."""
        now = time.monotonic()
        while self.recent and self.recent[0] < now - _MINUTE:
            self.recent.popleft()
        self.recent.append(now)
        if len(self.active) >= self.rules.concurrency:
            return _TOO_MANY
        return _QUOTA if len(self.recent) > self.rules.per_minute else None


class Quota:
    """The layer outside the harness: counts requests from the moment they come, so that latency counts too.

    Args:
        app: The harness.
        state: Shared with the application.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].endswith(_COUNTED):
            await self._app(scope, receive, send)
            return
        refusal = self._state.refusal()
        if refusal is not None:
            await self._app({**scope, _REFUSED: refusal}, receive, send)
            return
        under_way = _UnderWay(self._state, send)
        self._state.active.add(under_way)
        try:
            await self._app(scope, receive, under_way.send)
        finally:
            under_way.end()


class _UnderWay:
    """A request that counts until its last byte is about to leave: who has that may send the next."""

    def __init__(self, state: State, send: Send) -> None:
        self._state, self._send = state, send
        self._left = math.inf
        """Bytes of the body that are still to be sent."""

    def end(self) -> None:
        """Count it no more."""
        self._state.active.discard(self)

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            self._left = int(headers.get(b"content-length", b"0")) or math.inf
        else:
            self._left -= len(message.get("body", b""))
            if self._left <= 0 or not message.get("more_body", False):
                self.end()
        await self._send(message)


def create_earth_engine(traffic: Traffic, script: Script) -> ASGIApp:
    """The server, with its harness."""
    state = State()
    control = create_ee_control(traffic, script, state)
    return Quota(Harness(create_ee_app(state), control, traffic, script), state)


def create_ee_app(state: State) -> Starlette:
    """The routes that the `ee` package asks for."""
    routes = [
        Route("/$discovery/rest", discovery),
        Route("/token", token, methods=["POST"]),
        Route("/v1/projects/{project}/algorithms", algorithms),
        Route("/v1/projects/{project}/image:computePixels", pixels, methods=["POST"]),
        Route("/v1/projects/{project}/value:compute", compute, methods=["POST"]),
        Route("/v1/{name:path}:getPixels", pixels, methods=["POST"]),
        Route("/v1/{name:path}:listAssets", list_assets),
        Route("/v1/{name:path}", get_asset),
    ]
    app = Starlette(routes=routes, exception_handlers={EarthEngineError: _refused})
    app.state.here = state
    app.state.limiter = anyio.CapacityLimiter(2)
    return app


def create_ee_control(traffic: Traffic, script: Script, state: State) -> Starlette:
    """The control endpoints of all stand-ins, and one for the rules."""

    async def nothing(_: list[str]) -> dict[str, int]:
        return {}

    async def set_rules(request: Request) -> Response:
        state.rules = Rules(**await request.json())
        return JSONResponse(asdict(state.rules))

    async def reset(_: Request) -> Response:
        traffic.reset()
        script.load([])
        state.rules = Rules()
        state.active.clear()  # those whose callers went away may end much later
        state.recent.clear()
        return JSONResponse({})

    common = create_control_app(traffic, script, {}, nothing)
    return Starlette(
        routes=[
            Route("/_control/rules", set_rules, methods=["POST"]),
            Route("/_control/reset", reset, methods=["POST"]),
            Mount("/", common),
        ]
    )


def _refused(_: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, EarthEngineError) else 500
    return JSONResponse(google_error(code, str(error)), code)


def _admit(request: Request) -> dict[str, str]:
    """Headers for the answer to a caller that may ask.

    Raises:
        EarthEngineError: they may not, or not now.
    """
    rules: Rules = request.app.state.here.rules
    shown = request.headers.get("authorization")
    if rules.token is not None and shown != f"Bearer {rules.token}":
        raise EarthEngineError(_NO_TOKEN if shown is None else _BAD_TOKEN, 401)
    project = request.path_params.get("project", "")
    if rules.denied:
        raise EarthEngineError(
            f"Caller does not have required permission to use project {project}. Grant the caller the"
            " roles/serviceusage.serviceUsageConsumer role, or a custom role with the"
            " serviceusage.services.use permission.",
            403,
        )
    if _REFUSED in request.scope:
        raise EarthEngineError(request.scope[_REFUSED], 429)
    return {"x-earth-engine-quota-status": "parallelism_restricted=true"} if rules.restricted else {}


async def discovery(request: Request) -> Response:
    """The discovery document, as if this server were Earth Engine. Anybody may read it."""
    return Response(_discovery(str(request.base_url)), media_type="application/json")


async def algorithms(request: Request) -> Response:
    """The list of algorithms that the installed `ee` ships."""
    return Response(_shipped("algorithms.json"), headers=_admit(request), media_type="application/json")


async def token(request: Request) -> Response:
    """An OAuth token endpoint: point a key file's `token_uri` here."""
    granted = request.app.state.here.rules.token or "standin"
    return JSONResponse({"access_token": granted, "expires_in": 3600, "token_type": "Bearer"})


async def pixels(request: Request) -> Response:
    """computePixels, and getPixels of an image."""
    headers, document = _admit(request), await _body(request)
    rules, name = request.app.state.here.rules, request.path_params.get("name")

    def work() -> bytes:
        return compute_pixels(document, rules) if name is None else render(_readable(name), document, rules)

    body = await anyio.to_thread.run_sync(work, limiter=request.app.state.limiter)
    return Response(body, headers=headers, media_type="application/octet-stream")


async def compute(request: Request) -> Response:
    """value:compute."""
    headers, document = _admit(request), await _body(request)

    def work() -> Any:
        return answers.value_document(evaluate(document.get("expression") or {}))

    result = await anyio.to_thread.run_sync(work, limiter=request.app.state.limiter)
    return JSONResponse({"result": result}, headers=headers)


async def get_asset(request: Request) -> Response:
    """One asset, or one image of a collection."""
    headers, name = _admit(request), request.path_params["name"]
    asset = _permitted(name)
    document = answers.image_document(_readable(name)) if asset is None else answers.asset_document(asset)
    return JSONResponse(document, headers=headers)


async def list_assets(request: Request) -> Response:
    """The images of a collection, in pages."""
    headers, name = _admit(request), request.path_params["name"]
    asset = _permitted(name)
    if asset is None or not asset.collection:
        raise _missing(name)
    start = int(request.query_params.get("pageToken") or 0)
    size = int(request.query_params.get("pageSize") or 1000)
    images = [load_image(asset, tile) for tile in asset.tiles[start : start + size]]
    document: dict[str, Any] = {"assets": [answers.image_document(image) for image in images]}
    if start + size < len(asset.tiles):
        document["nextPageToken"] = str(start + size)
    return JSONResponse(document, headers=headers)


async def _body(request: Request) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(await request.body())
    except ValueError as error:
        raise EarthEngineError("Invalid JSON payload received.") from error
    return document


def _permitted(name: str) -> world.Asset | None:
    if world.short(name) == world.FORBIDDEN:
        raise EarthEngineError(
            f"Permission 'earthengine.assets.get' denied on resource '{name}' (or it may not exist).", 403
        )
    return world.find(name)


def _readable(name: str) -> Any:
    _permitted(name)
    image = find_image(name)
    if image is None:
        raise _missing(name)
    return image


def _missing(name: str) -> EarthEngineError:
    return EarthEngineError(f"Asset '{name}' does not exist or doesn't allow this operation.", 404)


@functools.cache
def _discovery(base_url: str) -> bytes:
    text = _shipped("cloud_api_discovery_document.json").decode().replace("v1alpha", "v1")
    return json.dumps(json.loads(text) | {"rootUrl": base_url, "baseUrl": base_url}).encode()


@functools.cache
def _shipped(name: str) -> bytes:
    """A file that the installed `ee` brings along for its own tests."""
    return (importlib.resources.files("ee") / "tests" / name).read_bytes()
