"""GeoTIFFs whose directories lie anywhere: read with a few, bounded requests; those that lie are named."""

from __future__ import annotations

import asyncio
import itertools
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.core.grid import Window
from icehouse_server.sources.cog.checks import Expectation
from icehouse_server.sources.cog.reader import open_cog
from icehouse_server.sources.http.host_traffic import HostTraffic
from icehouse_server.sources.http.hosts import Hosts
from icehouse_server.sources.http.ranges import HEADER, HeaderCache, RangeReader
from icehouse_server.sources.http.shared_ranges import SharedRanges
from support.origin import Origin

SIDE = 400
TRANSFORM = Affine(32, 0, -800_000, 0, -32, 2_700_000)
GRID = GeoBox((SIDE, SIDE), TRANSFORM, "EPSG:3413")
WINDOW = Window(row=150, col=100, height=90, width=133)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture(scope="module")
def origin():
    with Origin.start() as running:
        yield running


def pixels(side=SIDE):
    return np.random.default_rng(7).uniform(0, 3000, (side, side)).astype("float32")


def tiff(values=None, *, change=None, **how):
    """A plain GeoTIFF of the stated layout; ``change`` is done to it after it was closed."""
    values = pixels() if values is None else values
    facts = {
        "driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1],
        "dtype": values.dtype, "crs": "EPSG:3413", "transform": TRANSFORM, "nodata": -9999, **how,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**facts) as dataset:
            dataset.write(values, 1)
        if change is not None:
            with rasterio.open(memory.name, "r+") as dataset:
                change(dataset)
        return bytes(memory.read())


def traffic(hosts, origin):
    return hosts.traffic.snapshot().get(origin.host, HostTraffic(requests=0, bytes=0, errors={}))


async def read(origin, body, window=WINDOW, *, headers=None, dtype="float32", level=None):
    """Read a window of a file, and return it with what was asked for."""
    hosts = Hosts(connect_timeout=5, read_timeout=5, max_requests_per_host=8, user_agent="test")
    band = BandSpec(name="b", dtype=np.dtype(dtype), nodata=-9999)
    expected = Expectation(item="i", href="h", grid=GRID, band=band, index=1)
    origin.say("/file.tif", body)
    reader = RangeReader(
        hosts=hosts, headers=HeaderCache() if headers is None else headers, shared=SharedRanges(),
        url=f"{origin.url}/file.tif", item="i",
    )  # fmt: skip
    hosts.enter(None)
    try:
        with ThreadPoolExecutor(2) as pool:
            cog = await open_cog(reader, expected, pool)
            opened = traffic(hosts, origin)
            if level is not None:
                values, valid = await cog.read_level(level, window)
            else:
                piece = await cog.read(window)
                values, valid = piece.values, piece.valid
    finally:
        await hosts.leave(None)
    return values, valid, opened, traffic(hosts, origin)


def moved(tiff_bytes, gap):
    """Move the first directory of a classic TIFF to the end of the file, behind a gap of zeros."""
    at = struct.unpack_from("<I", tiff_bytes, 4)[0]
    size = 2 + 12 * struct.unpack_from("<H", tiff_bytes, at)[0] + 4
    out = bytearray(tiff_bytes) + bytes(gap)
    struct.pack_into("<I", out, 4, len(out))
    return bytes(out + tiff_bytes[at : at + size])


def tagged(dataset):
    dataset.update_tags(note="x" * 3000)


def overviews(dataset):
    dataset.build_overviews([2, 4], Resampling.nearest)


LAYOUTS = {
    "directory at the end": lambda: tiff(change=tagged),
    "directory at the end, tiled": lambda: tiff(change=tagged, compress="deflate", **TILED),
    "directory at the end, BigTIFF": lambda: tiff(change=tagged, bigtiff="YES", **TILED),
    "directory at the end, big-endian": lambda: tiff(change=tagged, endianness="BIG", **TILED),
    "overviews added": lambda: tiff(change=overviews, **TILED),
    "overviews added, striped": lambda: tiff(change=overviews, compress="lzw"),
    "one row a strip": lambda: tiff(change=tagged, blockysize=1),
    "tables beyond the header": lambda: moved(tiff(tiled=True, blockxsize=16, blockysize=16), 0),
    "just beyond the header": lambda: moved(tiff(pixels()[:120, :120]), HEADER - 57_000),
}  # fmt: skip


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS.keys())
async def test_directories_anywhere_are_read(origin, make):
    body = make()
    window = WINDOW
    with MemoryFile(body) as memory, memory.open() as dataset:
        window = window.intersection(Window(row=0, col=0, height=dataset.height, width=dataset.width)) or (
            Window(row=10, col=20, height=50, width=60)
        )
        truth = dataset.read(1)[window.row : window.stop_row, window.col : window.stop_col]
    values, valid, opened, _ = await read(origin, body, window)
    assert valid.all()
    np.testing.assert_array_equal(values, truth)
    assert opened.requests <= 6


