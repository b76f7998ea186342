"""Grids that lie: one table. Each lie ends in the right pixels or in an error that names the item.

Never shifted, never a hole that goes unnoticed, never a hang; and the neighbour that does not need the item
is filled. The truth is two overlapping items; the left one, 1_1, lies.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from affine import Affine

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceUnavailableError,
)
from icehouse_server.core.grid import Window
from icehouse_server.sources import create_source
from support import CHILD_PATH
from support import scene as made
from support import source_rig as rig
from support.origin import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

LIAR, OTHER = made.ITEMS
TRUE = made.transform_of(LIAR)
PIXELS = made.pixels_of(LIAR)


@pytest.fixture
def scene():
    with made.Scene.start() as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Lie:
    """How an item lies, and how that must end."""

    what: str
    file: Callable[[], bytes] | None = None
    document: Callable[[dict[str, Any]], object] | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    """What the error says; empty where the pixels must be right."""
    pixels: Callable[[], np.ndarray] = lambda: PIXELS
    """What the item holds, nodata where nothing is valid; for lies that are understood."""
    kind: type[SourceError] = SourceCorruptError


def tif(values=PIXELS, transform=TRUE, **how):
    return lambda: made.geotiff(values, transform, **how)


def moved(cols, rows=0.0):
    return TRUE @ Affine.translation(cols, rows)


def says(**properties):
    """Change properties of the document; None takes one out."""

    def change(document):
        document["properties"].update(properties)
        for key in [key for key, value in document["properties"].items() if value is None]:
            del document["properties"][key]

    return change


def everywhere(*changes):
    def change(document):
        for one in changes:
            one(document)

    return change


def place(transform, shape=(made.SIDE, made.SIDE)):
    return says(**{"proj:transform": list(transform)[:6], "proj:shape": list(shape)})


UNPLACED = says(**{"proj:transform": None, "proj:shape": None})
UNSAID = everywhere(UNPLACED, says(**{"proj:code": None}))
OFF = "collection's grid"
TILE = "its place in the tiling"
ELSE = "its document says proj:transform ["
"""With what the document says and what the file has."""


def with_nan():
    values = PIXELS.copy()
    values[60:70, 60:90] = np.nan
    return values


def with_nan_true():
    values = PIXELS.copy()
    values[60:70, 60:90] = made.NODATA
    return values


def with_infinity():
    values = PIXELS.copy()
    values[100, 100:110] = np.inf
    return values


def integers():
    return np.where(PIXELS == made.NODATA, -9999, PIXELS).astype("int16")


VRT = b"""<VRTDataset rasterXSize="200" rasterYSize="200"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""

CRS_LIES = [
    Lie(what="CRS wrong in the document", document=says(**{"proj:code": "EPSG:3031"}), says="EPSG:3031"),
    Lie(what="CRS wrong in the file", file=tif(crs="EPSG:3031"), says="CRS"),
    Lie(what="CRS wrong in both", file=tif(crs="EPSG:3031"), document=says(**{"proj:code": "EPSG:3031"}),
        says="EPSG:3031"),
    Lie(what="two CRS in the document", document=says(**{"proj:epsg": 3031}), says="EPSG:3031"),
    Lie(what="CRS in neither", file=tif(crs=None), document=says(**{"proj:code": None}), says="no CRS"),
    Lie(what="CRS not in the file", file=tif(crs=None), says="no CRS"),
    Lie(what="CRS not in the document", document=says(**{"proj:code": None})),
    Lie(what="CRS another of the same projection", file=tif(crs="EPSG:32633"), says="CRS"),
    Lie(what="CRS is a file", document=says(**{"proj:code": "/etc/passwd"})),
    Lie(what="CRS is a pipeline", document=says(**{"proj:code": "+proj=pipeline +step +proj=merc"})),
    Lie(what="CRS initialised from a file", document=says(**{"proj:code": "+init=/etc/passwd:x"})),
    Lie(what="CRS unknown", document=says(**{"proj:code": "EPSG:999999"})),
    Lie(what="CRS absurd", document=says(**{"proj:epsg": 10**400})),
    Lie(what="CRS of another type", document=says(**{"proj:code": {"a": 1}})),
    Lie(what="CRS true", document=says(**{"proj:epsg": True})),
]  # fmt: skip

