"""The STAC source against the stand-ins over sockets: conformance, pixels by GDAL, requests and bytes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.windows import Window as RasterWindow

from icehouse_server.collections.loader import read_collections
from icehouse_server.core.errors import ConfigurationError, SourceCorruptError, SourceRefusedError
from icehouse_server.core.grid import Window
from icehouse_server.sources import create_source
from icehouse_server.testing.source_conformance import SourceCase, SourceConformance
from support import source_rig as rig

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

BORDER = (-700_000, 2_650_000)
"""67_33 and its eastern neighbour, whose buffers overlap; 67_33's own buffer is bare there."""
CORNER = (-700_000, 2_700_000)
"""Four tiles meet."""
MIDDLE = (-750_000, 2_650_000)
OCEAN = (-850_000, 2_750_000)


def collection(name):
    return read_collections(None)[name]


@pytest.fixture
def context(fresh_standins):
    with rig.source_context(fresh_standins) as made:
        yield made


def case_of(spec, context, place, bands, size=300):
    return SourceCase(
        spec=spec,
        make=lambda: create_source(spec, context),
        truth=lambda band, window: rig.truth_of(spec, band, window),
        area=rig.window_around(spec, *place, size, size + 40),
        void=rig.window_around(spec, *OCEAN, 200, 120),
        bands=bands,
    )


class TestArithmetic(SourceConformance):
    @pytest.fixture
    def case(self, context):
        return case_of(collection("arcticdem-32m"), context, CORNER, ("dem", "count", "mindate"))


class TestSearch(SourceConformance):
    @pytest.fixture
    def case(self, context):
        spec = rig.with_source(collection("arcticdem-32m"), tiling=None)
        return case_of(spec, context, CORNER, ("dem", "count"))


class TestCutAtTheEdge(SourceConformance):
    """A grid that ends in the middle of items: they are cut, never shifted."""

    @pytest.fixture
    def case(self, context):
        whole = collection("arcticdem-32m")
        spec = rig.with_grid(whole, rig.window_around(whole, *CORNER, 777, 1111))
        area = Window(row=300, col=400, height=300, width=400)
        corner = Window(row=0, col=0, height=40, width=40)
        case = case_of(spec, context, CORNER, ("dem", "datamask"))
        return replace(case, area=area, void=corner if self._bare(spec, corner) else self._hole(spec))

    @staticmethod
    def _bare(spec, window):
        return not rig.truth_of(spec, "dem", window)[1].any()

    @staticmethod
    def _hole(spec):
        """A pixel of water, where there is no larger void."""
        _, valid = rig.truth_of(spec, "dem", spec.grid.window)
        row, col = np.argwhere(~valid)[0]
        return Window(row=int(row), col=int(col), height=1, width=1)


@pytest.mark.parametrize(("name", "place"), [("arcticdem-2m", BORDER), ("arcticdem-10m", BORDER)])
async def test_other_resolutions(context, name, place):
    spec = collection(name)
    case = case_of(spec, context, place, ("dem", "maxdate"))
    async with case.open() as source:
        case.check(await source.read(case.request(case.area)), case.area)


@pytest.mark.parametrize(
    ("place", "tiling"),
    [
        ((-1_450_000, 1_450_000), True),  # Wrangel Island, on the antimeridian
        ((-1_450_000, 1_450_000), False),
        ((-1_750_000, 1_750_000), False),  # Chukotka, on the antimeridian
        ((1_150_000, -1_150_000), False),  # on longitude 0, where the published boxes are reversed
    ],
)
async def test_places_where_longitudes_break(context, place, tiling):
    spec = collection("arcticdem-32m")
    if not tiling:
        spec = rig.with_source(spec, tiling=None)
    case = case_of(spec, context, place, ("dem",), size=600)
    async with case.open() as source:
        case.check(await source.read(case.request(case.area)), case.area)


