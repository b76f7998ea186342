"""The object stores of the Earth Search stand-in: public buckets, and private ones that want a signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from icehouse_server.demo.cog_host import serve_object
from support.earth_search import signing
from support.earth_search.catalogue import PRIVATE_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from icehouse_server.demo.cog_host import Objects
    from support.earth_search.api import Signing
    from support.earth_search.signing import Clock


def create_earth_store(objects: Objects, clock: Clock) -> Starlette:
    """The stores. A key begins with the bucket's name; in a private store, with the store's before it."""
    app = Starlette(
        routes=[
            *(
                Route(f"/{folder}/{{key:path}}", private_object, methods=["GET", "HEAD"])
                for folder in PRIVATE_FOLDERS.values()
            ),
            Route("/{key:path}", serve_object, methods=["GET", "HEAD"]),
        ]
    )
    app.state.objects, app.state.clock = objects, clock
    return app


async def private_object(request: Request) -> Response:
    """One object of a private store, or 403 with XML."""
    path, now = f"/{request.path_params['key']}", request.app.state.clock.now()
    refused = signing.refusal(path, request.query_params, now=now)
    if refused is None:
        return await serve_object(request)
    code, message = refused
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}', 403, media_type="application/xml")


def signing_routes(rule: Signing) -> Sequence[Route]:
    """Endpoints that set the server's clock and the lifetime of links."""

    async def set_signing(request: Request) -> Response:
        document = await request.json()
        rule.clock.ahead = float(document["ahead"])
        rule.lifetime = int(document.get("lifetime", rule.lifetime))
        return JSONResponse({})

    return [Route("/_control/signing", set_signing, methods=["POST"])]