SHIFTS = [
    *(
        Lie(what=f"{who} shifted by {shift} pixel", says=text if shift > 0.001 else "", **{who: how})
        for shift in (0.0005, 0.0015, 0.01, 0.4, 0.5, 0.6)
        for who, how, text in (
            ("file", tif(transform=moved(shift)), ELSE), ("document", place(moved(0, shift)), OFF)
        )
    ),
    Lie(what="file shifted by a pixel", file=tif(transform=moved(1)), says=ELSE),
    Lie(what="file shifted by -3 rows", file=tif(transform=moved(0, -3)), says=ELSE),
    Lie(what="document shifted by a pixel", document=place(moved(0, 1)), says=ELSE),
    Lie(what="document far away", document=place(moved(5000, 0)), says=ELSE),
    Lie(what="file far away, document silent", file=tif(transform=moved(5000)), document=UNPLACED, says=TILE),
    Lie(what="file off by one, document silent", file=tif(transform=moved(-1)), document=UNPLACED, says=TILE),
    Lie(what="both off by a row", file=tif(transform=moved(0, 1)), document=place(moved(0, 1)), says=TILE),
    Lie(what="both far away", file=tif(transform=moved(5000)), document=place(moved(5000)), says=TILE),
    Lie(what="both off by a half", file=tif(transform=moved(0.5)), document=place(moved(0.5)), says=OFF),
    Lie(what="file of half the pixel size", file=tif(transform=TRUE @ Affine.scale(0.5)), says=ELSE),
    Lie(what="file of nearly the pixel size", file=tif(transform=TRUE @ Affine.scale(1.0001)), says=ELSE),
    Lie(what="document of twice the pixel size", document=place(TRUE @ Affine.scale(2)), says=OFF),
    Lie(what="file rotated", file=tif(transform=TRUE @ Affine.rotation(0.5)), says=ELSE),
    Lie(what="file turned by a right angle", file=tif(transform=TRUE @ Affine.rotation(90)), says=ELSE),
    Lie(what="file sheared", file=tif(transform=TRUE @ Affine.shear(1, 0)), says=ELSE),
    Lie(what="file south up", file=tif(PIXELS[::-1], TRUE @ Affine(1, 0, 0, 0, -1, made.SIDE))),
    Lie(what="file east left", file=tif(PIXELS[:, ::-1], TRUE @ Affine(-1, 0, made.SIDE, 0, 1, 0)),
        says=ELSE),
    Lie(what="document rotated", document=place(TRUE @ Affine.rotation(1)), says=OFF),
    Lie(what="document south up, elsewhere", document=place(TRUE @ Affine.scale(1, -1)), says=ELSE),
    Lie(what="document south up", document=place(TRUE @ Affine(1, 0, 0, 0, -1, made.SIDE))),
    Lie(what="file without a transform", file=tif(transform=Affine.identity()), says=ELSE),
]  # fmt: skip