async def test_pixels_are_gdals(context, fresh_standins):
    """An independent reader of the same file: bit for bit, for every dtype and predictor."""
    spec = collection("arcticdem-32m")
    window = rig.window_around(spec, *MIDDLE, 600, 700)
    source = create_source(spec, context)
    block = await source.read(rig.request_for(spec, window))
    await source.close()
    for band in spec.bands:
        url = fresh_standins.cogs_url + fresh_standins.key("32m", "67_33", band.name)

        def read(url=url):
            options = {
                "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
                "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http",
            }
            with rasterio.Env(**options), rasterio.open(url) as dataset:
                col, row = ~dataset.transform * (spec.grid.geobox_of(window).affine * (0, 0))
                area = RasterWindow(round(col), round(row), window.width, window.height)
                return dataset.read(1, window=area), dataset.read_masks(1, window=area) != 0

        values, valid = await asyncio.to_thread(read)
        found = block.bands[band.name]
        np.testing.assert_array_equal(found.valid, valid)
        assert found.values[valid].tobytes() == values[valid].tobytes()


async def test_a_cold_window_costs_few_requests_and_bytes(context, fresh_standins):
    """One document, one header, one request per row of blocks at most; 1.3 times the blocks' bytes."""
    spec = collection("arcticdem-32m")
    window = rig.window_around(spec, *MIDDLE, 1000, 1000)
    source = create_source(spec, context)
    await source.read(rig.request_for(spec, window, "dem"))
    cold = fresh_standins.cogs_counters()
    assert fresh_standins.stac_counters().requests == 1
    header, *data = next(iter(cold.ranges.values()))
    assert header == "bytes=0-65535"
    assert len(data) <= 3
    source.files.shared.max_age = -1  # as some seconds later
    fresh_standins.reset()
    await source.read(rig.request_for(spec, window, "dem"))
    warm = fresh_standins.counters()
    assert warm.requests == len(data)
    assert warm.bytes == cold.bytes - 65536
    traffic = context.hosts.traffic.snapshot()
    assert sum(host.bytes for host in traffic.values() if host.requests > 2) >= cold.bytes
    await source.close()


async def test_only_what_no_earlier_item_covers_is_read(context):
    """Inside the first tile's extent the second one is read under holes only."""
    spec = collection("arcticdem-32m")
    window = rig.window_around(spec, *BORDER, 200, 200)
    source = create_source(spec, context)
    block = await source.read(rig.request_for(spec, window, "dem"))
    await source.close()
    values, valid = rig.truth_of(spec, "dem", window)
    np.testing.assert_array_equal(block.bands["dem"].valid, valid)
    np.testing.assert_array_equal(block.bands["dem"].values[valid], values[valid])
    assert {origin.item for origin in block.provenance} == {"67_33_32m_v4.1", "67_34_32m_v4.1"}


async def test_a_hundred_readers_ask_for_a_document_once(context, fresh_standins):
    spec = collection("arcticdem-32m")
    source = create_source(spec, context)
    window = rig.window_around(spec, *MIDDLE, 8, 8)
    await asyncio.gather(*(source.read(rig.request_for(spec, window, "dem")) for _ in range(100)))
    await source.close()
    assert fresh_standins.stac_counters().requests == 1
    cogs = fresh_standins.cogs_counters()
    assert cogs.requests == 2, "one header and one block, however many read"
    # The stand-in counts a request until its own end, a little after the answer has arrived.
    assert cogs.most_active <= context.max_requests_per_host + 16


async def test_documents_outlive_the_source_and_age(context, fresh_standins):
    spec = collection("arcticdem-32m")
    request = rig.request_for(spec, rig.window_around(spec, *CORNER, 8, 8), "dem")

    async def asked():
        fresh_standins.reset()
        source = create_source(spec, context)
        await source.read(request)
        await source.close()
        return fresh_standins.stac_counters().requests

    first = await asked()
    assert first >= 1
    assert await asked() == 0
    context.documents.ageing = context.items_max_age + 1
    assert await asked() == first


async def test_void_is_remembered_for_a_shorter_time(context, fresh_standins):
    spec = collection("arcticdem-32m")
    request = rig.request_for(spec, rig.window_around(spec, *OCEAN, 8, 8), "dem")
    for ageing, expected in ((0.0, 2), (context.absent_max_age / 2, 0), (context.absent_max_age + 1, 2)):
        fresh_standins.reset()
        context.documents.ageing = ageing
        source = create_source(spec, context)
        block = await source.read(request)
        await source.close()
        assert block.provenance == ()
        # The item's 404, and once the collection itself.
        assert fresh_standins.stac_counters().requests == expected


