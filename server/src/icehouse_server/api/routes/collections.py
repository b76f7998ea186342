"""``/collections``: STAC Collections with the datacube extension, which are OGC API collections as well."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from odc.geo.crs import CRS

from icehouse_server import output
from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer, link
from icehouse_server.api.parameters.crs import CRS84_URI, crs_uri
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.parameters.styles import known_rescale
from icehouse_server.api.responses.stac_assets import ASSETS_EXTENSION, assets
from icehouse_server.api.state import Spec, State, base_url
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.style import Style
from icehouse_server.core.time import written

router = APIRouter(tags=["collections"], dependencies=DOCUMENT)

_EXTENSIONS = [
    "https://stac-extensions.github.io/datacube/v2.3.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/render/v2.0.0/schema.json",
    ASSETS_EXTENSION,
]
_MOST_LISTED = 1000
"""Time steps of a period that are listed; of more, the extent and the step say which there are."""


_NEXT = (
    ("schema", "get_schema", "Its bands as a JSON schema."),
    ("plan", "get_plan", "What a region of it would need."),
    ("coverage", "get_coverage", "A region of it."),
    ("point", "get_point", "Values at a point of it."),
)
_OF_ONE = {name: link(route, said, collection="$response.body#/id") for name, route, said in _NEXT}
_OF_ALL = {
    name: link(route, said, collection="$response.body#/collections/0/id")
    for name, route, said in (("collection", "get_collection", "The first of them."), *_NEXT)
}


@router.get("/collections", responses={200: json_answer(schemas.COLLECTIONS, links=_OF_ALL)})
async def get_collections(request: Request, state: State) -> dict[str, Any]:
    """All collections."""
    base = base_url(request)
    specs = [collection.spec for collection in state.store.collections.values()]
    return {
        "collections": [collection_document(spec, base) for spec in specs],
        "links": [
            {"rel": "self", "type": "application/json", "href": f"{base}/collections"},
            {"rel": "root", "type": "application/json", "href": f"{base}/"},
        ],
    }


@router.get("/collections/{collection}", responses={200: json_answer(schemas.COLLECTION, links=_OF_ONE)})
async def get_collection(request: Request, spec: Spec) -> dict[str, Any]:
    """One collection: extent, grid, bands, licence and links. This is the datacube metadata."""
    return collection_document(spec, base_url(request))


@router.get("/collections/{collection}/schema", responses={200: json_answer(schemas.BAND_SCHEMA)})
async def get_schema(request: Request, spec: Spec) -> dict[str, Any]:
    """The bands as a JSON schema: name, dtype, nodata, unit."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{base_url(request)}/collections/{spec.id}/schema",
        "type": "object",
        "title": spec.title,
        "properties": {band.name: _property(band, place) for place, band in enumerate(spec.bands, 1)},
    }


def _property(band: BandSpec, place: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": band.long_name or band.name,
        "type": "number" if band.dtype.kind == "f" else "integer",
        "x-ogc-propertySeq": place,
        "x-ogc-dataType": band.dtype.name,
    }
    if band.units:
        found["x-ogc-unit"] = band.units
    if band.nodata is not None:
        found["x-ogc-nilValues"] = [{"value": _json_number(band.nodata), "reason": "nodata"}]
    return found


def _json_number(number: float) -> float | str:
    return number if number == number else "NaN"  # noqa: PLR0124


def collection_document(spec: CollectionSpec, base: str) -> dict[str, Any]:
    """Return a collection as STAC 1.1.0 with ``cube:*`` and ``proj:*``, and OGC's ``storageCrs``."""
    grid = spec.grid.geobox
    affine = grid.affine
    uri = crs_uri(grid.crs)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": _EXTENSIONS,
        "id": spec.id,
        "title": spec.title,
        "description": spec.description or spec.title,
        "license": spec.license,
        "attribution": spec.attribution,
        "sci:citation": spec.citation,
        "keywords": list(spec.keywords),
        "extent": {
            "spatial": {"bbox": [list(spec.bbox)], "storageCrsBbox": [list(grid.boundingbox.bbox)]},
            "temporal": {"interval": [_interval(spec)]},
        },
        "crs": [CRS84_URI, uri],
        "storageCrs": uri,
        "cube:dimensions": _dimensions(spec),
        "cube:variables": {band.name: _variable(spec, band) for band in spec.bands},
        "bands": [_band(band) for band in spec.bands],
        "renders": {style.name: _render(style, spec) for style in spec.styles},
        "proj:code": _code(spec.grid.crs),
        "proj:shape": list(spec.grid.shape),
        "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "proj:bbox": list(grid.boundingbox.bbox),
        "icehouse:chunk": spec.grid.chunk,
        "icehouse:levels": len(spec.grids),
        "icehouse:default_bands": list(spec.default_bands),
        "defaultFields": list(spec.default_bands),
        "assets": assets(spec, base),
        "links": _links(spec, base),
    }


