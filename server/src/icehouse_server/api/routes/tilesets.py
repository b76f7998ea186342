"""``/collections/{id}/tiles``: which tiles there are, as OGC API Tiles and as TileJSON say it."""

import math
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from icehouse_server import output
from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer
from icehouse_server.api.parameters.crs import crs_uri
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.parameters.styles import StyleQuery
from icehouse_server.api.parameters.unknown_parameters import known_query
from icehouse_server.api.responses.tile_ranges import offered, tile_ranges
from icehouse_server.api.routes.tile_matrix_sets import MADE, Tms
from icehouse_server.api.state import Spec, State, base_url
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.tile_matrix_sets import CRS_OF, tile_matrix_set

router = APIRouter(tags=["tiles"], dependencies=[MADE, *DOCUMENT])

_REL = "http://www.opengis.net/def/rel/ogc/1.0"
_XYZ = "WebMercatorQuad"


@router.get("/collections/{collection}/tiles", responses={200: json_answer(schemas.TILESETS)})
async def get_tilesets(request: Request, spec: Spec) -> dict[str, Any]:
    """The tile sets of a collection, that of its own CRS first (OGC API Tiles)."""
    here = f"{base_url(request)}/collections/{spec.id}/tiles"
    return {
        "links": [{"rel": "self", "type": "application/json", "href": here}],
        "tilesets": [_tileset(request, spec, tms) for tms in await run_in_threadpool(offered, spec)],
    }


@router.get("/collections/{collection}/tiles/{tms}", responses={200: json_answer(schemas.TILESET)})
async def get_tileset(request: Request, spec: Spec, tms: Tms) -> dict[str, Any]:
    """One tile set, with the tiles of each zoom that lie over the collection."""
    tile_matrix_set(tms)
    limits = [
        {
            "tileMatrix": str(zoom),
            "minTileRow": tiles.first_row,
            "maxTileRow": tiles.last_row,
            "minTileCol": tiles.first_col,
            "maxTileCol": tiles.last_col,
        }
        for zoom, tiles in tile_ranges(spec, tms).items()
    ]
    return {**_tileset(request, spec, tms), "tileMatrixSetLimits": limits}


@router.get("/collections/{collection}/{tms}/tilejson.json", responses={200: json_answer(schemas.TILEJSON)})
async def get_tilejson(
    request: Request, state: State, spec: Spec, tms: Tms, query: Annotated[StyleQuery, Depends()]
) -> dict[str, Any]:
    """TileJSON 3.0.0 for map libraries; the tiles have the style that is asked for here."""
    tile_matrix_set(tms)
    style = query.wanted(spec)
    query.time(spec)
    zooms = await state.tiles.zooms(spec, tms)
    here = f"{base_url(request)}/collections/{spec.id}"
    known = known_query(request, without=("f",))
    asked = f"?{known}" if known else ""
    tiles = f"xyz/{{z}}/{{x}}/{{y}}.png{asked}" if tms == _XYZ else f"tiles/{tms}/{{z}}/{{y}}/{{x}}{asked}"
    west, south, east, north = spec.bbox
    middle = (west + east) / 2
    if west > east:  # over 180 degrees
        west, east, middle = -180.0, 180.0, middle - math.copysign(180.0, middle)
    return {
        "tilejson": "3.0.0",
        "name": f"{spec.title}: {style.title}",
        "description": spec.description or spec.title,
        "version": "1.0.0",
        "attribution": spec.attribution,
        "scheme": "xyz",
        "tiles": [f"{here}/{tiles}"],
        "minzoom": zooms.first,
        "maxzoom": zooms.last,
        "bounds": [west, south, east, north],
        "center": [middle, (south + north) / 2, zooms.first],
        "tileMatrixSet": tms,
        "legend": f"{here}/legend.png{asked}",
    }


@router.get(
    "/collections/{collection}/{tms}/map.html",
    status_code=307,
    response_class=RedirectResponse,
    responses={307: {"description": "The page, with a map of the collection."}},
)
async def get_map(request: Request, spec: Spec, tms: Tms) -> Response:
    """A map of the collection: leads to the page."""
    tile_matrix_set(tms)
    return RedirectResponse(f"{base_url(request)}/#collection={quote(spec.id)}&tms={tms}", 307)


def _tileset(request: Request, spec: CollectionSpec, tms: str) -> dict[str, Any]:
    base = base_url(request)
    here = f"{base}/collections/{spec.id}/tiles/{tms}"
    scheme = f"{base}/tileMatrixSets/{tms}"
    registered = tile_matrix_set(tms).uri
    item = f"{here}/{{tileMatrix}}/{{tileRow}}/{{tileCol}}"
    pictures = [
        {"rel": "item", "type": media, "templated": True, "href": f"{item}?f={name}"}
        for name, media in output.PICTURES.items()
    ]
    return {
        "title": f"{spec.title} in {tms}",
        "dataType": "map",
        "crs": crs_uri(CRS_OF[tms]),
        **({"tileMatrixSetURI": registered} if registered else {}),
        "links": [
            {"rel": "self", "type": "application/json", "href": here},
            {"rel": f"{_REL}/tiling-scheme", "type": "application/json", "href": scheme},
            *pictures,
        ],
    }
