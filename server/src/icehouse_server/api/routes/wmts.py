"""``/collections/{id}/WMTSCapabilities.xml``: the tiles for desktop programs, also in the polar grids."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from icehouse_server import output
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.responses.tile_ranges import TileRange, offered, tile_ranges
from icehouse_server.api.state import Spec, base_url
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.style import Style
from icehouse_server.core.tile_matrix_sets import CRS_OF, TILE, corner_of, tile_matrix_set, zooms_of
from icehouse_server.core.time import written

router = APIRouter(tags=["tiles"], dependencies=[LENIENT])

_WMTS, _OWS = "http://www.opengis.net/wmts/1.0", "http://www.opengis.net/ows/1.1"
_XLINK = "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
_MOST_STEPS = 1000
"""Time steps that are listed: the newest."""

_STATUSES: dict[int | str, dict[str, object]] = {
    200: {"description": "The capabilities.", "content": {"application/xml": {"schema": {"type": "string"}}}}
}


def _in_any_case(word: str) -> WithJsonSchema:
    pattern = "".join(f"[{letter.upper()}{letter.lower()}]" for letter in word)
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [word]})


async def check_kvp(
    request: Request,
    service: Annotated[
        str | None, Query(description="WMTS. Names and values in any case."), _in_any_case("WMTS")
    ] = None,
    request_: Annotated[
        str | None, Query(alias="request", description="GetCapabilities."), _in_any_case("GetCapabilities")
    ] = None,
    version: Annotated[
        str | None,
        Query(description="1.0.0 is the one that there is."),
        WithJsonSchema({"type": "string", "examples": ["1.0.0"]}),
    ] = None,
) -> None:
    """Take the parameters that clients of OGC services send, in any case (OGC 06-121r3, 11.5.2).

    Raises:
        BadParameterError: another service or operation is asked for.
    """
    del service, request_, version  # described here; read below, whatever their case
    given = {name.lower(): value for name, value in request.query_params.items()}
    for name, (right, hint) in _KVP.items():
        if given.get(name, right).lower() != right.lower():
            raise BadParameterError(name, f"{name}: {given[name][:40]!r} is not {right}", hint=hint)


_KVP = {
    "service": ("WMTS", "this is a WMTS"),
    "request": ("GetCapabilities", "tiles and legends are at the addresses that the capabilities name"),
}


@router.get(
    "/collections/{collection}/WMTSCapabilities.xml",
    dependencies=[Depends(check_kvp)],
    responses=_STATUSES,
    response_class=Response,
)
async def get_wmts(request: Request, spec: Spec) -> Response:
    """OGC WMTS 1.0.0 capabilities (RESTful): one layer with the collection's styles and time steps."""
    return Response(
        await run_in_threadpool(capabilities, spec, base_url(request)), media_type="application/xml"
    )


def capabilities(spec: CollectionSpec, base: str) -> bytes:
    """Return the document. Blocking, some milliseconds.

    Args:
        spec: the collection.
        base: URL of the daemon, without a slash at its end.
    """
    register_namespace("", _WMTS)
    register_namespace("ows", _OWS)
    register_namespace("xlink", _XLINK)
    root = Element(f"{{{_WMTS}}}Capabilities", version="1.0.0")
    service = SubElement(root, f"{{{_OWS}}}ServiceIdentification")
    _text(service, _OWS, "Title", spec.title)
    _text(service, _OWS, "ServiceType", "OGC WMTS")
    _text(service, _OWS, "ServiceTypeVersion", "1.0.0")
    contents = SubElement(root, f"{{{_WMTS}}}Contents")
    ranges = {name: _useful(spec, name) for name in offered(spec)}
    _layer(contents, spec, base, ranges)
    for name, limits in ranges.items():
        _tile_matrix_set(contents, name, max(limits))
    here = f"{base}/collections/{spec.id}/WMTSCapabilities.xml"
    SubElement(root, f"{{{_WMTS}}}ServiceMetadataURL", {_HREF: here})
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _useful(spec: CollectionSpec, name: str) -> Mapping[int, TileRange]:
    """Return the tiles by zoom, up to the last that shows more: programs ask for the finest that there is."""
    zooms = zooms_of(spec, name, 1)
    return {
        zoom: tiles for zoom, tiles in tile_ranges(spec, name).items() if zooms is None or zoom <= zooms.last
    }


def _text(parent: Element, space: str, name: str, value: object) -> None:
    SubElement(parent, f"{{{space}}}{name}").text = str(value)


