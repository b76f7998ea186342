"""``/collections/{id}/tiles`` and ``/xyz``: map tiles."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import WithJsonSchema

from icehouse_server import output
from icehouse_server.api.observability.request_context import context_of
from icehouse_server.api.openapi import schemas
from icehouse_server.api.parameters.conditional import (
    etag_known,
    if_match_fails,
    only_if_cached,
    precondition_failed,
)
from icehouse_server.api.parameters.formats import PICTURES, PictureFormat, PictureSuffix, choose_format
from icehouse_server.api.parameters.patterns import described
from icehouse_server.api.parameters.styles import StyleQuery
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.responses.cache_status import cache_status, cache_word, server_timing
from icehouse_server.api.responses.disconnect import while_connected
from icehouse_server.api.routes.tile_matrix_sets import MADE, Tms
from icehouse_server.api.state import ApiState, Spec, State
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.tile_matrix_sets import TILE, tile_at
from icehouse_server.service import TileRequest, Trace

router = APIRouter(tags=["tiles"], dependencies=[MADE, LENIENT])

_SAID = """A map tile of 256 x 256 pixels. What is absent is fetched first, up to `max_tile_chunks` chunks of
a band; a tile that would need more fetches nothing, shows what is cached, and has a hatch where something is
not shown: then `Icehouse-Chunks-Not-Shown` says how much. Void is transparent. 204: the tile lies outside."""

_HEADERS: dict[str, object] = {
    name: {"description": said, "schema": {"type": "string", **more}}
    for name, said, more in (
        ("Cache-Status", "How the cache was met (RFC 9211).", {"pattern": "^icehouse; "}),
        ("Cache-Control", "Ask again by ETag; a tile with a hatch is not to be kept.", {}),
        ("Server-Timing", "Milliseconds by stage.", {}),
        ("ETag", "Of the chunks and the style; not with a hatch.", {"pattern": '^"[0-9a-f]{32}"$'}),
        ("Icehouse-Snapshot", "The snapshot that was read.", {"pattern": "^[A-Z0-9]+$"}),
        ("Icehouse-Chunks-Not-Shown", "How many chunks at least are not cached.", {"pattern": "^[1-9]"}),
    )
}
_CONTENT = {media: {"schema": schemas.BINARY} for media in output.PICTURES.values()}
_STATUSES: dict[int | str, dict[str, object]] = {
    200: {"description": "The tile.", "content": _CONTENT, "headers": _HEADERS},
    204: {"description": "The tile lies outside the collection."},
    304: {"description": "The caller's copy is good."},
    412: {},
    **{status: {} for status in schemas.FILLING},
}

_ROW = re.compile("([0-9]{1,8})(@2x)?")
_SCALES = {None: 1, "@2x": 2}

Zoom = Annotated[int, Path(ge=0, le=40, description="Zoom: the tile matrix.", examples=[0])]
Place = Annotated[int, Path(ge=0, le=2**40, description="Of the tile, from the upper left.", examples=[0])]


@router.get(
    "/collections/{collection}/tiles/{tms}/{z}/{row}/{col}",
    description=_SAID,
    responses={**_STATUSES, 406: {}},
    response_class=Response,
)
async def get_tile(
    request: Request,
    state: State,
    spec: Spec,
    tms: Tms,
    z: Zoom,
    row: Place,
    col: Place,
    query: Annotated[StyleQuery, Depends()],
    f: PictureFormat = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """A map tile (OGC API Tiles)."""
    wanted = TileRequest(
        spec=spec,
        address=tile_at(tms, z, row, col),
        style=query.wanted(spec),
        time=query.time(spec),
        format=choose_format(PICTURES, f, accept),
        only_if_cached=only_if_cached(request),
    )
    return await _answer(request, state, wanted, vary={"Vary": "Accept"})


@router.get(
    "/collections/{collection}/xyz/{z}/{x}/{y}.{suffix}",
    description=f"{_SAID} In WebMercatorQuad, by column and row; `@2x` behind the row: 512 x 512 pixels.",
    responses=_STATUSES,
    response_class=Response,
)
async def get_xyz_tile(
    request: Request,
    state: State,
    spec: Spec,
    z: Zoom,
    x: Place,
    y: Annotated[
        str,
        Path(description="Row from the top, with @2x for twice the pixels."),
        WithJsonSchema({"type": "string", "pattern": described(_ROW.pattern), "examples": ["0"]}),
    ],
    suffix: PictureSuffix,
    query: Annotated[StyleQuery, Depends()],
) -> Response:
    """A map tile, as most map libraries ask for it."""
    found = _ROW.fullmatch(y)
    if found is None:
        raise BadParameterError("y", f"y: {y[:40]!r} is not a row, such as 7 or 7@2x")
    size = TILE * _SCALES[found[2]]
    wanted = TileRequest(
        spec=spec,
        address=tile_at("WebMercatorQuad", z, int(found[1]), x, size=size, names=("y", "x")),
        style=query.wanted(spec),
        time=query.time(spec),
        format=choose_format(PICTURES, suffix, None, parameter="suffix"),
        only_if_cached=only_if_cached(request),
    )
    return await _answer(request, state, wanted, vary={})


async def _answer(request: Request, state: ApiState, wanted: TileRequest, vary: dict[str, str]) -> Response:
    trace = Trace()
    with trace.stage("plan"):
        planned = state.tiles.plan(wanted)
    if planned.at_hand and if_match_fails(request, planned.tag):
        raise precondition_failed(planned.tag)
    if planned.at_hand and etag_known(request, planned.tag):
        return Response(status_code=304, headers={"ETag": planned.tag, "Cache-Control": "no-cache", **vary})
    note = context_of(request.scope)
    note.trace = trace
    tile = await while_connected(request, state.tiles.tile(planned, trace))
    if if_match_fails(request, tile.tag):
        raise precondition_failed(tile.tag)
    incomplete = tile.tag is None
    note.format, note.cache = wanted.format, cache_word(trace, incomplete=incomplete)
    headers = {
        "Cache-Control": "no-store" if tile.tag is None else "no-cache",
        "Cache-Status": cache_status(trace, incomplete=incomplete),
        "Server-Timing": server_timing(trace),
        "Icehouse-Snapshot": tile.snapshot,
        **vary,
    }
    if tile.tag is not None:
        headers["ETag"] = tile.tag
    if tile.not_shown:
        headers["Icehouse-Chunks-Not-Shown"] = str(tile.not_shown)
    return Response(tile.data, 200, headers, output.PICTURES[wanted.format])