SIZES = [
    Lie(what="file smaller than the document", file=tif(PIXELS[:150, :150]), says=ELSE),
    Lie(what="document smaller than the file", document=place(TRUE, (150, 150)), says=ELSE),
    Lie(what="document of a corner alone", document=place(TRUE, (2, 2)), says=ELSE),
    *(
        Lie(what=f"document with {key} {value!r}"[:70], document=says(**{key: value}))
        for key, value in [
            ("proj:shape", [0, 200]), ("proj:shape", [-200, 200]), ("proj:shape", [200]),
            ("proj:shape", "200"), ("proj:shape", [200.5, 200]), ("proj:shape", [10**30, 200]),
            ("proj:shape", [float("inf"), 200]), ("proj:shape", [True, 200]), ("proj:shape", {"a": 1}),
            ("proj:transform", [1, 2, 3]), ("proj:transform", [float("nan")] * 6),
            ("proj:transform", [1e308] * 6), ("proj:transform", "abcdef"),
            ("proj:transform", [*TRUE[:6], 0, 1, 0]), ("proj:transform", [None] * 6),
        ]
    ),
    Lie(what="document with an affine of zeros", document=says(**{"proj:transform": [0] * 6})),
    Lie(what="document without a place", document=UNSAID),
    Lie(what="document with nine numbers", document=says(**{"proj:transform": list(TRUE)})),
]  # fmt: skip

CONTENT = [
    Lie(what="dtype float64", file=tif(PIXELS.astype("float64")), says="data type is float64"),
    Lie(what="dtype int16", file=tif(integers()), says="data type is int16"),
    Lie(what="dtype complex", file=tif(PIXELS.astype("complex64"), nodata=None), says="data type"),
    Lie(what="no such asset", document=lambda item: item["assets"].clear(), says="has no asset 'dem'"),
    Lie(what="nodata not declared", file=tif(nodata=None)),
    Lie(what="nodata NaN, pixels with the band's", file=tif(nodata=np.nan), says="uses for nodata"),
    Lie(what="nodata of another value", file=tif(nodata=7.0), says="uses for nodata"),
    Lie(what="nodata NaN, pixels too",
        file=tif(np.where(PIXELS == made.NODATA, np.nan, PIXELS), nodata=np.nan)),
    Lie(what="nodata another in the document",
        document=lambda item: item["assets"]["dem"].update(nodata=0, data_type="uint8")),
    Lie(what="a VRT that names a file of this machine", file=lambda: VRT, says="not a TIFF"),
    Lie(what="NaN next to nodata", file=lambda: made.geotiff(with_nan(), TRUE), pixels=with_nan_true),
    Lie(what="infinities", file=lambda: made.geotiff(with_infinity(), TRUE), pixels=with_infinity),
]  # fmt: skip

DOCUMENTS = [
    Lie(what="another item", document=lambda item: item.update(id="2_2"), says="was asked for"),
    Lie(what="an id that is a number", document=lambda item: item.update(id=5), says="not a short text"),
    Lie(what="an id without end", document=lambda item: item.update(id="x" * 10**5), says="not a short"),
    Lie(what="an id with line breaks", document=lambda item: item.update(id="a\nb"), says="not a short"),
    Lie(what="a collection", document=lambda item: item.update(type="Collection"), says="not a STAC"),
    Lie(what="properties that are none", document=lambda item: item.update(properties=[]), says="not a STAC"),
    Lie(what="assets that are none", document=lambda item: item.update(assets="dem"), says="not a STAC"),
    Lie(what="an href that is a number",
        document=lambda item: item["assets"].update(dem={"href": 5}), says="has no href"),
    Lie(what="links to itself", document=lambda item: item.update(
        links=[{"rel": rel, "href": "1_1"} for rel in ("self", "parent", "root", "collection", "item")])),
    Lie(what="a date that is none", document=says(datetime="yesterday")),
]  # fmt: skip

BODIES = {
    "not UTF-8": b'{"id": "\xff\xfe"}',
    "UTF-16": json.dumps({"id": "1_1"}).encode("utf-16"),
    "nested without end": b'{"a":' * 100_000,
    "nested, and closed": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a list": b"[]",
    "nothing": b"",
    "a number of a million digits": b'{"id": ' + b"9" * 10**6 + b"}",
    "millions of values": b'{"a": [' + b"[]," * 2_500_000 + b"[]]}",
    "huge": b'{"a": "' + b" " * (9 * 1024 * 1024) + b'"}',
    "half": b'{"type": "Feature", "id": "1_1", "assets": {',
}