def _layer(
    contents: Element, spec: CollectionSpec, base: str, ranges: Mapping[str, Mapping[int, TileRange]]
) -> None:
    layer = SubElement(contents, f"{{{_WMTS}}}Layer")
    _text(layer, _OWS, "Title", spec.title)
    _text(layer, _OWS, "Abstract", spec.description.strip())
    west, south, east, north = spec.bbox
    box = SubElement(layer, f"{{{_OWS}}}WGS84BoundingBox")
    _text(box, _OWS, "LowerCorner", f"{-180 if west > east else west} {south}")
    _text(box, _OWS, "UpperCorner", f"{180 if west > east else east} {north}")
    _text(layer, _OWS, "Identifier", spec.id)
    for name, limits in ranges.items():
        _box(layer, name, limits)
    here = f"{base}/collections/{spec.id}"
    for number, style in enumerate(spec.styles):
        _style(layer, style, here, default=not number)
    for media in output.PICTURES.values():
        _text(layer, _WMTS, "Format", media)
    asked = "&datetime={Time}" if _time(layer, spec) else ""
    for name, limits in ranges.items():
        _limits(layer, name, limits)
    for name, media in output.PICTURES.items():
        template = f"{here}/tiles/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}"
        SubElement(
            layer,
            f"{{{_WMTS}}}ResourceURL",
            format=media,
            resourceType="tile",
            template=f"{template}?f={name}&style={{Style}}{asked}",
        )


def _style(layer: Element, style: Style, here: str, *, default: bool) -> None:
    element = SubElement(layer, f"{{{_WMTS}}}Style", isDefault=str(default).lower())
    _text(element, _OWS, "Title", style.title)
    _text(element, _OWS, "Identifier", style.name)
    legend = {"format": "image/png", _HREF: f"{here}/legend.png?style={style.name}"}
    SubElement(element, f"{{{_WMTS}}}LegendURL", legend)


def _time(layer: Element, spec: CollectionSpec) -> bool:
    """List the newest time steps; return whether there are any."""
    count = 0 if spec.time is None else spec.time.count(datetime.now(UTC))
    if spec.time is None or not count:
        return False
    steps = [written(spec.time.step(number).start) for number in range(max(0, count - _MOST_STEPS), count)]
    dimension = SubElement(layer, f"{{{_WMTS}}}Dimension")
    _text(dimension, _OWS, "Identifier", "Time")
    _text(dimension, _WMTS, "Default", steps[-1])
    for step in steps:
        _text(dimension, _WMTS, "Value", step)
    return True


def _limits(layer: Element, name: str, ranges: Mapping[int, TileRange]) -> None:
    linked = SubElement(layer, f"{{{_WMTS}}}TileMatrixSetLink")
    _text(linked, _WMTS, "TileMatrixSet", name)
    limits = SubElement(linked, f"{{{_WMTS}}}TileMatrixSetLimits")
    for zoom, tiles in ranges.items():
        matrix = SubElement(limits, f"{{{_WMTS}}}TileMatrixLimits")
        _text(matrix, _WMTS, "TileMatrix", zoom)
        _text(matrix, _WMTS, "MinTileRow", tiles.first_row)
        _text(matrix, _WMTS, "MaxTileRow", tiles.last_row)
        _text(matrix, _WMTS, "MinTileCol", tiles.first_col)
        _text(matrix, _WMTS, "MaxTileCol", tiles.last_col)


def _tile_matrix_set(contents: Element, name: str, last: int) -> None:
    tms = tile_matrix_set(name)
    element = SubElement(contents, f"{{{_WMTS}}}TileMatrixSet")
    _text(element, _OWS, "Identifier", name)
    _text(element, _OWS, "SupportedCRS", _urn(name))
    for zoom in tms.tileMatrices[: last + 1]:
        matrix = SubElement(element, f"{{{_WMTS}}}TileMatrix")
        _text(matrix, _OWS, "Identifier", zoom.id)
        _text(matrix, _WMTS, "ScaleDenominator", repr(float(zoom.scaleDenominator)))
        _text(matrix, _WMTS, "TopLeftCorner", " ".join(repr(float(place)) for place in zoom.pointOfOrigin))
        _text(matrix, _WMTS, "TileWidth", zoom.tileWidth)
        _text(matrix, _WMTS, "TileHeight", zoom.tileHeight)
        _text(matrix, _WMTS, "MatrixWidth", zoom.matrixWidth)
        _text(matrix, _WMTS, "MatrixHeight", zoom.matrixHeight)


def _box(layer: Element, name: str, ranges: Mapping[int, TileRange]) -> None:
    """Say where the layer lies in a tile matrix set: of degrees alone, programs get polar squares wrong."""
    zoom = max(ranges)
    tiles, (left, top, cell) = ranges[zoom], corner_of(name, zoom)
    side = TILE * cell
    box = SubElement(layer, f"{{{_OWS}}}BoundingBox", crs=_urn(name))
    south, west = top - (tiles.last_row + 1) * side, left + tiles.first_col * side
    north, east = top - tiles.first_row * side, left + (tiles.last_col + 1) * side
    _text(box, _OWS, "LowerCorner", f"{west!r} {south!r}")
    _text(box, _OWS, "UpperCorner", f"{east!r} {north!r}")


def _urn(name: str) -> str:
    """Return the URN of a tile matrix set's CRS; each has x (or longitude) first."""
    if name == "WorldCRS84Quad":
        return "urn:ogc:def:crs:OGC:1.3:CRS84"
    return f"urn:ogc:def:crs:EPSG::{CRS_OF[name].epsg}"