async def test_pixels_in_front_of_the_directory_stay_there(origin):
    body = tiff(pixels(1700), change=tagged, **TILED)
    assert len(body) > 11 * 2**20
    _, valid, opened, _ = await read(origin, body)
    assert valid.all()
    assert opened.requests <= 3
    assert opened.bytes < 3 * HEADER


async def test_a_directory_elsewhere_is_remembered(origin):
    body, headers = tiff(change=overviews, **TILED), HeaderCache()
    await read(origin, body, headers=headers)
    _, valid, opened, _ = await read(origin, body, headers=headers)
    assert valid.all()
    assert opened.requests == 0


async def test_all_within_the_first_bytes_is_one_request(origin):
    body = tiff(**TILED)
    _, valid, opened, _ = await read(origin, body)
    assert valid.all()
    assert opened.requests == 1


async def test_large_tags_that_say_nothing_are_left(origin):
    """An XMP packet of 3 MB: neither asked for nor held."""
    body = moved(tiff(**TILED), 3 * 2**20)
    at = struct.unpack_from("<I", body, 4)[0]
    count = struct.unpack_from("<H", body, at)[0]
    entries = body[at + 2 : at + 2 + 12 * count]
    xmp = struct.pack("<HHII", 700, 1, 3 * 2**20, at - 3 * 2**20)
    changed = body[:at] + struct.pack("<H", count + 1) + entries + xmp + bytes(4)
    _, valid, opened, _ = await read(origin, changed)
    assert valid.all()
    assert opened.bytes < 3 * HEADER


# Directories that lie


def directories(*places, entries=0):
    """A TIFF of empty directories, of which each names the place of the next."""
    out = bytearray(b"II*\0" + struct.pack("<I", places[0]))
    for place, following in itertools.pairwise(places):
        if len(out) < place + 6 + 12 * entries:
            out += bytes(place + 6 + 12 * entries - len(out))
        struct.pack_into("<H", out, place, entries)
        struct.pack_into("<I", out, place + 2 + 12 * entries, following)
    return bytes(out + bytes(20))


def with_entry(tag, kind, count, value):
    """A plain file of which one entry is replaced."""
    out = bytearray(tiff(**TILED))
    at = struct.unpack_from("<I", out, 4)[0]
    for number in range(struct.unpack_from("<H", out, at)[0]):
        entry = at + 2 + 12 * number
        if struct.unpack_from("<H", out, entry)[0] == tag:
            struct.pack_into("<HHII", out, entry, tag, kind, count, value)
    return bytes(out)


BIG = b"II+\0\x08\0\0\0"
LIES = {
    "a loop": (lambda: directories(8, 20, 40, 8), "loop"),
    "a directory that follows itself": (lambda: directories(8, 8), "loop"),
    "a loop far away": (lambda: directories(8, 300_000, 8), "loop"),
    "100 directories": (lambda: directories(*range(8, 8 + 101 * 6, 6)), "more than 64 directories"),
    "100 directories far apart": (lambda: directories(*range(8, 8 + 101 * 40_000, 40_000)), "more than 64"),
    "the first beyond the file": (lambda: directories(4_000_000_000), "shorter than its header says"),
    "the second beyond the file": (lambda: directories(8, 4_000_000_000), "shorter than its header says"),
    "beyond the file, BigTIFF": (lambda: BIG + b"\xff" * 16, "shorter than its header says"),
    "more entries than bytes": (lambda: b"II*\0\x08\0\0\0\xff\x0f" + bytes(30), "shorter than"),
    "entries without end": (lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(900_000), "65535 entries"),
    "entries without end, BigTIFF": (
        lambda: BIG + struct.pack("<QQ", 16, 2**63) + bytes(100), "9223372036854775808 entries"
    ),
    "a table beyond the file": (lambda: with_entry(324, 4, 49, 4_000_000_000), "shorter than"),
    "a table of 16 GB": (lambda: with_entry(324, 4, 2**32 - 1, 8), "shorter than"),
    "a table of 40 MB": (lambda: with_entry(324, 16, 5_000_000, 8) + bytes(41_000_000), "metadata exceed"),
    "not a TIFF": (lambda: b"GIF89a" + bytes(100), "not a TIFF"),
    "four bytes": (lambda: b"II*\0", "not a TIFF"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), LIES.values(), ids=LIES.keys())
async def test_directories_that_lie_are_named(origin, make, said):
    with pytest.raises(SourceCorruptError, match=said) as caught:
        await asyncio.wait_for(read(origin, make()), 10)
    assert caught.value.item == "i"
    assert len(origin.asked) < 80
    origin.asked.clear()
