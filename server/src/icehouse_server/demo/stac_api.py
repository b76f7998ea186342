"""A stand-in for PGC's STAC API: the landing page, collections, items and search of pgstac, with its faults.

The same documents are served twice. Under `/api/v1/` they carry the published URLs, as in the world
outside; a client needs a mapping of URLs to come here. Under `/open/api/v1/` they carry the stand-ins'
own URLs, for clients that can't map.
"""

from __future__ import annotations

import functools
import math
import urllib.parse
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from icehouse_server.demo import pgc_items, world
from icehouse_server.demo.pgc import Tile, collections, tile_of_item
from icehouse_server.demo.pgc_items import ROOT_TITLE, BaseUrls, Document
from icehouse_server.demo.stac_search import asked, asked_by_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from starlette.requests import Request
    from starlette.responses import Response

PREFIX = "/api/v1"
OPEN_PREFIX = "/open/api/v1"
_GEOJSON = "application/geo+json"
_MAX_LIMIT = 10_000
CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
]


def create_stac_app(*, cogs_url: str, page_size: int) -> Starlette:
    """The API.

    Args:
        cogs_url: Base URL of the object store's stand-in, for the documents under `/open`. Ends with a slash.
        page_size: Items in a page when the client names no limit.
    """
    app = Starlette(
        routes=[*_routes(PREFIX), *_routes(OPEN_PREFIX)], exception_handlers={HTTPException: _problem}
    )
    app.state.cogs_url = cogs_url
    app.state.page_size = page_size
    return app


def _routes(prefix: str) -> list[Route]:
    table: list[tuple[str, Callable[[Request], Any], list[str]]] = [
        ("/", landing, ["GET"]),
        ("/conformance", conformance, ["GET"]),
        ("/collections", list_collections, ["GET"]),
        ("/collections/{collection}", one_collection, ["GET"]),
        ("/collections/{collection}/items", collection_items, ["GET"]),
        ("/collections/{collection}/items/{item}", one_item, ["GET"]),
        ("/search", search, ["GET", "POST"]),
    ]
    routes = [Route(prefix + path, endpoint, methods=methods) for path, endpoint, methods in table]
    return [Route(prefix, landing, methods=["GET"]), *routes]


def _urls(request: Request) -> BaseUrls:
    if not request.url.path.startswith(OPEN_PREFIX):
        return pgc_items.PUBLISHED
    return BaseUrls(
        api=f"{str(request.base_url).rstrip('/')}{OPEN_PREFIX}/", objects=request.app.state.cogs_url
    )


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {400: "BadRequestError", 404: "NotFoundError"}
    return JSONResponse(
        {"code": names.get(error.status_code, "Error"), "description": error.detail}, error.status_code
    )


