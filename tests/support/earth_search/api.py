"""A stand-in for Earth Search, which runs stac-server: landing page, collections, items, search with `query`.

The same documents are served under several prefixes. Under `/v1/` they carry the published URLs. Under
`/open/v1/` they carry the stand-in's own, for clients that can't map URLs. Under `/presigned/v1/` and
`/sas/v1/` the rasters lie in private stores: every time that a document is asked for, their hrefs are signed
anew.
"""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from icehouse_server.demo.stac_search import asked, asked_by_query
from support.earth_search import catalogue, items, signing
from support.earth_search.query import matching

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from support.earth_search.catalogue import Entry
    from support.earth_search.items import Document
    from support.earth_search.signing import Clock

PUBLISHED_HOST: Final = "https://earth-search.aws.element84.com/"
PREFIXES: Final = ("v1/", "open/v1/", "presigned/v1/", "sas/v1/")
_GEOJSON = "application/geo+json"
_MAX_LIMIT = 10_000
CONFORMANCE: Final = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]


@dataclass(slots=True)
class Signing:
    """How long a signed href holds. A test may change it while the server runs."""

    clock: Clock
    lifetime: int
    """Whole seconds."""


def create_earth_app(*, cogs_url: str, page_size: int, signing_rule: Signing) -> Starlette:
    """The API.

    Args:
        cogs_url: Base URL of the stores' stand-in, for the documents under `/open`. Ends with a slash.
        page_size: Items in a page when the client names no limit.
        signing_rule: How hrefs under `/presigned` and `/sas` are signed.
    """
    app = Starlette(routes=[route for prefix in PREFIXES for route in _routes(f"/{prefix[:-1]}")])
    app.add_exception_handler(HTTPException, _problem)
    app.state.cogs_url = cogs_url
    app.state.page_size = page_size
    app.state.signing = signing_rule
    return app


def _routes(prefix: str) -> list[Route]:
    table: list[tuple[str, Callable[[Request], Any], list[str]]] = [
        ("", landing, ["GET"]),
        ("/", landing, ["GET"]),
        ("/conformance", conformance, ["GET"]),
        ("/collections", list_collections, ["GET"]),
        ("/collections/{collection}", one_collection, ["GET"]),
        ("/collections/{collection}/items", collection_items, ["GET"]),
        ("/collections/{collection}/items/{item}", one_item, ["GET"]),
        ("/search", search, ["GET", "POST"]),
    ]
    return [Route(prefix + path, endpoint, methods=methods) for path, endpoint, methods in table]


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {400: "BadRequest", 404: "NotFound"}
    return JSONResponse(
        {"code": names.get(error.status_code, "Error"), "description": error.detail}, error.status_code
    )


def _prefix(request: Request) -> str:
    return next(prefix for prefix in PREFIXES if f"{request.url.path}/".startswith(f"/{prefix}"))


def _api(request: Request) -> str:
    """What links begin with."""
    prefix = _prefix(request)
    return (str(request.base_url) if prefix.startswith("open") else PUBLISHED_HOST) + prefix


def _sign(request: Request) -> Callable[[str], str]:
    """What becomes of a published href under this prefix."""
    prefix, state = _prefix(request), request.app.state
    rule: Signing = state.signing

    def own(href: str) -> str:
        return catalogue.local(href, state.cogs_url)

    def s3(href: str) -> str:
        url = catalogue.private(href, "s3")
        return signing.signed(url, "s3", now=rule.clock.now(), lifetime=rule.lifetime)

    def sas(href: str) -> str:
        url = catalogue.private(href, "sas")
        return signing.signed(url, "sas", now=rule.clock.now(), lifetime=rule.lifetime)

    change: dict[str, Callable[[str], str]] = {
        "v1/": str,
        "open/v1/": own,
        "presigned/v1/": s3,
        "sas/v1/": sas,
    }
    return change[prefix]


