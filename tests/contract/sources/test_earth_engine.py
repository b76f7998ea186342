"""The Earth Engine source against the stand-in over sockets: conformance, pixels by its oracle, requests."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from icehouse_server.collections.loader import parse_collection, read_collections
from icehouse_server.core.collection import ID_PATTERN
from icehouse_server.core.errors import ConfigurationError, SourceRefusedError
from icehouse_server.core.grid import Window
from icehouse_server.core.time import TimeStep, parse_moment
from icehouse_server.sources import create_source
from icehouse_server.sources.earthengine.request_cutting import MAX_BYTES
from icehouse_server.testing.source_conformance import SourceCase, SourceConformance
from support import source_rig
from support.earthengine import rig, world
from support.earthengine.pixels import Rules

PIXELS = ":computePixels"
OVERLAP = (-150.2, 71.0)
"""Where two images overlap, below with other values, above with one of them pierced."""
OCEAN = (10.0, 73.5)

MIXED = """
id = "mixed"
title = "Six dtypes"
[grid]
crs = "EPSG:3413"
resolution = 30
bounds = [-753000, 2607000, -687000, 2673000]
chunk = 256
[extent]
bbox = [-180, 50, 180, 90]
[source]
type = "earthengine"
image = "projects/standin/assets/mixed"
[[bands]]
name = "elevation"
dtype = "float32"
nodata = nan
[[bands]]
name = "cover"
dtype = "uint8"
[bands.source]
band = "landcover"
[[bands]]
name = "change"
dtype = "int16"
nodata = -32768
[[bands]]
name = "count"
dtype = "int32"
[[bands]]
name = "flags"
dtype = "uint16"
nodata = 65535
[[bands]]
name = "index"
dtype = "float64"
nodata = -9999.0
[[bands]]
name = "seen"
dtype = "uint8"
nodata = 0
[bands.source]
mask_of = "elevation"
"""

DATED = """
id = "dated"
title = "Scenes at seven dates"
[grid]
crs = "EPSG:32633"
resolution = 10
bounds = [499000, 8599000, 527000, 8621000]
chunk = 256
[extent]
bbox = [10, 70, 20, 80]
[time]
start = "2021-06-01"
period = "monthly"
end = "2022-08-01"
[source]
type = "earthengine"
collection = "projects/standin/assets/dated"
composite = "COMPOSITE"
[[bands]]
name = "B4"
dtype = "float64"
nodata = nan
[[bands]]
name = "B8"
dtype = "float32"
nodata = -1
"""
JUNE = TimeStep(start=parse_moment("2021-06-01"), end=parse_moment("2021-07-01"))
EMPTY = TimeStep(start=parse_moment("2021-12-01"), end=parse_moment("2022-01-01"))
CLOUDS = (3, 8, 9)


def collection(name):
    return read_collections(None)[name]


def plain(name="tctrend"):
    """TCTrend without filling, which the oracle does not do."""
    return source_rig.with_source(collection(name), fill_holes=0)


def dated(composite="mosaic", more=""):
    text = DATED.replace("COMPOSITE", composite)
    return parse_collection(text.replace("[[bands]]", f"{more}\n[[bands]]", 1), "dated.toml")


@pytest.fixture
def context(fresh_earth_engine, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with rig.earthengine_context(fresh_earth_engine) as made:
        yield made


def case_of(spec, context, place, bands, size=200, void=OCEAN):
    return SourceCase(
        spec=spec,
        make=lambda: create_source(spec, context),
        truth=lambda band, window: rig.truth_of(spec, band, window),
        area=source_rig.window_around(spec, *place, size, size + 40),
        void=source_rig.window_around(spec, *void, 60, 90),
        bands=bands,
    )


async def read(spec, context, window, *bands, step=None):
    source = create_source(spec, context)
    try:
        return await source.read(replace(source_rig.request_for(spec, window, *bands), step=step))
    finally:
        await source.close()


def check(spec, block, window, *bands, **how):
    for name in bands or [band.name for band in spec.bands]:
        values, valid = rig.truth_of(spec, name, window, **how)
        found = block.bands[name]
        np.testing.assert_array_equal(found.valid, valid, err_msg=name)
        np.testing.assert_array_equal(found.values[valid], values[valid], err_msg=name)


class TestAMosaicWithoutNodata(SourceConformance):
    @pytest.fixture
    def case(self, context):
        return case_of(plain(), context, OVERLAP, ("TCB_slope", "TCW_slope", "datamask"))


class TestAnImageOfSixDtypes(SourceConformance):
    @pytest.fixture
    def case(self, context):
        spec = parse_collection(MIXED, "mixed.toml")
        names = tuple(band.name for band in spec.bands)
        return case_of(spec, context, (-750_000, 2_640_000), names, void=(-752_000, 2_609_000))


class TestAStepOfATimeAxis(SourceConformance):
    @pytest.fixture
    def case(self, context):
        spec = dated()
        plain_case = case_of(spec, context, (501_000, 8_601_000), ("B4", "B8"), void=(525_000, 8_620_000))
        return rig.SteppedCase(
            **{
                **{name: getattr(plain_case, name) for name in plain_case.__dataclass_fields__},
                "truth": lambda band, window: rig.truth_of(spec, band, window, step=JUNE),
                "step": JUNE,
            }
        )


@pytest.mark.parametrize("where", ["west", "east"])
async def test_tctrend_at_the_antimeridian(context, where):
    """The outermost columns and what lies inside of them: nothing is shifted, wrapped or lost."""
    spec = plain()
    rows = source_rig.window_around(spec, 0, 67.6, 120, 10)
    col = 0 if where == "west" else spec.grid.shape[1] - 200
    window = Window(row=rows.row, col=col, height=120, width=200)
    block = await read(spec, context, window)
    check(spec, block, window)
    assert block.bands["TCB_slope"].valid.any(axis=0).all()


async def test_beyond_180_degrees_lies_what_lies_there(context, fresh_earth_engine):
    """A grid from 0 to 360: its columns beyond 180 are those of the west."""
    spec = plain()
    step = spec.grid.geobox.resolution.x
    bounds = [step * number for number in (600_000, 240_000, 740_000, 260_000)]
    text = f"""
    id = "pacific"
    title = "Around the antimeridian"
    grid = {{ crs = "EPSG:4326", resolution = {step}, bounds = {bounds}, chunk = 256 }}
    extent = {{ bbox = [160, 60, -160, 72] }}
    source = {{ type = "earthengine", collection = "{world.TCTREND["2024"]}", composite = "mosaic" }}
    bands = [{{ name = "TCB_slope", dtype = "uint8" }}]
    """
    pacific = parse_collection(text, "pacific.toml")
    window = source_rig.window_around(pacific, 180.0, 67.6, 60, 150)
    block = await read(pacific, context, window)
    check(pacific, block, window)
    assert fresh_earth_engine.counters().matching(PIXELS)[0] == 2


async def test_beyond_the_poles_there_is_nothing(context, fresh_earth_engine):
    """The first row of TCTrend's grid lies beyond the pole, and is not asked for."""
    spec = plain()
    block = await read(spec, context, Window(row=0, col=5, height=1, width=40))
    assert not block.bands["TCB_slope"].valid.any()
    assert fresh_earth_engine.counters().matching(PIXELS)[0] == 0