async def outcome(scene, window, spec, liar=PIXELS):
    """None where the pixels are the truth; the error; within a deadline."""
    source = create_source(spec, scene.context)
    try:
        async with asyncio.timeout(30):
            block = await source.read(rig.request_for(spec, window))
    except SourceError as error:
        return error
    finally:
        await source.close()
    band = block.bands["b"]
    found = np.where(band.valid, band.values, np.asarray(made.NODATA, band.values.dtype))
    np.testing.assert_array_equal(found, made.truth(window, {LIAR: liar, OTHER: made.pixels_of(OTHER)}))
    return None


def named(error, kind, text, item=LIAR):
    assert type(error) is kind, repr(error)
    assert error.item == item
    assert text in error.detail, error.detail
    assert error.detail.isprintable()
    assert len(error.detail) < 500
    return True


ALL = [*CRS_LIES, *SHIFTS, *SIZES, *CONTENT, *DOCUMENTS]


@pytest.mark.parametrize("lie", ALL, ids=lambda lie: lie.what)
async def test_a_lie_ends_in_right_pixels_or_names_its_item(scene, lie):
    document = scene.document(LIAR)
    if lie.document is not None:
        lie.document(document)
    scene.publish(LIAR, document=document, file=None if lie.file is None else lie.file())
    spec = scene.collection(**lie.spec)
    error = await outcome(scene, made.BOTH, spec, lie.pixels())
    assert named(error, lie.kind, lie.says) if lie.says else error is None, repr(error)
    if not lie.spec:
        assert await outcome(scene, made.RIGHT, spec) is None, "the neighbour does not need the item"


async def test_a_file_with_fewer_bands_than_are_asked_for(scene):
    """Over this file alone: its neighbour has too few as well, and either may be named first."""
    scene.publish(LIAR, file=tif(np.stack([PIXELS, PIXELS]))())
    error = await outcome(scene, made.LEFT, scene.collection(index=3))
    assert named(error, SourceCorruptError, "3 was asked for")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_document_that_is_none(scene, body):
    scene.publish(LIAR, document=body)
    error = await outcome(scene, made.LEFT, scene.spec)
    assert type(error) is SourceCorruptError, repr(error)
    assert len(error.detail) < 500
    assert error.href
    assert await outcome(scene, made.RIGHT, scene.spec) is None
    scene.publish(LIAR)
    assert await outcome(scene, made.LEFT, scene.spec) is None, "nothing of it is remembered"


SIDES = {
    f"{rows} {cols}".strip(): (row, col)
    for rows, row in (("top", (1, 0)), ("", (0, 0)), ("bottom", (0, 1)))
    for cols, col in (("left", (1, 0)), ("", (0, 0)), ("right", (0, 1)))
    if rows or cols
}


@pytest.mark.parametrize("tiled", [True, False], ids=["tiling", "search"])
@pytest.mark.parametrize(("rows", "cols"), SIDES.values(), ids=SIDES.keys())
async def test_an_item_that_sticks_out_of_the_grid_is_cut(scene, rows, cols, tiled):
    """smart-geocubes writes such a patch ten pixels off (design of the cache: pixels never move)."""
    cut = Window.from_bounds(40 + 37 * rows[0], 50 + 41 * cols[0], 240 - 37 * rows[1], 430 - 41 * cols[1])
    if not tiled:
        scene.publish_search()
    spec = rig.with_grid(scene.collection(**({} if tiled else {"tiling": None})), cut)
    source = create_source(spec, scene.context)
    block = await source.read(rig.request_for(spec, spec.grid.window))
    await source.close()
    band = block.bands["b"]
    true = made.truth(cut, {item: made.pixels_of(item) for item in made.ITEMS})
    np.testing.assert_array_equal(np.where(band.valid, band.values, made.NODATA), true)