def _code(crs: CRS) -> str | None:
    authority = crs.authority
    return f"{authority[0]}:{authority[1]}" if authority and all(authority) else None


def _dimensions(spec: CollectionSpec) -> dict[str, Any]:
    box = spec.grid.geobox.boundingbox
    affine = spec.grid.geobox.affine
    crs: int | str = spec.grid.crs.epsg or spec.grid.crs.to_wkt()
    return _time_dimension(spec) | {
        name: {"type": "spatial", "axis": name, "extent": extent, "step": step, "reference_system": crs}
        for name, extent, step in (
            ("x", [box.left, box.right], affine.a),
            ("y", [box.bottom, box.top], affine.e),
        )
    }


def _interval(spec: CollectionSpec) -> list[str | None]:
    """Return when the data were taken: what the file says, or the steps there are; None for open."""
    axis = spec.time
    if axis is None or spec.interval != (None, None):
        return list(spec.interval)
    count = axis.count(datetime.now(UTC))
    if not count:
        return [None, None]
    return [written(axis.step(0).start), None if axis.rolling else written(axis.step(count - 1).end)]


def _time_dimension(spec: CollectionSpec) -> dict[str, Any]:
    """Return the time dimension: where steps start, unless a period says it, and where the last ends."""
    axis = spec.time
    if axis is None:
        return {}
    count = axis.count(datetime.now(UTC))
    extent = [written(axis.step(0).start), written(axis.step(count - 1).end)] if count else [None, None]
    dimension = {"type": "temporal", "extent": extent, "step": None if axis.listed else str(axis.period)}
    if not axis.listed and count > _MOST_LISTED:
        return {"time": dimension}
    return {"time": {**dimension, "values": [written(step.start) for step in axis.steps(count)]}}


def _variable(spec: CollectionSpec, band: BandSpec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dimensions": ["y", "x"] if spec.time is None else ["time", "y", "x"],
        "type": "data",
        "description": band.long_name or band.name,
        "data_type": band.dtype.name,
    }
    if band.units:
        found["unit"] = band.units
    if band.nodata is not None:
        found["nodata"] = _json_number(band.nodata)
    return found


def _band(band: BandSpec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": band.name,
        "data_type": band.dtype.name,
        "description": band.long_name or band.name,
    }
    if band.units:
        found["unit"] = band.units
    if band.is_scaled:
        found |= {"raster:scale": band.scale, "raster:offset": band.offset}
    return found if band.nodata is None else {**found, "nodata": _json_number(band.nodata)}


def _render(style: Style, spec: CollectionSpec) -> dict[str, Any]:
    """Return a style as STAC's Render extension has it; of its own are ``hillshade`` and ``mask``.

    One that needs a range and has no ``rescale`` here can only be shown with a range of the caller's.
    """
    found: dict[str, Any] = {"title": style.title, "assets": [], "bands": list(style.bands)}
    if (rescale := known_rescale(style, spec)) is not None:
        found["rescale"] = [list(pair) for pair in rescale]
    own = {"icehouse:hillshade": style.hillshade or None, "icehouse:mask": style.mask}
    said = {"colormap_name": style.colormap_name, "resampling": style.resampling, **own}
    return found | {name: value for name, value in said.items() if value is not None}


def _links(spec: CollectionSpec, base: str) -> list[dict[str, str]]:
    here = f"{base}/collections/{spec.id}"
    own = [
        ("self", "application/json", here),
        ("root", "application/json", f"{base}/"),
        ("parent", "application/json", f"{base}/collections"),
        ("jobs", "application/json", f"{base}/jobs"),
        ("http://www.opengis.net/def/rel/ogc/1.0/tilesets-map", "application/json", f"{here}/tiles"),
        ("http://www.opengis.net/def/rel/ogc/1.0/schema", "application/schema+json", f"{here}/schema"),
    ]
    own += [
        (
            "http://www.opengis.net/def/rel/ogc/1.0/coverage",
            media.media_type,
            f"{here}/coverage{media.suffix}",
        )
        for media in output.FORMATS.values()
    ]
    links = [{"rel": rel, "type": media, "href": href} for rel, media, href in own]
    links += [{"rel": "about", "title": title, "href": href} for title, href in spec.links]
    return links