async def test_what_lies_under_the_mask_does_not_matter(context, fresh_earth_engine):
    fresh_earth_engine.rules(Rules(garbage=True))
    spec = parse_collection(MIXED, "mixed.toml")
    window = source_rig.window_around(spec, -750_000, 2_640_000, 100, 140)
    check(spec, await read(spec, context, window), window)


async def test_two_years_and_a_subset_of_the_bands_of_alphaearth(context, fresh_earth_engine):
    """Only the bands that are asked for are fetched; each year has its own pixels."""
    spec = collection("alphaearth")
    window = source_rig.window_around(spec, 17.99, 70.0, 70, 90)
    bands = ("A00", "A17", "A63")
    found = []
    for number in (0, 4):
        step = spec.step(number)
        block = await read(spec, context, window, *bands, step=step)
        check(spec, block, window, *bands, step=step)
        found.append(block.bands["A17"].values)
    assert not np.array_equal(*found)
    requests, sent = fresh_earth_engine.counters().matching(PIXELS)
    assert requests == 2
    assert sent <= 2 * (window.pixels * 3 * 4 + 512)


@pytest.mark.parametrize("composite", ["mosaic", "median", "mean", "min", "max", "first", "last"])
async def test_composites(context, composite):
    spec = dated(composite)
    window = source_rig.window_around(spec, 501_500, 8_602_000, 90, 300)
    block = await read(spec, context, window, step=JUNE)
    check(spec, block, window, step=JUNE, how=composite)
    assert block.bands["B4"].valid.any()