def landing(request: Request) -> Response:
    """The root catalogue."""
    api = _urls(request).api
    links: list[Document] = [
        {"rel": "self", "type": "application/json", "href": api},
        {"rel": "root", "type": "application/json", "href": api},
        {"rel": "data", "type": "application/json", "href": f"{api}collections"},
        {"rel": "conformance", "type": "application/json", "href": f"{api}conformance"},
        {"rel": "search", "type": _GEOJSON, "href": f"{api}search", "method": "GET"},
        {"rel": "search", "type": _GEOJSON, "href": f"{api}search", "method": "POST"},
    ]
    links += [
        {"rel": "child", "type": "application/json", "href": f"{api}collections/{name}"}
        for name in collections()
    ]
    return JSONResponse(
        {
            "type": "Catalog",
            "id": "pgc-data-stac",
            "title": ROOT_TITLE,
            "description": "Stand-in of the PGC catalogue for tests and demonstrations",
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
    urls = _urls(request)
    documents = [pgc_items.collection_document(name, base_urls=urls) for name in collections()]
    links = [{"rel": "self", "type": "application/json", "href": f"{urls.api}collections"}]
    return JSONResponse({"collections": documents, "links": links})


def one_collection(request: Request) -> Response:
    """One collection."""
    return JSONResponse(pgc_items.collection_document(_collection(request), base_urls=_urls(request)))


def _collection(request: Request) -> str:
    name = str(request.path_params["collection"])
    if name not in collections():
        raise HTTPException(404, f"Collection {name} does not exist.")
    return name


def one_item(request: Request) -> Response:
    """One item."""
    collection, item_id = _collection(request), str(request.path_params["item"])
    try:
        tile = tile_of_item(item_id, collections()[collection][0].name)
    except ValueError:
        tile = None
    if tile is None or tile.collection != collection or not world.exists(tile):
        raise HTTPException(404, f"Item {item_id} in Collection {collection} does not exist.")
    return JSONResponse(_document(tile, _urls(request)), media_type=_GEOJSON)


def _document(tile: Tile, urls: BaseUrls) -> Document:
    version = "1.0.0" if tile.supertile in world.OLD_FORM[tile.domain.name] else "1.1.0"
    return pgc_items.item_document(
        tile.domain.name, f"{tile.resolution}m", tile.name, stac_version=version, base_urls=urls
    )


def collection_items(request: Request) -> Response:
    """A collection's items, in pages."""
    query = asked_by_query(request) | {"collections": [_collection(request)]}
    return _page(request, query, "GET")


async def search(request: Request) -> Response:
    """Search by GET or POST."""
    return _page(request, await asked(request), request.method)


def _page(request: Request, query: Document, method: str) -> Response:
    try:
        limit = min(int(query.get("limit") or request.app.state.page_size), _MAX_LIMIT)
        start = int(str(query.get("token", "next:0")).removeprefix("next:"))
        found = _matching(query)
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(400, f"The search can't be read: {error}") from error
    urls, page = _urls(request), found[start : start + limit]
    here = f"{urls.api}{request.url.path.partition('/api/v1/')[2]}"
    links: list[Document] = [{"rel": "self", "type": _GEOJSON, "href": here}]
    if start + limit < len(found):
        links.append(_next_link(here, query, method, f"next:{start + limit}"))
    features = [_document(tile, urls) for tile in page]
    body = {"type": "FeatureCollection", "links": links, "features": features, "numberReturned": len(page)}
    return JSONResponse(body, media_type=_GEOJSON)


def _next_link(here: str, query: Document, method: str, token: str) -> Document:
    if method == "POST":
        body = {"token": token}
        return {"rel": "next", "type": _GEOJSON, "method": "POST", "href": here, "body": body, "merge": True}
    flat = {key: ",".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in query.items()}
    text = urllib.parse.urlencode(flat | {"token": token}, safe=",:/")
    return {"rel": "next", "type": _GEOJSON, "method": "GET", "href": f"{here}?{text}"}


def _matching(query: Document) -> list[Tile]:
    """All items that a search finds, in a fixed order."""
    names = query.get("collections") or list(collections())
    found: list[Tile] = []
    for name in names:
        if name not in collections():
            continue
        domain, gsd = collections()[name]
        found += _in_area(domain.name, f"{gsd}m", query)
    if query.get("ids"):
        wanted = frozenset(query["ids"])
        found = [tile for tile in found if tile.item_id in wanted]
    if query.get("datetime"):
        found = _in_time(found, str(query["datetime"]))
    return found


def _in_area(domain: str, resolution: str, query: Document) -> Iterable[Tile]:
    tiles = world.tiles(domain, resolution)
    if query.get("intersects"):
        area = shapely.geometry.shape(query["intersects"])
    elif query.get("bbox"):
        area = box(query["bbox"])
    else:
        return tiles
    hits = shapely.intersects(_footprints(domain, resolution), area)
    return [tile for tile, hit in zip(tiles, hits, strict=True) if hit]


def box(bbox: list[float]) -> shapely.Polygon:
    """The box as pgstac reads it: west > east is not honoured but becomes the box spanning the globe."""
    numbers = [float(number) for number in bbox]
    west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])  # noqa: PLR2004 - 2-D or 3-D
    if not all(math.isfinite(number) for number in numbers) or south > north:
        raise ValueError(f"no such box: {bbox}")
    return shapely.box(min(west, east), south, max(west, east), north)


@functools.cache
def _footprints(domain: str, resolution: str) -> NDArray[Any]:
    """The items' published geometries, in the order of `world.tiles`."""
    geometries = [pgc_items.footprint(tile) for tile in world.tiles(domain, resolution)]
    return shapely.make_valid(np.array([shapely.geometry.shape(geometry) for geometry in geometries]))


def _in_time(tiles: list[Tile], text: str) -> list[Tile]:
    """Items whose own interval meets the one asked for. ISO texts of one form compare as text."""
    first, _, last = text.partition("/") if "/" in text else (text, "", text)
    low, high = first.replace("..", "") or "0000", last.replace("..", "") or "9999"
    kept = []
    for tile in tiles:
        start, end = pgc_items.interval(tile)
        if start <= high and end >= low:
            kept.append(tile)
    return kept
