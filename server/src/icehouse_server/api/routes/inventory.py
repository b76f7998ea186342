"""``/collections/{id}/inventory``: which chunks are there, void, in flight or failed: GeoJSON, and live."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import WithJsonSchema

from icehouse_server.api.openapi import schemas
from icehouse_server.api.parameters import regions
from icehouse_server.api.parameters.bands import Properties, parse_bands
from icehouse_server.api.parameters.bbox import Bbox, BboxCrs, read_bbox
from icehouse_server.api.parameters.crs import CrsText, parse_crs
from icehouse_server.api.parameters.documents import TAKES_JSON
from icehouse_server.api.parameters.level import LevelText, parse_level
from icehouse_server.api.parameters.size import Size
from icehouse_server.api.parameters.time_steps import Datetime, parse_datetime
from icehouse_server.api.responses import event_streams
from icehouse_server.api.responses.disconnect import while_connected
from icehouse_server.api.responses.geojson_features import Asked
from icehouse_server.api.state import ApiState, Spec, State
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError, OutsideError
from icehouse_server.core.geometry.footprint import aligned_windows
from icehouse_server.core.grid import Window
from icehouse_server.service import MOST_CELL, InventorySnapshot, View, changes

router = APIRouter(tags=["inventory"])

MEDIA_TYPE = "application/geo+json"

_CELLS = tuple(2**power for power in range(MOST_CELL.bit_length()))

_LOOK_EVERY = 0.25
"""Seconds between two looks for those who watch."""

_SHARE = 5
"""A look that takes long is followed by a rest of five times its length."""

_LONGEST_REST = 30.0
"""Seconds, however long the look took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryQuery:
    """Query parameters, as text: every refusal names the parameter."""

    bbox: Bbox = None
    bbox_crs: BboxCrs = None
    crs: Annotated[
        CrsText, Query(description="CRS of the coordinates in the answer; CRS84 (lon, lat) by default.")
    ] = None
    level: Annotated[
        LevelText, Query(description="Level of the chunks; 0, the full resolution, by default.")
    ] = None
    properties: Properties = None
    datetime: Datetime = None
    cell: Annotated[
        str | None,
        Query(description="Side of a square in chunks, whose chunks are counted; 1 by default."),
        WithJsonSchema({"type": "integer", "enum": list(_CELLS), "examples": [8]}),
    ] = None

    def asked(self, spec: CollectionSpec) -> Asked:
        """Return what is asked for.

        Raises:
            BadParameterError: a parameter can't be used.
            TooLargeError: it is about too much.
        """
        times = parse_datetime(self.datetime, spec)
        level = parse_level(self.level, spec) or 0
        bounds, bbox_crs = read_bbox(self.bbox, self.bbox_crs)
        crs = parse_crs("CRS84" if self.crs is None else self.crs, "crs")
        bands = spec.select(parse_bands(self.properties, "properties"))
        cell = self._cell()
        try:
            box = regions.geobox_for(spec, bounds, bbox_crs, spec.grid.crs, Size())
            under = aligned_windows(spec.grid, box) or []
        except OutsideError:
            under = []
        view = View(
            collection=spec,
            level=level,
            bands=tuple(band.name for band in bands),
            times=times,
            areas=_areas(spec, level, cell, under),
            cell=cell,
        )
        return Asked(view=view, crs=crs)

    def _cell(self) -> int:
        text = "1" if self.cell is None else self.cell
        if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or int(text) not in _CELLS:
            raise BadParameterError(
                "cell",
                f"cell: {text[:40]!r} is not a power of two from 1 to {MOST_CELL}",
                hint=f"one of {', '.join(map(str, _CELLS))}",
            )
        return int(text)


def _areas(spec: CollectionSpec, level: int, cell: int, under: Iterable[Window]) -> tuple[Window, ...]:
    """Return windows of the grid as rectangles of whole squares of a level's chunks, none over another."""
    grid = spec.grids[level]
    side = (grid.chunk * cell) << level
    rows, cols = grid.chunk_shape
    found: list[Window] = []
    for window in sorted(under):
        area = Window.from_bounds(
            window.row // side * cell,
            window.col // side * cell,
            min(-(-window.stop_row // side) * cell, rows),
            min(-(-window.stop_col // side) * cell, cols),
        )
        # Both ends of a grid that goes around the earth have the same rows: what overlaps is one rectangle.
        if found and found[-1].stop_col >= area.col and found[-1].row == area.row:
            area = found.pop().union(area)
        found.append(area)
    return tuple(found)


_HEADERS = {
    "Content-Crs": {"description": "CRS of the coordinates, as OGC's URI.", "schema": {"type": "string"}}
}
_STATUSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The chunks that are not simply absent.",
        "content": {MEDIA_TYPE: {"schema": schemas.FEATURES}},
        "headers": _HEADERS,
    }
}
_LIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Event `inventory`, whose data are the FeatureCollection; then events `change`.",
        "content": {event_streams.MEDIA_TYPE: {"schema": schemas.event("inventory", "change")}},
    },
    503: {},
}


@router.get(
    "/collections/{collection}/inventory",
    dependencies=[TAKES_JSON],
    response_class=Response,
    responses=_STATUSES,
)
async def get_inventory(
    request: Request, state: State, spec: Spec, query: Annotated[InventoryQuery, Depends()]
) -> Response:
    """Which chunks are present, void, in flight or failed, as GeoJSON; what is absent is left out."""
    asked = query.asked(spec)
    snapshot = await while_connected(request, state.inventory.snapshot(asked.view))
    headers = {"Cache-Control": "no-store", "Content-Crs": f"<{asked.crs_uri}>"}
    parts = state.inventory.each(asked.collection(snapshot))
    return StreamingResponse(parts, 200, headers, MEDIA_TYPE)


@router.get("/collections/{collection}/inventory/events", response_class=Response, responses=_LIVE)
async def get_inventory_events(
    state: State, spec: Spec, query: Annotated[InventoryQuery, Depends()]
) -> Response:
    """Server-sent events: the inventory, and then what changes, as it does."""
    return event_streams.EventStream(_InventoryFeed(state, query.asked(spec)), state.streams)


class _InventoryFeed:
    """Tells of an inventory. It looks again where something may have changed, and compares."""

    def __init__(self, state: ApiState, asked: Asked) -> None:
        self._state = state
        self._asked = asked
        self._version = (-1, -1)
        self._sent: InventorySnapshot | None = None
        self._due = 0.0
        """When to look again, by the monotonic clock."""

    async def news(self, seconds: float) -> event_streams.Event | None:
        """Wait until a chunk is in another state than sent, or until the time is up."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now < self._due:
                await self._state.streams.rest(min(self._due, end) - now)
                continue
            event = await self._look()
            took = time.monotonic() - now
            self._due = now + took + min(max(_LOOK_EVERY, _SHARE * took), _LONGEST_REST)
            if event is not None:
                return event
        return None

    async def _look(self) -> event_streams.Event | None:
        inventory, asked, sent = self._state.inventory, self._asked, self._sent
        version = inventory.version(asked.view)  # before the look: the next finds what changes meanwhile
        if sent is not None and version == self._version and not sent.unsure:
            return None
        snapshot = await inventory.snapshot(asked.view)
        self._version, self._sent = version, snapshot
        if sent is None:
            return event_streams.Event(name="inventory", data=inventory.each(asked.collection(snapshot)))
        places = changes(sent, snapshot, asked.view)
        if not len(places):
            return None
        return event_streams.Event(name="change", data=inventory.each(asked.change(snapshot, places)))