@pytest.mark.parametrize("composite", ["mosaic", "median", "first"])
async def test_a_step_without_an_image_is_void(context, composite):
    spec = dated(composite)
    window = source_rig.window_around(spec, 501_500, 8_602_000, 30, 40)
    block = await read(spec, context, window, step=EMPTY)
    assert not any(band.valid.any() for band in block.bands.values())


async def test_operations_on_each_image(context):
    """Clouds are masked before images are put together; then values are scaled."""
    more = """
operations = [
  { op = "mask", band = "SCL", drop = [3, 8, 9] },
  { op = "select", bands = ["B4", "B8"] },
  { op = "scale", multiply = 0.5, add = 3, bands = ["B4"] },
]
"""
    spec = dated("median", more)
    window = source_rig.window_around(spec, 501_500, 8_602_000, 90, 200)
    block = await read(spec, context, window, step=JUNE)
    hidden = ("SCL", frozenset(CLOUDS))
    check(spec, block, window, "B8", step=JUNE, how="median", hidden=hidden)
    values, valid = rig.truth_of(spec, "B4", window, step=JUNE, how="median", hidden=hidden)
    np.testing.assert_array_equal(block.bands["B4"].values[valid], values[valid] * 0.5 + 3)


@pytest.mark.parametrize(("add", "made"), [(0.25, np.trunc), (0.5, np.trunc), (-1e5, lambda _: 0)])
async def test_a_cast_cuts_fractions_off_and_clamps(context, add, made):
    """As the how-to and the reference say; with a half added before, it rounds."""
    more = f"""
operations = [
  {{ op = "scale", multiply = 0.5, add = {add} }},
  {{ op = "cast", dtype = "uint16" }},
]
"""
    spec = dated("mosaic", more)
    window = source_rig.window_around(spec, 501_500, 8_602_000, 60, 90)
    block = await read(spec, context, window, "B4", step=JUNE)
    values, valid = rig.truth_of(spec, "B4", window, step=JUNE)
    assert (values[valid] % 2).any()
    np.testing.assert_array_equal(block.bands["B4"].values[valid], made(values[valid] * 0.5 + add))


@pytest.mark.parametrize("rule", ["keep = [4, 5, 6, 11]", "bits = [0]"])
async def test_masks_by_values_kept_and_by_bits(context, rule):
    spec = dated("mosaic", f'operations = [{{ op = "mask", band = "SCL", {rule} }}]')
    window = source_rig.window_around(spec, 501_500, 8_602_000, 60, 90)
    block = await read(spec, context, window, step=JUNE)
    hidden = CLOUDS if "keep" in rule else tuple(kind for kind in world.CLASSES if kind % 2)
    check(spec, block, window, step=JUNE, hidden=("SCL", frozenset(hidden)))


@pytest.mark.parametrize(
    ("condition", "keeps"),
    [
        ("{ lt = 50 }", lambda cloud: cloud < 50),
        ("{ gte = 30, lt = 80 }", lambda cloud: 30 <= cloud < 80),
        ("[37.0, 74.0]", lambda cloud: cloud in {37.0, 74.0}),
        ("74.0", lambda cloud: cloud == 74.0),
        ("{ gt = 1000 }", lambda cloud: cloud > 1000),
    ],
)
async def test_filters_by_properties(context, condition, keeps):
    """The last image that a filter keeps is on top; without any, all is void."""
    spec = dated("mosaic", f"filter = {{ CLOUDY_PIXEL_PERCENTAGE = {condition} }}")
    window = source_rig.window_around(spec, 504_500, 8_602_000, 60, 90)
    block = await read(spec, context, window, "B4", step=JUNE)
    asset = world.find(world.DATED)
    kept = [tile.index for tile in asset.tiles[:3] if keeps(tile.properties["CLOUDY_PIXEL_PERCENTAGE"])]
    values, valid = np.zeros((60, 90)), np.zeros((60, 90), dtype=bool)
    for index in kept:
        one = source_rig.with_source(spec, collection=f"{world.DATED}/{index}")
        layer, there = rig.truth_of(one, "B4", window)
        values, valid = np.where(there, layer, values), valid | there
    np.testing.assert_array_equal(block.bands["B4"].valid, valid)
    np.testing.assert_array_equal(block.bands["B4"].values[valid], values[valid])