async def test_both_forms_of_items(context):
    """66_33 is served in the form of 2023: STAC 1.0.0, proj:epsg, no datetime."""
    spec = collection("arcticdem-32m")
    case = case_of(spec, context, (-750_000, 2_600_000), ("dem",))
    async with case.open() as source:
        block = await source.read(case.request(case.area))
    case.check(block, case.area)
    assert {origin.item for origin in block.provenance} == {"66_33_32m_v4.1", "67_33_32m_v4.1"}


async def test_an_asset_that_items_lack(context):
    spec = collection("arcticdem-32m")
    window = rig.window_around(spec, *MIDDLE, 16, 16)

    def lacking(**more):
        band = replace(spec.band("mad"), source={"asset": "matchtag", **more})
        return replace(spec, bands=(band,), default_bands=("mad",), styles=())

    source = create_source(lacking(), context)
    with pytest.raises(SourceCorruptError, match="has no asset 'matchtag'") as caught:
        await source.read(rig.request_for(lacking(), window))
    assert caught.value.item == "67_33_32m_v4.1"
    await source.close()
    source = create_source(lacking(optional=True), context)
    block = await source.read(rig.request_for(lacking(optional=True), window))
    assert not block.bands["mad"].valid.any()
    await source.close()


async def test_a_document_must_not_send_us_anywhere(context, fresh_standins):
    """SSRF: the host of an href is the API's, one that the collection names, or a mirror's."""
    spec = collection("arcticdem-32m")
    request = rig.request_for(spec, rig.window_around(spec, *MIDDLE, 8, 8), "dem")
    source = create_source(spec, context)
    await source.read(request)
    await source.close()
    (key,) = context.documents.stored
    document = json.loads(context.documents.stored[key][1])
    for href in (
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "s3://pgc-opendata-dems/a.tif",
        "https://stac.pgc.umn.edu.evil.example/a.tif",
        "https://stac.pgc.umn.edu@evil.example/a.tif",
        "http://[::1/a.tif",
    ):
        document["assets"]["dem"]["href"] = href
        await context.documents.put(key, json.dumps(document))
        fresh_standins.reset()
        source = create_source(spec, context)
        with pytest.raises(SourceRefusedError):
            await source.read(request)
        await source.close()
        assert fresh_standins.counters().requests == 0


SQUARE = {"origin": [0, 0], "size": 1, "rows": [1, 2], "columns": [1, 2], "item": "{row}_{col}"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"api": "ftp://example.org"}, "api"),
        ({"api": None}, "api"),
        ({"assets": ["dem"]}, "assets"),
        ({"tiling": {**SQUARE, "rows": [2, 1]}}, "rows"),
        ({"tiling": {**SQUARE, "item": "{row}"}}, "same id"),
        ({"tiling": {**SQUARE, "item": "{x}"}}, "not a format"),
        ({"tiling": {**SQUARE, "divisions": 2}}, "same id"),
    ],
)
def test_a_source_table_that_can_not_be_used(context, change, named):
    with pytest.raises(ConfigurationError, match=named):
        create_source(rig.with_source(collection("arcticdem-32m"), **change), context)


def test_a_band_table_that_can_not_be_used(context):
    spec = collection("arcticdem-32m")
    bad = replace(spec, bands=(replace(spec.bands[0], source={"aset": "dem"}), *spec.bands[1:]))
    with pytest.raises(ConfigurationError, match=r"band 'dem'.*asset"):
        create_source(bad, context)


def test_an_unknown_kind_of_source(context):
    spec = replace(collection("arcticdem-32m"), source_type="stack")
    with pytest.raises(ConfigurationError, match="stack") as caught:
        create_source(spec, context)
    assert "stac" in caught.value.hint


def test_the_longest_mirror_wins(context):
    mirrors = {"https://a.org/": "http://one/", "https://a.org/b/": "http://two/"}
    made = replace(context, mirrors=mirrors)
    assert made.mirrored("https://a.org/x") == "http://one/x"
    assert made.mirrored("https://a.org/b/x") == "http://two/x"
    assert made.mirrored("https://c.org/") == "https://c.org/"


