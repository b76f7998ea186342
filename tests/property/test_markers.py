"""Marker pixels through the real source, over sockets: each comes out where it went in, in every dtype.

The model is a dictionary of pixels: the first item, by id, that is valid at a place wins.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.collection import DTYPES
from icehouse_server.core.grid import Window
from icehouse_server.sources import create_source
from support import scene as made
from support import source_rig as rig

SIDE = 48
EXAMPLES = 40 if settings.default.max_examples <= 100 else settings.default.max_examples
ORIGIN = Window(row=100, col=100, height=SIDE, width=SIDE)
"""The grid, a part of the scene's."""


@pytest.fixture(scope="module")
def scene():
    with made.Scene.start() as running:
        yield running


@st.composite
def nodatas(draw, dtype):
    kind = np.dtype(dtype)
    if kind.itemsize == 8 and kind.kind in "iu":  # rasterio writes longer ones as doubles
        return draw(st.sampled_from([None, 0, 1, 2**40]))
    if kind == np.float16:
        return draw(st.sampled_from([None, -1000.0, 0.0, -0.0, 0.25, math.nan, math.inf]))
    if kind.kind == "f":
        limits = np.finfo(kind)
        extremes = [float(limits.max), float(limits.min), float(limits.tiny)]
        return draw(st.sampled_from([None, -9999.0, 0.0, -0.0, 0.1, 1 / 3, math.nan, math.inf, *extremes]))
    limits = np.iinfo(kind)
    return draw(st.sampled_from([None, 0, 1, int(limits.min), int(limits.max)]))


@st.composite
def windows(draw):
    """May stick out of the grid on any side."""
    row, col = draw(st.integers(-20, SIDE - 1)), draw(st.integers(-20, SIDE - 1))
    return Window(
        row=row, col=col, height=draw(st.integers(1, SIDE + 20)), width=draw(st.integers(1, SIDE + 20))
    )


def filled(window, dtype, nodata, rng):
    """Pixels of an item: markers at the corners and edges, a border and holes of nodata."""
    kind = np.dtype(dtype)
    shape = (window.height, window.width)
    if kind == np.float16:
        values = rng.choice(np.array([-0.0, 0.0, 0.1, 1 / 3, -9999, 6e4, np.nan]), shape).astype(kind)
    elif kind.kind == "f":
        values = rng.choice(np.array([-0.0, 0.0, 1e-30, 0.1, 1 / 3, -9999, 7e20, np.nan]), shape).astype(kind)
    else:
        limits = np.iinfo(kind)
        values = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    for row, col in {(0, 0), (0, -1), (-1, 0), (-1, -1), (window.height // 2, 0), (0, window.width // 2)}:
        values[row, col] = rng.integers(2, 120)  # what no nodata above is
    if nodata is not None:
        bare = rng.random(shape) < 0.2
        if rng.random() < 0.5:
            bare[:, : window.width // 3] = True
        values[bare] = nodata
    return values


def is_valid(value, nodata):
    return value == value and (nodata is None or value != nodata)  # noqa: PLR0124 - not NaN


def model(items, nodata, window):
    """Pixel by pixel: (row, column) to value."""
    found = {}
    for _, (place, values) in sorted(items.items(), reverse=True):
        for (row, col), value in np.ndenumerate(values):
            at = place.row + row, place.col + col
            if is_valid(value, nodata) and window.intersection(Window.from_bounds(*at, at[0] + 1, at[1] + 1)):
                found[at] = value
    return found


async def read(scene, spec, window):
    context = replace(scene.context, documents=rig.MemoryDocuments())
    source = create_source(spec, context)
    try:
        async with asyncio.timeout(60):
            block = await source.read(rig.request_for(spec, window))
    finally:
        await source.close()
    return block.bands["b"]


@settings(max_examples=EXAMPLES)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**32 - 1))
def test_every_marker_comes_out_where_it_went_in(scene, data, dtype, seed):
    rng = np.random.default_rng(seed)
    nodata = data.draw(nodatas(dtype))
    places = data.draw(st.lists(windows(), min_size=1, max_size=3))
    how = data.draw(
        st.sampled_from(
            [
                made.TILED,
                {"tiled": False, "blockxsize": None, "blockysize": 16},
                {"compress": "lzw"},
                {"compress": "zstd"},
            ]
        )
    )
    spec = scene.collection(dtype=dtype, nodata=nodata, tiling=None)
    spec = rig.with_grid(spec, ORIGIN)
    items, documents = {}, []
    fill = None if nodata is None else np.dtype(dtype).type(nodata)
    for number, place in enumerate(places):
        name = f"m{number}"
        values = filled(place, dtype, nodata, rng)
        transform = spec.grid.geobox.affine @ Affine.translation(place.col, place.row)
        options = {**how, "blockxsize": how.get("blockxsize") or place.width} if "blockysize" in how else how
        scene.origin.say(f"/{name}.tif", made.geotiff(values, transform, **{**options, "nodata": nodata}))
        document = scene.document("1_1") | {"id": name}
        document["properties"] |= {
            "proj:shape": [place.height, place.width],
            "proj:transform": list(transform)[:6],
        }
        document["assets"] = {"dem": {"href": f"{scene.origin.url}/{name}.tif"}}
        documents.append(document)
        items[name] = place, values
    scene.publish_search(items=tuple(documents))
    window = data.draw(windows()).intersection(spec.grid.window) or spec.grid.window
    found = asyncio.run(read(scene, spec, window))
    expected = model(items, fill, window)
    valid = {(window.row + row, window.col + col) for row, col in np.argwhere(found.valid).tolist()}
    assert valid == set(expected)
    for (row, col), value in expected.items():
        assert found.values[row - window.row, col - window.col].tobytes() == value.tobytes(), (row, col)