async def test_a_value_that_the_dtype_can_not_hold_is_masked(context):
    """Neither wrapped nor rounded: what a cast would change is invalid."""
    text = MIXED.replace(
        'name = "change"\ndtype = "int16"\nnodata = -32768', 'name = "change"\ndtype = "uint8"'
    )
    narrow = parse_collection(
        text.replace('dtype = "float64"\nnodata = -9999.0', 'dtype = "int16"\nnodata = -1'), "x"
    )
    wide = parse_collection(MIXED, "mixed.toml")
    window = source_rig.window_around(wide, -720_000, 2_640_000, 80, 90)
    block = await read(narrow, context, window)
    for name in ("change", "index"):
        values, valid = rig.truth_of(wide, name, window)
        limits = np.iinfo(narrow.band(name).dtype)
        fits = valid & (values == np.round(values)) & (values >= limits.min) & (values <= limits.max)
        fits &= values != (narrow.band(name).nodata if narrow.band(name).nodata is not None else np.inf)
        np.testing.assert_array_equal(block.bands[name].valid, fits, err_msg=name)
        np.testing.assert_array_equal(block.bands[name].values[fits], values[fits], err_msg=name)
    assert not block.bands["change"].valid.all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": world.MISSING}, world.MISSING),
        ({"image": world.FORBIDDEN + "/20210601"}, world.FORBIDDEN),
        ({"image": None, "collection": world.FORBIDDEN, "composite": "mosaic"}, world.FORBIDDEN),
    ],
)
async def test_an_asset_that_is_not_there(context, changes, says):
    spec = source_rig.with_source(parse_collection(MIXED, "mixed.toml"), **changes)
    with pytest.raises(SourceRefusedError, match=says) as caught:
        await read(spec, context, Window(row=0, col=0, height=8, width=8), "elevation")
    assert "share it" in caught.value.hint


async def test_a_band_that_is_not_there_is_no_void(context):
    """Also where a step may lack images."""
    spec = dated()
    bands = (replace(spec.bands[0], source={"band": "B44"}),)
    wrong = replace(spec, bands=bands, default_bands=("B4",))
    with pytest.raises(SourceRefusedError, match="B44"):
        await read(wrong, context, Window(row=0, col=0, height=8, width=8), "B4", step=JUNE)


async def test_a_region_of_tctrend_takes_four_requests_at_most(context, fresh_earth_engine):
    """3600 x 3600 pixels at any alignment touch 16 x 16 chunks at most: three requests with their margin."""
    spec = collection("tctrend")
    chunks = spec.grid.chunks_under(source_rig.window_around(spec, -150.0, 70.0, 10, 10))
    window = spec.grid.pixels_of(Window(row=chunks.row, col=chunks.col, height=16, width=16))
    source = create_source(spec, context)
    assert source.block_side >= 16 * spec.grid.chunk
    await source.read(source_rig.request_for(spec, window, *spec.default_bands))
    await source.close()
    requests, sent = fresh_earth_engine.counters().matching(PIXELS)
    assert requests == 3
    assert sent <= 1.05 * window.pixels * 4