@pytest.mark.parametrize(
    ("prefix", "copy"),
    [("https://a.org/v1/", "http://one/stac/"), ("https://a.org/v1", "http://one/stac")],
)
def test_a_slash_at_the_end_of_a_mirror_makes_no_difference(context, prefix, copy):
    made = replace(context, mirrors={prefix: copy})
    for rest in ("", "/", "/x/y", "?token=1", "/search?limit=1"):
        assert made.mirrored(f"https://a.org/v1{rest}") == f"http://one/stac{rest}"
    for other in ("https://a.org/v", "https://a.org/v11", "https://a.org/v1.evil/x", "https://a.org/"):
        assert made.mirrored(other) == other


@pytest.mark.parametrize("tiling", [True, False])
@pytest.mark.parametrize("rewrites", [True, False])
async def test_mirrors_as_people_write_them(fresh_standins, tiling, rewrites):
    """The API's whole URL with its slash; and a mirror whose documents name hosts of its own."""
    api = fresh_standins.open_stac_url if rewrites else fresh_standins.stac_url
    objects = {url: copy for url, copy in fresh_standins.mirrors.items() if "stac" not in url}
    mirrors = {"https://stac.pgc.umn.edu/api/v1/": api, **objects}
    spec = collection("arcticdem-32m")
    if not tiling:
        spec = rig.with_source(spec, tiling=None)
    with rig.source_context(fresh_standins, mirrors=mirrors) as context:
        case = case_of(spec, context, BORDER, ("dem",))
        async with case.open() as source:
            case.check(await source.read(case.request(case.area)), case.area)


async def test_a_host_that_no_mirror_leads_to_is_refused(fresh_standins):
    mirrors = {"https://stac.pgc.umn.edu/api/v1/": fresh_standins.open_stac_url}
    with rig.source_context(fresh_standins, mirrors=mirrors) as context:
        case = case_of(collection("arcticdem-32m"), context, BORDER, ("dem",))
        async with case.open() as source:
            with pytest.raises(SourceRefusedError, match="does not name"):
                await source.read(case.request(case.area))


@pytest.mark.parametrize(("level", "overview"), [(1, 0), (2, 1), (3, 2)])
async def test_a_level_is_warped_from_the_overview_that_is_no_coarser(
    context, fresh_standins, level, overview
):
    spec = collection("arcticdem-32m")
    grid = spec.grids[level]
    window = rig.window_around(replace(spec, grid=grid), *MIDDLE, max(3, 512 >> level), max(3, 600 >> level))
    case = case_of(spec, context, MIDDLE, ("dem",))
    async with case.open() as source:
        before = fresh_standins.cogs_counters().bytes
        block = (await source.read(case.request(window, ("dem",), level))).bands["dem"]
        taken = fresh_standins.cogs_counters().bytes - before
    target = grid.geobox_of(window)
    wanted = np.full((window.height, window.width), np.nan, dtype="float32")
    url = f"/vsicurl/{fresh_standins.cogs_url}arcticdem/mosaics/v4.1/32m/67_33/67_33_32m_v4.1_dem.tif"
    with rasterio.open(url, overview_level=overview) as file:
        assert abs(file.transform.a / 32 - 2 ** (overview + 1)) < 0.01
        rasterio.warp.reproject(
            file.read(1),
            wanted,
            src_transform=file.transform,
            src_crs=file.crs,
            src_nodata=file.nodata,
            dst_transform=target.affine,
            dst_crs=str(target.crs),
            dst_nodata=np.nan,
            init_dest_nodata=True,
            resampling=rasterio.enums.Resampling.bilinear,
        )
    both = block.valid & ~np.isnan(wanted)
    assert both.mean() > 0.5
    assert (block.valid == ~np.isnan(wanted)).mean() > 0.97  # GDAL's kernels differ a little at holes
    np.testing.assert_allclose(block.values[both], wanted[both], atol=0.05)
    assert taken < (4_500_000 if level < 3 else 700_000)  # four blocks at most, or a whole small overview
