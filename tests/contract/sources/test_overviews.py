"""Overviews of any factor, rounding and order: which are used, and that both sources read the same."""

from __future__ import annotations

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from icehouse_server.collections.loader import parse_collection
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.sources.cog.levels import Level, usable
from icehouse_server.sources.files.reading import list_folder, read_header
from icehouse_server.sources.stac.items import parse_item
from support.odd_files.tags import directories, entry_of
from support.origin import Origin
from support.source_rig import MemoryDocuments, request_for

SIDE = (397, 510)
COLLECTION = """
id = "coarse"
title = "Coarse"
[grid]
crs = "EPSG:32622"
resolution = {resolution}
bounds = [500000, 7390000, 510000, 7400000]
chunk = 64
[extent]
bbox = [-52.0, 66.0, -50.0, 67.0]
[source]
{source}
[[bands]]
name = "b"
dtype = "uint16"
nodata = 0
[bands.source]
{band}
"""


def write(path, factors=(), *, change=None, mask=False, **how):
    """Write a file whose overviews say which they are: 1000 times the factor, plus the column."""
    profile = {
        "driver": "GTiff", "height": SIDE[0], "width": SIDE[1], "count": 1, "dtype": "uint16",
        "crs": "EPSG:32622", "transform": rasterio.Affine(10, 0, 500_100, 0, -10, 7_399_900),
        "tiled": True, "blockxsize": 128, "blockysize": 128, **how,
    }  # fmt: skip
    columns = np.broadcast_to(np.arange(SIDE[1]), SIDE).astype("uint16")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **profile) as file:
            file.write(columns + 1, 1)
            if mask:
                file.write_mask(columns % 50 != 3)
        for factor in factors:
            with rasterio.open(path, "r+") as file:
                file.write(columns + np.uint16(1000 * factor), 1)
                file.build_overviews([factor], Resampling.nearest)
                file.write(columns + 1, 1)
    if change is not None:
        path.write_bytes(change(path.read_bytes()))


def resized(number, rows, cols):
    """Change the size that an image of a file states; blocks of 128 x 128 stay as they are."""

    def change(tiff):
        out = bytearray(tiff)
        for tag, side in ((256, cols), (257, rows)):
            at = entry_of(out, tag, directories(out)[number])
            struct.pack_into("<HI", out, at + 2, 3, 1)
            struct.pack_into("<HH", out, at + 8, side, 0)
        return bytes(out)

    return change


FILES = {
    "GDAL's 2, 4, 8, 14": (
        {"factors": (2, 4, 8, 14)}, [(397, 510), (199, 255), (100, 128), (50, 64), (29, 37)]
    ),
    "from coarse to fine": ({"factors": (8, 2)}, [(397, 510), (199, 255), (50, 64)]),
    "rounded down": (
        {"factors": (4, 8), "change": lambda tiff: resized(2, 49, 63)(resized(1, 99, 127)(tiff))},
        [(397, 510), (99, 127), (49, 63)],
    ),
    "a factor of 3": ({"factors": (3,)}, [(397, 510), (133, 170)]),
    "one is anisotropic": (
        {"factors": (4, 8), "change": resized(1, 100, 64)}, [(397, 510), (50, 64)]
    ),
    "of GDAL's other codecs": (
        {"factors": (8, 2), "compress": "packbits"}, [(397, 510), (199, 255), (50, 64)]
    ),
    "with masks": ({"factors": (2, 4), "mask": True}, [(397, 510), (199, 255), (100, 128)]),
    "none": ({}, [(397, 510)]),
}  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture(scope="module")
def origin():
    with Origin.start() as running:
        yield running


@pytest.fixture
def context(pool):
    return SourceContext(documents=MemoryDocuments(), pool=pool)


class Finder:
    """In the place of the finder: one item that needs no API."""

    def __init__(self, href):
        document = {
            "type": "Feature", "stac_version": "1.0.0", "id": "i", "geometry": None, "links": [],
            "properties": {"datetime": "2020-01-01T00:00:00Z"}, "assets": {"a": {"href": href}},
        }  # fmt: skip
        self.item = parse_item(json.dumps(document), href)

    async def items(self, *_):
        return (self.item,)

    def doubt(self, *_, **__): ...

    async def close(self): ...


async def read(spec, context, finder=None):
    source = create_source(spec, context)
    if finder is not None:
        source = replace(source, finder=finder)
    try:
        return (await source.read(request_for(spec, spec.grid.window))).bands["b"]
    finally:
        await source.close()


@pytest.mark.parametrize("resolution", [25, 100])
@pytest.mark.parametrize(("how", "shapes"), FILES.values(), ids=FILES.keys())
async def test_sizes_are_those_of_the_file(tmp_path, origin, context, how, shapes, resolution):
    path = tmp_path / "file.tif"
    write(path, **how)
    said = {"resolution": resolution}
    spec = parse_collection(
        COLLECTION.format(source=f'type = "files"\nfolder = "{tmp_path}"', band="index = 1", **said), "c.toml"
    )
    (entry,) = list_folder(tmp_path, "*.tif")
    header = read_header(tmp_path, entry, spec.grid)
    assert [level.shape for level in header.levels] == shapes
    file = header.at(spec.grid)
    finest = max(a / b for a, b in zip(SIDE, shapes[file.level], strict=True)) * 10
    coarser = [max(a / b for a, b in zip(SIDE, shape, strict=True)) * 10 for shape in shapes]
    assert finest == max(side for side in coarser if side <= resolution * 1.01)

    local = await read(spec, context)
    origin.say("/file.tif", path.read_bytes())
    api = f'type = "stac"\napi = "{origin.url}"\ncollection = "c"\n[source.composite]\nrule = "first"'
    remote = parse_collection(COLLECTION.format(source=api, band='asset = "a"', **said), "c.toml")
    found = await read(remote, context, Finder(f"{origin.url}/file.tif"))
    np.testing.assert_array_equal(found.valid, local.valid)
    np.testing.assert_array_equal(found.values, local.values)
    assert local.valid.sum() > 0.8 * np.prod(SIDE) * 100 / resolution**2


def sizes(full, *overviews):
    found = usable(Level(shape=full), [Level(shape=shape, number=n) for n, shape in enumerate(overviews)])
    return [(level.number, level.shape) for level in found]


def test_what_is_an_overview():
    assert sizes((100, 100)) == [(None, (100, 100))]
    assert sizes((100, 100), (25, 25), (50, 50))[1:] == [(1, (50, 50)), (0, (25, 25))]
    for shape in ((100, 50), (50, 100), (100, 100), (200, 200), (50, 25), (0, 0), (99, 3)):
        assert len(sizes((100, 100), shape)) == 1, shape
    for whole in ((101, 57), (700, 3), (5, 4), (25_100, 25_100)):
        for factor in (2, 3, 4, 8, 14):
            for rounded in (math.floor, math.ceil, round):
                shape = tuple(max(1, rounded(side / factor)) for side in whole)
                assert len(sizes(whole, shape)) == 2, (whole, shape)
