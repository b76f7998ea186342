"""Items in many CRSs made one, against the stand-in of Earth Search; by odc-stac, rasterio and numpy."""

from __future__ import annotations

import functools
import tracemalloc
from dataclasses import replace

import numpy as np
import odc.stac
import pyproj
import pystac_client
import pytest
import rasterio.warp
from rasterio.enums import Resampling

from icehouse_server.collections.loader import parse_collection, read_collections
from icehouse_server.core.errors import (
    ConfigurationError,
    SourceCorruptError,
    SourceRefusedError,
    SourceUnavailableError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.time import TimeAxis, TimeStep, parse_moment
from icehouse_server.demo import faults as f
from icehouse_server.demo.object_builder import Variant
from icehouse_server.sources import create_source
from icehouse_server.sources.raster import warping
from icehouse_server.sources.stac import composite, item_finder
from icehouse_server.sources.stac.settings import parse_source
from icehouse_server.testing.source_conformance import SourceCase, SourceConformance
from support import source_rig as rig
from support.earth_search import dem, world
from support.earth_search import pixels as scene_pixels

TILE = (268_760, 5_328_020, 289_740, 5_339_000)
"""Of zone 33: what 33UTP and 33UUP cover together; items of zone 32 reach into its west."""
SEAM = (273_760, 5_330_000, 277_600, 5_333_840)
"""Where items of both zones overlap."""
HIDDEN = (0, 1, 3, 8, 9, 10, 11)

FILE = """
id = "scenes"
title = "Scenes"
[grid]
crs = "{crs}"
resolution = {resolution}
bounds = [{bounds}]
chunk = {chunk}
[extent]
bbox = [11.0, 47.0, 13.0, 49.0]
{time}
[source]
type = "stac"
api = "https://earth-search.aws.element84.com/v1"
collection = "sentinel-2-l2a"
asset_hosts = ["sentinel-cogs.s3.us-west-2.amazonaws.com"]
offset_applied = "earthsearch:boa_offset_applied"
[source.composite]
rule = "{rule}"
mask = {{ asset = "scl", classes = [0, 1, 3, 8, 9, 10, 11] }}
"""
BAND = """
[[bands]]
name = "{name}"
dtype = "uint16"
nodata = 0
scale = 0.0001
resampling = "{method}"
[bands.source]
asset = "{name}"
"""
MONTHS = '[time]\nstart = "2023-01"\nperiod = "monthly"\nend = "2023-08"'


def scenes(
    rule="median",
    method="nearest",
    crs="EPSG:32633",
    resolution=20,
    bounds=SEAM,
    chunk=128,
    time=MONTHS,
    **composite,
):
    """A collection of scenes; further words go to `[source.composite]`, None takes one out."""
    text = FILE.format(
        crs=crs,
        resolution=resolution,
        bounds=",".join(map(str, bounds)),
        chunk=chunk,
        time=time,
        rule=rule,
    )
    text += "".join(BAND.format(name=name, method=method) for name in ("red", "swir16"))
    spec = parse_collection(text, "scenes.toml")
    table = {key: value for key, value in (spec.source["composite"] | composite).items() if value is not None}
    return rig.with_source(spec, composite=table)


def banded(spec, name, **changes):
    """The collection with one band, whose fields, or keys of `[bands.source]`, are others."""
    band = spec.band(name)
    fields = {key: changes.pop(key) for key in ("dtype", "nodata", "scale", "offset") if key in changes}
    band = replace(band, **fields, source={**band.source, **changes})
    return replace(spec, bands=(band,), default_bands=(name,))


def asked(spec, window=None, bands=(), step=0):
    request = rig.request_for(spec, window or spec.grid.window, *bands)
    if spec.time is None:
        return request
    return replace(request, step=spec.step(step) if isinstance(step, int) else step)


async def read(spec, context, window=None, bands=(), step=0):
    source = create_source(spec, context)
    try:
        return await source.read(asked(spec, window, bands, step))
    finally:
        await source.close()


@pytest.fixture
def context(fresh_earth_search):
    with rig.source_context(fresh_earth_search) as made:
        yield made


@pytest.fixture
def exact(monkeypatch):
    """Places to the last digit, here and in odc-stac, so that both say the same of every pixel."""
    monkeypatch.setattr(warping, "TOLERANCE", 0.0)
    monkeypatch.setattr(rasterio.warp, "reproject", functools.partial(rasterio.warp.reproject, tolerance=0))


@functools.cache
def stacked(url, geobox, band, begin, end, collection="sentinel-2-l2a", cloud=101.0):
    """odc-stac's layers of all items of a time, oldest first: values, True = clear, and the ids."""
    found = pystac_client.Client.open(url).search(
        collections=[collection], datetime=f"{begin}/{end}", limit=100
    )
    items = sorted(found.items(), key=lambda item: (item.datetime, item.id))
    items = [item for item in items if item.properties["eo:cloud_cover"] < cloud]
    layers, clear = [], []
    for item in items:  # one by one: odc-stac drops those that don't touch
        loaded = odc.stac.load([item], bands=[band, "scl"], geobox=geobox, resampling="nearest")
        empty = np.zeros(geobox.shape, dtype=np.uint16)
        values = loaded[band].values[0] if loaded.sizes.get("time") else empty
        classes = loaded["scl"].values[0] if loaded.sizes.get("time") else empty
        layers.append(values)
        clear.append(~np.isin(classes, HIDDEN) & (values != 0))
    return np.stack(layers), np.stack(clear), [item.id for item in items]


def median(values, valid):
    made = np.ma.median(np.ma.masked_array(values, ~valid), axis=0)
    return np.rint(made.filled(0)).astype(np.uint16), ~np.ma.getmaskarray(made)


def same(block, values, valid):
    np.testing.assert_array_equal(block.valid, valid)
    np.testing.assert_array_equal(block.values[valid], values[valid])


@pytest.mark.usefixtures("exact")
class TestConformance(SourceConformance):
    """Median of many scenes in two zones, read at an overview."""

    @pytest.fixture
    def case(self, context, earth_search):
        spec = scenes(
            time="",
            bounds=(274_760, 5_337_000, 278_760, 5_341_000),
            resolution=40,
            chunk=32,
            query={"eo:cloud_cover": {"lt": 15}},
        )

        def truth(band, window):
            values, valid, _ = stacked(
                earth_search.open_stac_url, spec.grid.geobox, band, "2023-01-01", "2023-06-30", cloud=15
            )
            inside = window.slices(spec.grid.window)
            return median(values[:, *inside], valid[:, *inside])

        return SourceCase(
            spec=spec,
            make=lambda: create_source(spec, context),
            truth=truth,
            area=Window(row=40, col=10, height=55, width=60),
            void=Window(row=2, col=10, height=20, width=30),
            bands=("red", "swir16"),
        )


async def test_clouds_need_room_where_no_scene_is_clear(context):
    """Without nodata they would be 0, which is a reflectance like others."""
    clouds = {"asset": "scl", "classes": list(range(12))}
    spec = banded(scenes(rule="first", mask=clouds), "red", nodata=None)
    with pytest.raises(SourceCorruptError, match="'red' has no nodata to hold them") as caught:
        await read(spec, context)
    assert "write nodata = N" in caught.value.hint


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_month_is_the_median_of_what_odc_stac_loads(context, earth_search, step):
    spec = scenes()
    days = [("2023-01-01", "2023-01-31"), ("2023-02-01", "2023-02-28"), ("2023-03-01", "2023-03-31")][step]
    block = await read(spec, context, step=step)
    for band in ("red", "swir16"):
        values, clear, ids = stacked(earth_search.open_stac_url, spec.grid.geobox, band, *days)
        same(block.bands[band], *median(values, clear))
        counted = {item for item, layer in zip(ids, clear, strict=True) if layer.any()}
        file = {"red": "B04.tif", "swir16": "B11.tif"}[band]
        assert {p.item for p in block.provenance if p.href.endswith(file)} == counted
    assert block.bands["red"].valid.any()


async def test_a_month_without_scenes_is_void(context):
    block = await read(scenes(), context, step=3)
    assert not any(band.valid.any() for band in block.bands.values())
    assert (block.bands["red"].values == 0).all()
    assert block.provenance == ()


def first(values, clear):
    where = clear.argmax(axis=0)
    return np.take_along_axis(values, where[None], axis=0)[0], clear.any(axis=0)


RULES = {
    "first": first,
    "last": lambda values, clear: first(values[::-1], clear[::-1]),
    "min": lambda values, clear: (np.where(clear, values, 65535).min(axis=0), clear.any(axis=0)),
    "max": lambda values, clear: (np.where(clear, values, 0).max(axis=0), clear.any(axis=0)),
    "mean": lambda values, clear: (
        np.rint(np.where(clear, values, 0).sum(axis=0) / np.maximum(clear.sum(axis=0), 1)),
        clear.any(axis=0),
    ),
}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("rule", RULES)
async def test_rules_equal_numpy_on_what_odc_stac_loads(context, earth_search, rule):
    spec = scenes(rule=rule)
    values, clear, _ = stacked(
        earth_search.open_stac_url, spec.grid.geobox, "red", "2023-01-01", "2023-01-31"
    )
    block = await read(spec, context, bands=("red",))
    same(block.bands["red"], *RULES[rule](values, clear))


@pytest.mark.usefixtures("exact")
async def test_best_is_the_first_by_a_property(context, earth_search):
    spec = scenes(rule="best", order_by="eo:cloud_cover")
    url, geobox = earth_search.open_stac_url, spec.grid.geobox
    values, clear, ids = stacked(url, geobox, "red", "2023-01-01", "2023-01-31")
    found = pystac_client.Client.open(url).search(collections=["sentinel-2-l2a"], ids=ids)
    cloud = {item.id: item.properties["eo:cloud_cover"] for item in found.items()}
    order = sorted(range(len(ids)), key=lambda n: (cloud[ids[n]], ids[n]))
    block = await read(spec, context, bands=("red",))
    same(block.bands["red"], *first(values[order], clear[order]))


async def test_what_lies_below_is_not_read(context, fresh_earth_search):
    """Without a mask one scene of a place is enough."""
    spec = scenes(rule="first", mask=None, bounds=(280_000, 5_330_000, 281_280, 5_331_280))
    fresh_earth_search.reset()
    block = await read(spec, context, bands=("red",))
    assert block.bands["red"].valid.all()
    assert len(block.provenance) == 1
    assert fresh_earth_search.counters().matching("B04.tif")[0] <= 3


def one_scene(**words):
    """The day of one scene alone, without a mask."""
    day = TimeAxis(listed=(TimeStep(start=at("2023-02-14T00:00:00"), end=at("2023-02-15T00:00:00")),))
    query = {"mgrs:utm_zone": {"eq": 32}, "mgrs:grid_square": {"eq": "QU"}}
    return replace(scenes(rule="first", mask=None, query=query, **words), time=day)


def at(text):
    return parse_moment(text)


SCENE = "S2A_32UQU_20230214_0_L2A"


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
async def test_nearest_takes_the_pixel_that_holds_the_place(context, crs):
    """Places by pyproj, exactly; only those within the tolerance of a pixel's edge may fall into the next."""
    where = {
        "EPSG:32633": {"bounds": (273_760, 5_330_000, 277_600, 5_333_840), "resolution": 10},
        "EPSG:4326": {"bounds": (11.96, 48.08, 12.0, 48.11), "resolution": 0.0001, "crs": "EPSG:4326"},
    }[crs]
    spec = one_scene(**where)
    found = (await read(spec, context, bands=("red",))).bands["red"]
    scene = world.scene_of_item("sentinel-2-l2a", SCENE)
    cols, rows = places(spec, scene.tile.epsg, scene.affine("red"))
    pixels = scene_pixels.render(scene, "red")
    near = np.minimum(abs(cols - np.rint(cols)), abs(rows - np.rint(rows))) < 0.002
    inside = (rows >= 0) & (cols >= 0) & (rows < pixels.shape[0]) & (cols < pixels.shape[1])
    truth = np.zeros(found.values.shape, dtype=np.uint16)
    truth[inside] = pixels[rows[inside].astype(int), cols[inside].astype(int)]
    np.testing.assert_array_equal(found.valid[~near], (truth != 0)[~near])
    np.testing.assert_array_equal(found.values[~near], truth[~near])
    assert near.mean() < 0.02


def places(spec, epsg, affine):
    """(columns, rows) in a file of the centres of a collection's pixels."""
    height, width = spec.grid.shape
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    own = spec.grid.geobox.affine
    x, y = pyproj.Transformer.from_crs(str(spec.grid.crs), epsg, always_xy=True).transform(
        own.a * col + own.c, own.e * row + own.f
    )
    return (x - affine.c) / affine.a, (y - affine.f) / affine.e


@pytest.mark.parametrize("method", ["bilinear", "cubic", "average"])
@pytest.mark.parametrize("resolution", [10, 40])
async def test_other_methods_equal_rasterio(context, earth_search, method, resolution):
    """One call over the whole grid, places exact, from the overview of the grid's resolution, true scale.

    Places are held to a thousandth of a pixel here and are exact there, so a value may be off by that share
    of the step between two pixels, which is 6000 at most: by 6, and by 1 through rounding.
    """
    spec = one_scene(method=method, resolution=resolution)
    found = (await read(spec, context, bands=("red",))).bands["red"]
    scene = world.scene_of_item("sentinel-2-l2a", SCENE)
    pixels, affine = overview(earth_search, scene, resolution // 10)
    truth = np.zeros(found.values.shape, dtype=np.uint16)
    rasterio.warp.reproject(
        pixels,
        truth,
        src_transform=affine,
        src_crs=scene.tile.epsg,
        src_nodata=0,
        dst_transform=spec.grid.geobox.affine,
        dst_crs=str(spec.grid.crs),
        dst_nodata=0,
        resampling=Resampling[method],
        tolerance=0,
        **({} if method == "average" else {"XSCALE": 1, "YSCALE": 1}),
    )
    assert (found.valid != (truth != 0)).mean() < 0.001
    both = found.valid & (truth != 0)
    off = np.abs(found.values[both].astype(int) - truth[both])
    assert both.mean() > 0.3
    assert off.max() <= (7 if method != "cubic" else 14)
    assert (off <= 1).mean() > 0.99


def overview(earth, scene, factor):
    """The pixels that the stand-in's file holds at an overview, and their affine."""
    url = f"{earth.cogs_base}{world.BUCKET}/{scene.key('red')}"
    options = {} if factor == 1 else {"overview_level": (2, 4, 8).index(factor)}
    with rasterio.open(url, **options) as file:
        return file.read(1), file.transform


@pytest.mark.parametrize("method", ["bilinear", "average"])
async def test_how_a_request_is_cut_does_not_show(context, method):
    """As one block, and in windows of odd sizes: every pixel is the same."""
    spec = scenes(method=method, crs="EPSG:4326", resolution=0.0002, bounds=(11.95, 48.08, 12.01, 48.12))
    source = create_source(spec, context)
    whole = await source.read(asked(spec))
    for window in (
        Window(row=0, col=0, height=128, width=128),
        Window(row=77, col=55, height=101, width=190),
        Window(row=127, col=128, height=2, width=1),
    ):
        part = await source.read(asked(spec, window))
        for name, band in part.bands.items():
            inside = window.slices(spec.grid.window)
            np.testing.assert_array_equal(band.valid, whole.bands[name].valid[inside])
            np.testing.assert_array_equal(band.values, whole.bands[name].values[inside])
    await source.close()


async def test_a_step_ends_before_the_next_begins(context):
    """An API takes both ends of an interval; a step has its start alone."""
    scene = world.scene_of_item("sentinel-2-l2a", SCENE)
    spec = one_scene()
    begin, moment, end = at("2023-02-14"), scene.time, at("2023-02-15")
    steps = (TimeStep(start=begin, end=moment), TimeStep(start=moment, end=end))
    before, after = [(await read(spec, context, bands=("red",), step=step)).provenance for step in steps]
    assert before == ()
    assert [found.item for found in after] == [SCENE]


@pytest.mark.parametrize(
    ("end", "asks"), [("2023-01-31", 1), ("2999-01-01", 2)], ids=["long over", "still open"]
)
async def test_a_step_that_may_still_get_items_is_asked_for_again(context, fresh_earth_search, end, asks):
    spec, step = scenes(), TimeStep(start=at("2023-01-01"), end=at(end))
    window = Window(row=0, col=0, height=8, width=8)
    await read(spec, context, window, ("red",), step)
    context.documents.ageing = context.absent_max_age + 1
    fresh_earth_search.reset()
    await read(spec, context, window, ("red",), step)
    assert (fresh_earth_search.counters().matching("/search")[0] > 0) == (asks == 2)


# Faults


async def test_one_bad_item_fails_what_needs_it_alone(context, fresh_earth_search):
    spec = scenes(bounds=TILE)
    fresh_earth_search.faults([f.Fault(path="*33UUP*20230105*/B04.tif", action=f.Status(status=404))])
    with pytest.raises(SourceRefusedError) as failed:
        await read(spec, context, Window(row=100, col=900, height=50, width=50), ("red",))
    assert failed.value.item == "S2A_33UUP_20230105_0_L2A"
    west = await read(spec, context, Window(row=100, col=10, height=50, width=50), ("red",))
    assert west.bands["red"].valid.any()
    other = await read(spec, context, Window(row=100, col=900, height=50, width=50), ("swir16",))
    assert other.provenance


async def test_a_file_that_is_not_where_its_document_says(context, fresh_earth_search):
    scene = world.scene_of_item("sentinel-2-l2a", SCENE)
    fresh_earth_search.lies({f"{world.BUCKET}/{scene.key('red')}": Variant(epsg=32631)})
    with pytest.raises(SourceCorruptError, match="CRS") as failed:
        await read(one_scene(), context, bands=("red",))
    assert failed.value.item == SCENE


async def test_a_missing_asset(context):
    bare = banded(one_scene(), "red", asset="coastal")
    with pytest.raises(SourceCorruptError, match="no asset 'coastal'"):
        await read(bare, context)
    block = await read(banded(bare, "red", optional=True), context)
    assert not block.bands["red"].valid.any()


# Units


async def test_units_of_another_kind_are_not_mixed(context):
    """Items give an offset of -0.1, which the property says is in the pixels already."""
    spec = one_scene()
    plain = (await read(spec, context, bands=("red",))).bands["red"]
    bare = rig.with_source(spec, offset_applied=None)
    with pytest.raises(SourceCorruptError, match=r"offset -0\.1"):
        await read(bare, context, bands=("red",))
    brought = (await read(banded(bare, "red", harmonise=True), context)).bands["red"]
    np.testing.assert_array_equal(brought.valid, plain.valid)
    moved = np.maximum(plain.values.astype(int) - 1000, 1)[plain.valid]
    np.testing.assert_array_equal(brought.values[plain.valid], moved)


async def test_quantities(context):
    spec = one_scene()
    plain = (await read(spec, context, bands=("red",))).bands["red"]
    changes = {"dtype": np.dtype("float32"), "nodata": float("nan"), "scale": 1.0}
    spec = replace(spec, bands=(spec.band("red"),), default_bands=("red",))
    band = replace(
        spec.band("red"), **changes, source={"asset": "red", "apply_scale": True, "dtype": "uint16"}
    )
    found = (await read(replace(spec, bands=(band,)), context)).bands["red"]
    np.testing.assert_array_equal(found.valid, plain.valid)
    want = (plain.values[plain.valid] * 0.0001).astype(np.float32)
    np.testing.assert_array_equal(found.values[plain.valid], want)


# Links


@pytest.mark.parametrize("kind", ["presigned", "sas"])
async def test_signed_links_are_fetched_anew_when_they_expire(context, fresh_earth_search, kind, capsys):
    earth = fresh_earth_search
    api = {"presigned": earth.presigned_stac_url, "sas": earth.sas_stac_url}[kind]
    host = {
        "presigned": "icehouse-private.s3.us-west-2.amazonaws.com",
        "sas": "icehouseprivate.blob.core.windows.net",
    }
    spec = rig.with_source(one_scene(), api=api, asset_hosts=[host[kind], "earth-search.aws.element84.com"])
    window = Window(row=0, col=0, height=20, width=20)
    source = create_source(spec, context)
    block = await source.read(asked(spec, window, ("red",)))
    assert block.provenance
    assert not any("?" in found.href for found in block.provenance)
    earth.pass_time(7200)
    source.files.headers.max_age = source.files.shared.max_age = -1.0  # as some time later
    with pytest.raises(SourceUnavailableError) as failed:
        await source.read(asked(spec, window, ("red",)))
    assert "ignature=" not in f"{failed.value!r} {failed.value.href}"
    again = await source.read(asked(spec, window, ("red",)))
    assert again.provenance == block.provenance
    await source.close()
    assert "Signature=" not in capsys.readouterr().out


async def test_a_link_is_not_believed_to_its_end(context, fresh_earth_search, monkeypatch):
    earth = fresh_earth_search
    hosts = ["icehouse-private.s3.us-west-2.amazonaws.com", "earth-search.aws.element84.com"]
    spec = rig.with_source(one_scene(), api=earth.presigned_stac_url, asset_hosts=hosts)
    window = Window(row=0, col=0, height=20, width=20)
    source = create_source(spec, context)
    await source.read(asked(spec, window, ("red",)))
    earth.reset()
    await source.read(asked(spec, window, ("red",)))
    assert earth.counters().matching("/search")[0] == 0
    monkeypatch.setattr(item_finder, "_EXPIRY_MARGIN", 3600.0)
    await source.close()
    fresh = create_source(spec, context)
    await fresh.read(asked(spec, window, ("red",)))
    assert earth.counters().matching("/search")[0] > 0
    await fresh.close()


# The Copernicus DEM


def degrees_window(spec, west, north, height, width):
    """The window whose first pixel has its centre at a place."""
    affine = spec.grid.geobox.affine
    return Window(
        row=round((north - affine.f) / affine.e - 0.5),
        col=round((west - affine.c) / affine.a - 0.5),
        height=height,
        width=width,
    )


def cop_dem():
    return read_collections(None, ["cop-dem-glo-30"])["cop-dem-glo-30"]


@pytest.mark.parametrize(("west", "north"), [(-180, -17.9), (180 - 40 / 3600, -17.9), (11.99, 49.01)])
async def test_the_dem_is_copied_where_it_lies_on_the_grid(context, west, north):
    """Both sides of the antimeridian, and where four degrees meet of which one is ocean."""
    spec = cop_dem()
    window = degrees_window(spec, west, north, 60, 40)
    found = (await read(spec, context, window)).bands["dem"]
    latitudes = north - np.arange(60) / 3600
    longitudes = west + np.arange(40) / 3600
    truth = dem.elevation(longitudes, latitudes)
    if west != 11.99:
        assert found.valid.all()
    np.testing.assert_array_equal(found.values[found.valid], truth[found.valid])
    assert found.valid.mean() > 0.5


@pytest.mark.parametrize("west", [-180, 180 - 40 / 3600, 179 - 20 / 3600])
async def test_the_dem_is_warped_where_longitudes_are_wider(context, west):
    """At 67 degrees: against one call of rasterio for each degree; where two meet the first by id wins."""
    spec = cop_dem()
    window = degrees_window(spec, west, 67.5, 60, 40)
    found = (await read(spec, context, window)).bands["dem"]
    truth = np.full((60, 40), -32767, dtype=np.float32)
    longitudes = (-180, 178, 179) if west > 0 else (-180, 179)
    for longitude in sorted(longitudes, key=lambda degree: dem.Degree(67, degree).item_id):
        degree, layer = dem.Degree(67, longitude), np.full_like(truth, -32767)
        affine = degree.affine
        if west > 0 > longitude:  # the file that begins west of -180 reaches into the grid's last column
            affine = affine.translation(360, 0) @ affine
        rasterio.warp.reproject(
            dem.render(degree),
            layer,
            src_transform=affine @ affine.translation(-1e-6, -1e-6),
            src_crs="EPSG:4326",
            dst_transform=spec.grid.geobox_of(window).affine,
            dst_crs="EPSG:4326",
            dst_nodata=-32767,
            resampling=Resampling.bilinear,
            tolerance=0,
            XSCALE=1,
            YSCALE=1,
        )
        truth = np.where(truth == -32767, layer, truth)
    np.testing.assert_array_equal(found.valid, truth != -32767)
    assert found.valid.all()
    np.testing.assert_allclose(found.values, truth, atol=0.02)


async def test_no_seam_at_the_antimeridian(context):
    """A polar grid across it: PROJ says 179.9999 of places that the western file has as -180.0001."""
    spec = cop_dem()
    text = FILE.format(
        crs="EPSG:32601",
        resolution=10,
        bounds="368830,7476520,373950,7481640",
        chunk=256,
        time="",
        rule="first",
    )
    own = parse_collection(text + BAND.format(name="dem", method="nearest"), "own.toml")
    band = replace(spec.band("dem"), resampling="nearest")
    source = {**spec.source, "composite": {"rule": "first", "order_by": "id"}}
    own = replace(own, source=source, bands=(band,), default_bands=("dem",))
    x, y = pyproj.Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 67.4)
    grid = own.grid.geobox
    col, row = ~grid.affine * (x, y)
    assert 0 < col < 512 > row > 0
    found = (await read(own, context)).bands["dem"]
    assert found.valid.all()


async def test_s3_needs_a_region(context):
    spec = rig.with_source(cop_dem(), s3_region=None, asset_hosts=[])
    with pytest.raises(SourceRefusedError, match="region"):
        await read(spec, context, degrees_window(spec, -180, -17.9, 4, 4))
    with pytest.raises(ConfigurationError, match="s3_region"):
        create_source(rig.with_source(cop_dem(), s3_region=None), context)
    trust = parse_source(cop_dem()).allowed_hosts({})
    url = "https://copernicus-dem-30m.s3.eu-central-1.amazonaws.com/a%20b.tif"
    assert trust.url_of("s3://copernicus-dem-30m/a b.tif", item="x") == url
    with pytest.raises(SourceRefusedError, match="does not name"):
        trust.url_of("s3://another/a.tif", item="x")


# Memory


async def traced(spec, context, stacks=None):
    """A block of a hundred layers, and the peak of what was allocated for it."""
    source = create_source(spec, context)
    source.files.shared.max_bytes = 0  # what is kept for neighbours has a bound of its own
    if stacks is not None:
        source.composite.stacks.limit = stacks
    request = asked(spec, bands=("red",), step=6)
    try:
        # The search and the heads of the files, as many at once as it happens, are not what is measured.
        await source.read(replace(request, window=Window(row=0, col=0, height=1, width=1)))
        tracemalloc.start()
        block = await source.read(request)
        return block, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await source.close()


@pytest.mark.slow
async def test_a_median_of_a_hundred_items_is_bounded(context, monkeypatch):
    """The layers take 13 MiB; with room for 4 MiB that much less is held, and the outcome is the same."""
    spec = rig.with_source(
        scenes(bounds=(400_000, 5_397_440, 402_560, 5_400_000), resolution=10, chunk=256, mask=None),
        collection="sentinel-2-stack",
    )
    whole, free = await traced(spec, context)
    assert len(whole.provenance) == 100
    monkeypatch.setattr(composite, "_SUBWINDOW_BYTES", 2 * 2**20)
    block, bound = await traced(spec, context, 4 * 2**20)
    same(block.bands["red"], whole.bands["red"].values, whole.bands["red"].valid)
    assert bound < free - 7 * 2**20, (bound, free)