async def test_alphaearth_takes_few_requests(context, fresh_earth_engine):
    """One for all 64 bands of a chunk, 1.07 x the least number that Earth Engine's limit allows."""
    spec = collection("alphaearth")
    (row, col) = (
        source_rig.window_around(spec, 12, 50, 2, 2).row,
        source_rig.window_around(spec, 12, 50, 2, 2).col,
    )
    window = spec.grid.chunk_window(row // spec.grid.chunk, col // spec.grid.chunk)
    step = spec.step(0)
    block = await read(spec, context, window, step=step)
    check(spec, block, window, "A00", "A63", step=step)
    assert fresh_earth_engine.counters().matching(PIXELS)[0] == 1
    least = window.pixels * 64 * 5 / MAX_BYTES
    assert 1 / least <= 1.2


async def test_too_much_for_earth_engine_is_asked_for_in_parts(context, fresh_earth_engine):
    """Down to what it can compute; and the next block begins with that."""
    fresh_earth_engine.rules(Rules(memory_limit=40_000))
    spec = plain()
    window = source_rig.window_around(spec, *OVERLAP, 200, 240)
    source = create_source(spec, context)
    check(spec, await source.read(source_rig.request_for(spec, window)), window)
    first, _ = fresh_earth_engine.counters().matching(PIXELS)
    check(spec, await source.read(source_rig.request_for(spec, window)), window)
    second = fresh_earth_engine.counters().matching(PIXELS)[0] - first
    await source.close()
    assert second < first
    assert second <= 2 * math.ceil(window.pixels * 4 / 40_000)


async def test_what_can_not_be_computed_at_all_is_refused(context, fresh_earth_engine):
    fresh_earth_engine.rules(Rules(memory_limit=100))
    with pytest.raises(SourceRefusedError, match="memory limit"):
        await read(plain(), context, Window(row=80_000, col=100, height=150, width=150))


async def test_small_holes_are_filled_and_the_rest_stays(context):
    """Filled pixels are valid and lie between their neighbours; datamask still tells them apart."""
    spec, bare = collection("tctrend"), plain()
    window = source_rig.window_around(spec, -150.2, 71.5, 300, 300)
    block = await read(spec, context, window)
    for name in spec.default_bands:
        values, valid = rig.truth_of(bare, name, window)
        found = block.bands[name]
        np.testing.assert_array_equal(found.values[valid], values[valid])
        assert not valid.all()
        assert found.valid.all()
        assert found.values[~valid].any()
    np.testing.assert_array_equal(block.bands["datamask"].valid, rig.truth_of(bare, "TCB_slope", window)[1])
    ocean = source_rig.window_around(spec, 10.0, 73.5, 80, 80)
    assert not (await read(spec, context, ocean)).bands["TCB_slope"].valid.any()


async def test_pixels_do_not_depend_on_how_filled_blocks_are_cut(context):
    spec = collection("tctrend")
    whole = source_rig.window_around(spec, -150.2, 71.5, 200, 200)
    block = await read(spec, context, whole, "TCB_slope")
    half = replace(whole, height=77)
    rest = Window.from_bounds(half.stop_row, whole.col, whole.stop_row, whole.stop_col)
    parts = [await read(spec, context, part, "TCB_slope") for part in (half, rest)]
    joined = np.vstack([part.bands["TCB_slope"].values for part in parts])
    np.testing.assert_array_equal(joined, block.bands["TCB_slope"].values)


async def test_all_collections_share_the_bound_on_requests(fresh_earth_engine, monkeypatch):
    """Two collections, twenty reads at once, and never more than the setting's requests under way."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fresh_earth_engine.rules(Rules(concurrency=3))
    with rig.earthengine_context(fresh_earth_engine) as made:
        settings = replace(made.earthengine, max_requests=3)
        context = replace(made, earthengine=settings)
        specs = [plain(), plain("tctrend-2019")]
        sources = [create_source(spec, context) for spec in specs]
        window = source_rig.window_around(specs[0], *OVERLAP, 8, 8)
        reads = [
            source.read(source_rig.request_for(spec, window, "TCB_slope"))
            for source, spec in zip(sources, specs, strict=True)
            for _ in range(10)
        ]
        await asyncio.gather(*reads)  # one more at once would be answered with 429
        for source in sources:
            await source.close()


def test_built_in_collections_lie_on_the_grids_of_smart_geocubes():
    from odc.geo.geobox import GeoBox

    for name, resolution in (("tctrend", 0.00026949458523585647), ("alphaearth", 8.98315284e-05)):
        theirs = GeoBox.from_bbox((-180, -90, 180, 90), "epsg:4326", resolution=resolution)
        for spec in read_collections(None).values():
            if spec.id.startswith(name):
                assert spec.grid.geobox == theirs
                assert ID_PATTERN.fullmatch(spec.id)


def test_an_image_has_no_steps(context):
    text = DATED.replace(
        'collection = "projects/standin/assets/dated"\ncomposite = "COMPOSITE"', 'image = "a/b"'
    )
    with pytest.raises(ConfigurationError, match="no steps of time"):
        create_source(parse_collection(text, "x.toml"), context)