async def test_an_item_wholly_outside_the_grid_is_not_read(scene):
    spec = rig.with_grid(scene.collection(tiling=None), made.RIGHT)
    scene.publish_search()
    scene.publish(LIAR, file=b"never asked for")
    source = create_source(spec, scene.context)
    block = await source.read(rig.request_for(spec, spec.grid.window))
    await source.close()
    assert block.bands["b"].valid.all()
    assert ("GET", f"/{LIAR}.tif") not in scene.origin.asked


def offsets():
    """Where a file may end: in the header, in tables, at the edges of blocks."""
    size = len(made.true_file(LIAR))
    return sorted({0, 1, 4, 8, 9, 100, 300, 500, 1000, size // 2, size - 500, size - 1})


@pytest.mark.parametrize("size", offsets())
async def test_a_file_that_is_cut_short(scene, size):
    scene.publish(LIAR, file=made.true_file(LIAR)[:size])
    error = await outcome(scene, made.BOTH, scene.spec)
    if error is not None:  # what is cut off may be no pixel
        assert named(error, SourceCorruptError, "")
    else:
        assert size >= len(made.true_file(LIAR)) - 500
    assert await outcome(scene, made.RIGHT, scene.spec) is None


def tagged(body, etag=None, date=None):
    return Reply(body=body, headers={"ETag": etag} if etag else {"Last-Modified": date} if date else {})


CHANGES = {
    "strong ETag": ({"etag": '"a"'}, {"etag": '"b"'}, True),
    "weak ETag": ({"etag": 'W/"a"'}, {"etag": 'W/"b"'}, True),
    "weak becomes strong": ({"etag": 'W/"a"'}, {"etag": '"a"'}, True),
    "date": ({"date": "Sun, 22 Nov 2026 10:00:00 GMT"}, {"date": "Sun, 22 Nov 2026 10:00:01 GMT"}, True),
    "the ETag is gone": ({"etag": '"a"'}, {}, True),
    "the same ETag": ({"etag": '"a"'}, {"etag": '"a"'}, False),
    "the same weak ETag": ({"etag": 'W/"a"'}, {"etag": 'W/"a"'}, False),
}


@pytest.mark.parametrize(("before", "after", "reported"), CHANGES.values(), ids=CHANGES.keys())
async def test_a_file_that_is_replaced_between_header_and_data(scene, before, after, reported):
    """Old and new are never mixed: another identity is an error that another try mends."""
    big = made.geotiff(PIXELS, TRUE, compress="none")
    assert len(big) > 65536
    path = f"/{LIAR}.tif"
    other = big if not reported else made.geotiff(PIXELS + 1, TRUE, compress="none")
    scene.origin.say(path, tagged(big, **before), tagged(other, **after))
    error = await outcome(scene, made.BOTH, scene.spec)
    assert named(error, SourceUnavailableError, "changed") if reported else error is None


async def test_a_file_that_is_replaced_by_one_of_another_size(scene):
    """Without ETag and date the size is all there is."""
    big = made.geotiff(PIXELS, TRUE, compress="none")
    scene.origin.say(f"/{LIAR}.tif", tagged(big), tagged(big + b"x"))
    assert named(await outcome(scene, made.BOTH, scene.spec), SourceUnavailableError, "changed")


RANGES = {
    "another range": (Reply(status=206, body=b"x" * 65536, headers={"Content-Range": "bytes 5-65540/99999"}),
                      SourceUnavailableError),
    "no range": (Reply(status=206, body=b"x"), SourceCorruptError),
    "no size": (Reply(status=206, body=b"x", headers={"Content-Range": "bytes 0-0/*"}), SourceCorruptError),
    "a size without end": (Reply(status=206, headers={"Content-Range": f"bytes 0-1/{'9' * 40}"}),
                           SourceCorruptError),
    "more than asked for": (
        Reply(status=206, body=b"x" * 10**6, headers={"Content-Range": "bytes 0-65535/70000"}),
        SourceUnavailableError,
    ),
    "an empty file": (Reply(status=416, headers={"Content-Range": "bytes */0"}), SourceCorruptError),
    "a page": (Reply(status=204), SourceRefusedError),
    "not modified": (Reply(status=304), SourceRefusedError),
    "several choices": (Reply(status=300), SourceRefusedError),
    "a status that is none": (Reply(status=999), SourceUnavailableError),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "kind"), RANGES.values(), ids=RANGES.keys())
async def test_a_host_that_does_not_send_what_was_asked_for(scene, reply, kind):
    scene.origin.say(f"/{LIAR}.tif", reply)
    assert named(await outcome(scene, made.LEFT, scene.spec), kind, "")


async def test_a_retry_after_of_a_file_goes_up(scene):
    scene.origin.say(f"/{LIAR}.tif", Reply(status=503, headers={"Retry-After": "7"}))
    error = await outcome(scene, made.LEFT, scene.spec)
    assert error.retry_after == 7


async def test_a_search_that_has_no_end(scene):
    """Each page leads to itself; the thread that asks ends as well."""
    scene.publish_search(following=f"{scene.origin.url}{made.API}/search")
    error = await outcome(scene, made.LEFT, scene.collection(tiling=None))
    assert named(error, SourceRefusedError, "more than 2000 items", item="")


async def test_a_search_that_finds_what_is_no_item(scene):
    for items in ([5], [{}], [{"id": 5}], [{"id": "a"}], [scene.document(LIAR) | {"type": "x"}]):
        scene.publish_search(items=tuple(items))
        error = await outcome(scene, made.LEFT, scene.collection(tiling=None))
        assert type(error) is SourceCorruptError, items
    assert not scene.context.documents.stored, "what can't be used is not remembered"
    scene.publish_search()
    assert await outcome(scene, made.LEFT, scene.collection(tiling=None)) is None


@pytest.mark.parametrize("tiled", [True, False], ids=["tiling", "search"])
async def test_remembered_document_that_led_to_an_error_is_not_reused(scene, tiled, monkeypatch):
    """Documents stay fresh for a week; the API has mended this one since."""
    wrong = scene.document(LIAR)
    place(moved(1))(wrong)
    spec = scene.collection(**({} if tiled else {"tiling": None}))
    scene.publish(LIAR, document=wrong)
    scene.publish_search(items=(wrong, scene.document(OTHER)))
    assert await outcome(scene, made.LEFT, spec) is not None
    assert scene.context.documents.stored, "it was remembered: it is a sound document"
    scene.publish(LIAR)
    scene.publish_search()
    monkeypatch.setattr("icehouse_server.sources.stac.item_finder._BELIEVED", -1.0)
    source = create_source(spec, scene.context)
    request = rig.request_for(spec, made.LEFT)
    with pytest.raises(SourceCorruptError):
        await source.read(request)  # by the document of before
    block = await source.read(request)
    await source.close()
    assert block.provenance
    assert await outcome(scene, made.LEFT, spec) is None, "and the new one is remembered"


def test_a_small_block_that_inflates_to_gigabytes():
    """In a process of its own, which measures its peak. LZW is bounded by the compressed bytes alone."""
    command = [sys.executable, "-W", "ignore", "-m", "support.bombs"]
    done = subprocess.run(
        command, env=os.environ | CHILD_PATH, capture_output=True, text=True, timeout=150, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"deflate", "zstd", "deflate by GDAL", "zstd by GDAL"}
    for name, (end, grown) in found.items():
        assert grown < 30 * 1024 * 1024, f"{name}: {grown}"
        # GDAL stops where the block is full and takes what it has.
        assert end == f"source-corrupt {LIAR}" or ("GDAL" in name and end == "read"), f"{name}: {end}"
