"""The service of tiles: entity tags, and what lies off the grid."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from threading import current_thread, main_thread
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from icehouse_server.api.routes import tilesets
from icehouse_server.api.routes.wmts import capabilities
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.limits import Limits
from icehouse_server.core.tile_matrix_sets import Zooms, tile_at
from icehouse_server.core.time import Period, TimeAxis
from icehouse_server.service import TileRequest, TileService, TileSettings
from icehouse_server.service.tiles import _picture
from icehouse_server.store import Index
from icehouse_server.testing.fakes import tiny_spec

SPEC = tiny_spec()


def planned(spec=SPEC, generation="a-0", **more):
    store = SimpleNamespace(index=Index(spec), generation=generation)
    held = SimpleNamespace(collection=lambda _: store)
    address = tile_at("EPSG3413Quad", 10, 511, 511)
    request = TileRequest(spec=spec, address=address, style=spec.styles[0], time=None, format="png")
    return TileService(held, None, TileSettings(), limits=Limits(), pool=None).plan(replace(request, **more))


def tag(*args, **more):
    return planned(*args, **more).tag


def resampled(method):
    """The collection after its file was given another method; its styles name none."""
    dem, *others = SPEC.bands
    return replace(SPEC, bands=(replace(dem, resampling=method), *others))


def test_the_same_tile_has_the_same_tag():
    assert tag() == tag(resampled("bilinear"))


@pytest.mark.parametrize(
    "other",
    [
        {"spec": resampled("cubic")},
        {"generation": "a-1"},
        {"style": replace(SPEC.styles[0], rescale=((0, 1),))},
        {"format": "webp"},
        {"address": tile_at("EPSG3413Quad", 10, 511, 510)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_picture_has_another_tag(other):
    assert tag(**other) != tag()


@pytest.mark.parametrize("row", [508, 509])
def test_tile_off_the_grid_is_transparent_even_without_nodata(row):
    spec = tiny_spec(bands=(BandSpec(name="red", dtype=np.dtype("uint8"), nodata=None),))
    address = tile_at("EPSG3413Quad", 10, row, 508)
    plan = planned(spec, address=address)
    coverage = Coverage(
        region=plan.region, bands={"red": np.zeros(plan.region.shape, np.uint8)}, snapshot="any"
    )
    found = np.asarray(Image.open(io.BytesIO(_picture(plan, coverage))).convert("RGBA"))[..., 3]
    cols, rows = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
    x, y = ~spec.grid.geobox.affine * address.geobox().affine * (cols, rows)
    height, width = spec.grid.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    np.testing.assert_array_equal(found == 255, inside)
    assert inside.any()
    assert not inside.all()


def asked():
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": [(b"host", b"here")]}
    route = next(route for route in tilesets.router.routes if route.endpoint is tilesets.get_tilejson)
    return Request({**scope, "query_string": b"", "root_path": "", "route": route})


async def test_the_tile_sets_are_looked_for_beside_the_event_loop(monkeypatch):
    def offered(_):
        assert current_thread() is not main_thread()
        return ("EPSG3413Quad",)

    monkeypatch.setattr(tilesets, "offered", offered)
    found = await tilesets.get_tilesets(asked(), SPEC)
    assert [each["title"] for each in found["tilesets"]] == ["tiny in EPSG3413Quad"]


@pytest.mark.parametrize(("west", "east", "middle"), [(170, -160, -175), (160, -170, 175), (10, 30, 20)])
async def test_the_centre_of_tilejson_lies_in_the_collection(west, east, middle):
    async def zooms(*_):
        return Zooms(first=3, last=7)

    state = SimpleNamespace(tiles=SimpleNamespace(zooms=zooms))
    query = SimpleNamespace(wanted=lambda spec: spec.styles[0], time=lambda _: None)
    spec = replace(SPEC, bbox=(west, 50, east, 60))
    found = await tilesets.get_tilejson(asked(), state, spec, "WebMercatorQuad", query)
    assert found["center"] == [middle, 55, 3]
    assert found["bounds"] == ([10, 50, 30, 60] if west < east else [-180, 50, 180, 60])


@pytest.mark.parametrize(("start", "steps"), [(2020, 1), (9000, 0)])
def test_capabilities_ask_for_a_time_where_there_is_one(start, steps):
    axis = TimeAxis(start=datetime(start, 1, 1, tzinfo=UTC), period=Period(months=12 * 200))
    axis = replace(axis, end=datetime(2220, 1, 1, tzinfo=UTC)) if steps else axis
    document = capabilities(replace(SPEC, time=axis), "http://here").decode()
    assert ("datetime={Time}" in document) == bool(steps)
    assert document.count("<Dimension>") == steps