def landing(request: Request) -> Response:
    """The root catalogue."""
    api = _api(request)
    links: list[Document] = [
        {"rel": "self", "type": "application/geo+json", "href": api.rstrip("/")},
        {"rel": "root", "type": "application/geo+json", "href": api.rstrip("/")},
        {"rel": "conformance", "type": "application/json", "href": f"{api}conformance"},
        {"rel": "data", "type": "application/json", "href": f"{api}collections"},
        {"rel": "search", "type": _GEOJSON, "href": f"{api}search", "method": "GET"},
        {"rel": "search", "type": _GEOJSON, "href": f"{api}search", "method": "POST"},
    ]
    links += [
        {"rel": "child", "type": "application/geo+json", "href": f"{api}collections/{name}"}
        for name in catalogue.COLLECTIONS
    ]
    return JSONResponse(
        {
            "type": "Catalog",
            "id": "earth-search-aws",
            "title": "Earth Search by Element 84",
            "description": "Stand-in of Earth Search for tests and demonstrations",
            "stac_version": "1.0.0",
            "conformsTo": CONFORMANCE,
            "links": links,
        }
    )


def conformance(_request: Request) -> Response:
    """The classes that the API conforms to."""
    return JSONResponse({"conformsTo": CONFORMANCE})


def list_collections(request: Request) -> Response:
    """Every collection."""
    api = _api(request)
    documents = [items.collection_document(name, api) for name in catalogue.COLLECTIONS]
    links = [{"rel": "self", "type": "application/json", "href": f"{api}collections"}]
    return JSONResponse({"collections": documents, "links": links})


def one_collection(request: Request) -> Response:
    """One collection."""
    return JSONResponse(items.collection_document(_collection(request), _api(request)))


def _collection(request: Request) -> str:
    name = str(request.path_params["collection"])
    if name not in catalogue.COLLECTIONS:
        raise HTTPException(404, "Collection not found")
    return name


def one_item(request: Request) -> Response:
    """One item."""
    wanted = str(request.path_params["item"])
    for entry in catalogue.entries(_collection(request)):
        if entry.item_id == wanted:
            return JSONResponse(entry.document(_api(request), _sign(request)), media_type=_GEOJSON)
    raise HTTPException(404, "Item not found")


def collection_items(request: Request) -> Response:
    """A collection's items, in pages."""
    query = asked_by_query(request) | {"collections": [_collection(request)]}
    return _page(request, query, "GET")


async def search(request: Request) -> Response:
    """Search by GET or POST."""
    return _page(request, await asked(request), request.method)


def _page(request: Request, query: Document, method: str) -> Response:
    try:
        if isinstance(query.get("query"), str):
            query["query"] = json.loads(query["query"])
        limit = min(int(query.get("limit") or request.app.state.page_size), _MAX_LIMIT)
        found = matching(query)
        start = _place_after(found, str(query["next"])) if query.get("next") else 0
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HTTPException(400, f"The search can't be read: {error}") from error
    api, page = _api(request), found[start : start + limit]
    here = f"{api}{request.url.path.partition('/v1/')[2]}"
    more = start + limit < len(found)
    links = [_next_link(here, query | {"next": page[-1].token}, method)] if more else []
    sign = _sign(request)
    body = {
        "type": "FeatureCollection",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "context": {"limit": limit, "matched": len(found), "returned": len(page)},
        "numberMatched": len(found),
        "numberReturned": len(page),
        "features": [entry.document(api, sign) for entry in page],
        "links": links,
    }
    return JSONResponse(body, media_type=_GEOJSON)


def _place_after(found: list[Entry], token: str) -> int:
    """Place of what follows the entry that a page ended with."""
    return [entry.token for entry in found].index(token) + 1


def _next_link(here: str, query: Document, method: str) -> Document:
    link: Document = {"rel": "next", "title": "Next page of Items", "method": method, "type": _GEOJSON}
    if method == "POST":
        return link | {"href": here, "merge": False, "body": query}
    flat = {key: _flat(key, value) for key, value in query.items()}
    return link | {"href": f"{here}?{urllib.parse.urlencode(flat)}"}


def _flat(key: str, value: object) -> str:
    if key == "query":
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
